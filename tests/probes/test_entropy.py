"""The entropy tracker: right numbers, beside fused attention, on any hooked model, with an alarm that goes off."""

import math

import pytest
import torch

from microtome.lab import zoo
from microtome.lab.tasks import LinearRegression
from microtome.lab.train import InContextRegression, TrainConfig, train
from microtome.lab.zoo.bridge import to_bridge
from microtome.probes import EntropyTracker
from microtome.probes.sources import score_norms, uniform_entropy

SIZES = {"d_vocab": 11, "d_model": 16, "n_heads": 2, "n_layers": 3, "n_ctx": 32}


def by_hand(model, tokens):
    """Mean row entropy [layer head] from the cached patterns."""
    _, cache = model.run_with_cache(tokens)
    return torch.stack([torch.special.entr(cache["pattern", i]).sum(-1).mean((0, 2)) for i in range(3)])


@pytest.mark.parametrize("position", ["learned", "rope", "alibi", "t5", "relative", "none"])
@pytest.mark.parametrize("causal", [True, False])
def test_entropies_are_those_of_the_patterns(position, causal, generator):
    model = zoo.sequence(position=position, causal=causal, **SIZES)
    tokens = torch.randint(11, (2, 17), generator=generator)
    with EntropyTracker(model) as tracker:
        model(tokens)
    (check,) = tracker.checks
    torch.testing.assert_close(check.entropy, by_hand(model, tokens), atol=1e-5, rtol=1e-4)
    assert check.uniform == pytest.approx(uniform_entropy(17, causal))
    assert (check.relative <= 1 + 1e-5).all()


def test_a_transformer_bridge_is_read_at_queries_and_keys(generator):
    model = zoo.sequence(**SIZES)
    bridge = to_bridge(model)
    tokens = torch.randint(11, (2, 17), generator=generator)
    with EntropyTracker(model) as ours, torch.no_grad():
        model(tokens)
    with EntropyTracker(bridge) as theirs, torch.no_grad():
        bridge(tokens)
    torch.testing.assert_close(ours.checks[0].entropy, theirs.checks[0].entropy, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(ours.checks[0].score_norm, theirs.checks[0].score_norm, atol=1e-5, rtol=1e-4)


def test_hooks_that_never_fire_are_not_passed_over_in_silence():
    """The native bridge declares rotated queries and keys, and does not fire them."""
    bridge = to_bridge(zoo.sequence(position="rope", **SIZES))
    with pytest.raises(RuntimeError, match="no forward pass reached the tracked hooks"), EntropyTracker(bridge):
        bridge(torch.zeros(1, 4, dtype=torch.long))


def test_score_norms_are_spectral_norms_of_the_product():
    model = zoo.sequence(**SIZES)
    attn = model.blocks[1].attn
    wanted = torch.linalg.matrix_norm(attn.W_Q @ attn.W_K.mT, 2)
    torch.testing.assert_close(score_norms(model)[1], wanted, atol=1e-5, rtol=1e-4)


def test_tracking_changes_no_bit_and_leaves_no_hook(generator):
    model = zoo.sequence(**SIZES)
    tokens = torch.randint(11, (2, 17), generator=generator)
    plain = model(tokens)
    with EntropyTracker(model):
        assert torch.equal(model(tokens), plain)
    assert not any(p.watched for p in model.hook_points())


def test_nothing_with_a_key_axis_is_made(generator):
    model = zoo.sequence(**SIZES)
    seen = []
    explicit = type(model.blocks[0].attn)._explicit
    try:
        type(model.blocks[0].attn)._explicit = lambda *args: seen.append(args) or explicit(*args)
        with EntropyTracker(model):
            model(torch.randint(11, (2, 17), generator=generator))
    finally:
        type(model.blocks[0].attn)._explicit = explicit
    assert not seen, "the fused path must stay in force beside the tracker"


def trained(tmp_path, callbacks_for, steps=12, name="run", **config):
    model = zoo.sequence(dim=3, d_model=16, n_heads=2, n_layers=2, n_ctx=16, seed=1)
    callbacks = callbacks_for(model)
    objective = InContextRegression(LinearRegression(3), batch=8, points=8)
    options = {"steps": steps, "lr": 1e-3, "log_every": 4, "checkpoint_every": 4, **config}
    return train(
        model, objective, TrainConfig(**options), tmp_path / name, callbacks=callbacks, progress=False
    ), callbacks


def test_as_a_callback_it_logs_and_does_not_move_training(tmp_path):
    plain, _ = trained(tmp_path, lambda model: [], name="plain")
    tracked, (tracker,) = trained(tmp_path, lambda model: [EntropyTracker(model, every=5)], name="tracked")
    for a, b in zip(plain.model.parameters(), tracked.model.parameters(), strict=True):
        assert torch.equal(a, b)
    assert [c.step for c in tracker.checks] == [0, 5, 10]
    names = set(tracked.metrics()["metric"])
    assert {"entropy/layer0", "entropy/layer1", "score_norm/layer0"} <= names
    assert all(math.isfinite(c.loss) for c in tracker.checks)


def test_its_state_survives_a_checkpoint(tmp_path):
    _, (whole,) = trained(tmp_path, lambda model: [EntropyTracker(model, every=3)])
    model = zoo.sequence(dim=3, d_model=16, n_heads=2, n_layers=2, n_ctx=16, seed=1)
    again = EntropyTracker(model, every=3)
    again.load_state_dict(whole.state_dict())
    assert [c.step for c in again.checks] == [c.step for c in whole.checks]
    for a, b in zip(again.checks, whole.checks, strict=True):
        assert torch.equal(a.entropy, b.entropy)
    empty = EntropyTracker(model)
    empty.load_state_dict(EntropyTracker(model).state_dict())
    assert empty.checks == []


def test_collapse_needs_patience_checks_in_a_row(generator):
    model = zoo.sequence(**SIZES)
    tokens = torch.randint(11, (2, 17), generator=generator)
    sharp = {k: v.clone() for k, v in model.state_dict().items()}
    for name in ("q", "k"):
        # Head 1 of layer 2 made a thousand times sharper than it was.
        sharp[f"blocks.2.attn.{name}.weight"][8:] *= 300.0
    soft = {k: v.clone() for k, v in model.state_dict().items()}
    tracker = EntropyTracker(model, threshold=0.2, patience=3)
    with tracker:
        for state in (sharp, sharp, soft, sharp, sharp, sharp, sharp):
            model.load_state_dict(state)
            model(tokens)
    assert [(c.layer, c.head, c.step) for c in tracker.collapses] == [(2, 1, 5)]
    assert tracker.collapses[0].relative < 0.2


def test_one_position_is_not_a_collapse():
    model = zoo.sequence(**SIZES)
    with EntropyTracker(model, patience=1) as tracker:
        model(torch.zeros(1, 1, dtype=torch.long))
    assert tracker.collapses == []
    assert (tracker.checks[0].entropy == 0).all()


def test_the_figure_has_three_panels_and_a_line_a_head(tmp_path):
    _, (tracker,) = trained(tmp_path, lambda model: [EntropyTracker(model, every=3)])
    entropy, norm, loss = tracker.figure().axes
    assert "entropy" in entropy.get_ylabel()
    assert len(norm.lines) == 4
    assert len(loss.lines) == 1


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"every": 0}, "at least 1"),
        ({"patience": 0}, "at least 1"),
        ({"threshold": 1.5}, "share of the uniform entropy"),
    ],
)
def test_bad_options_are_refused(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        EntropyTracker(zoo.sequence(**SIZES), **options)


def test_recording_or_drawing_nothing_is_refused():
    tracker = EntropyTracker(zoo.sequence(**SIZES))
    with pytest.raises(RuntimeError, match="run the model inside the tracker"):
        tracker.record(0)
    with pytest.raises(ValueError, match="nothing to draw"):
        tracker.figure()
