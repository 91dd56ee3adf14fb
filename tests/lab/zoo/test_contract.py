"""The contract of every model: names, statuses, bit-identical caching, honest edits, clear refusals."""

import pytest
import torch
from transformer_lens import ActivationCache

from microtome.lab import zoo
from microtome.lab.zoo import registry
from microtome.lab.zoo.points import Reading


@pytest.fixture
def model():
    return zoo.sequence(d_vocab=11, d_model=32, n_heads=4, n_layers=2, n_ctx=16)


@pytest.fixture
def tokens(generator):
    return torch.randint(11, (3, 9), generator=generator)


def test_points_say_axes_role_and_status(model):
    points = {p.name: p for p in model.points()}
    pattern = points["blocks.1.attn.hook_pattern"]
    assert pattern.axes == ("batch", "head", "query", "key")
    assert (pattern.role, pattern.status) == ("pattern", "recomputable")
    assert points["blocks.0.hook_resid_post"].status == "live"
    assert points["blocks.0.attn.hook_row_entropy"].status == "reading"
    assert points["blocks.0.attn.hook_result"].status == "absent"
    assert "W_O" in points["blocks.0.attn.hook_result"].reason


@pytest.mark.parametrize("grad", [False, True], ids=["no_grad", "grad"])
def test_caching_keeps_every_bit(model, tokens, grad):
    with torch.set_grad_enabled(grad):
        plain = model(tokens)
        cached, cache = model.run_with_cache(tokens)
    assert torch.equal(plain, cached)
    assert isinstance(cache, ActivationCache)
    assert not any(t.requires_grad for t in cache.values())
    assert cache["pattern", 0].shape == (3, 4, 9, 9)
    assert cache["q", -1].shape == (3, 9, 4, 8)


def test_cached_axes_are_the_declared_ones(model, tokens):
    sizes = {
        "batch": 3,
        "pos": 9,
        "query": 9,
        "key": 9,
        "head": 4,
        "d_head": 8,
        "d_model": 32,
        "d_mlp": 128,
        "one": 1,
    }
    _, cache = model.run_with_cache(tokens, names_filter=lambda _: True)
    for info in model.points():
        if info.status in ("live", "recomputable"):
            assert cache[info.name].shape == tuple(sizes[a] for a in info.axes), info.name


def test_default_cache_leaves_readings_out_and_naming_one_makes_it(model, tokens):
    _, cache = model.run_with_cache(tokens)
    assert not any("effective" in name or "entropy" in name for name in cache)
    _, cache = model.run_with_cache(tokens, names_filter="blocks.0.attn.hook_row_entropy")
    assert list(cache.keys()) == ["blocks.0.attn.hook_row_entropy"]


def test_writes_add_up_and_patterns_sum_to_one(model, tokens):
    _, cache = model.run_with_cache(tokens)
    for i in range(2):
        torch.testing.assert_close(cache["resid_mid", i], cache["resid_pre", i] + cache["attn_out", i])
        torch.testing.assert_close(cache["resid_post", i], cache["resid_mid", i] + cache["mlp_out", i])
        torch.testing.assert_close(cache["pattern", i].sum(-1), torch.ones(3, 4, 9))
        attn = model.blocks[i].attn
        out = torch.einsum("bphd,hdm->bpm", cache["z", i], attn.W_O) + attn.b_O
        torch.testing.assert_close(out, cache["attn_out", i])


def test_queries_are_stream_times_per_head_weights(model, tokens):
    _, cache = model.run_with_cache(tokens)
    attn = model.blocks[0].attn
    x = model.ln_final.__class__.forward(model.blocks[0].ln1, cache["resid_pre", 0])
    for name, weight, bias in (
        ("q", attn.W_Q, attn.b_Q),
        ("k", attn.W_K, attn.b_K),
        ("v", attn.W_V, attn.b_V),
    ):
        torch.testing.assert_close(torch.einsum("bpm,hmd->bphd", x, weight) + bias, cache[name, 0])


@pytest.mark.parametrize(
    "point", ["attn.hook_attn_scores", "attn.hook_pattern", "attn.hook_v", "attn.hook_z", "ln1.hook_scale"]
)
@pytest.mark.parametrize("grad", [False, True], ids=["no_grad", "grad"])
def test_edits_are_honoured(model, tokens, point, grad):
    with torch.set_grad_enabled(grad):
        plain = model(tokens)
        edited = model.run_with_hooks(tokens, fwd_hooks=[(f"blocks.0.{point}", lambda t, hook: t * 0.5)])
        noop = model.run_with_hooks(tokens, fwd_hooks=[(f"blocks.0.{point}", lambda t, hook: None)])
    assert (plain - edited).abs().max() > 1e-4
    torch.testing.assert_close(plain, noop)


def test_an_edit_in_place_is_honoured_too(model, tokens):
    def first_key_only(pattern, hook):
        pattern.zero_()
        pattern[..., 0] = 1.0

    with torch.no_grad():
        _, cache = model.run_with_cache(tokens)
        seen = {}
        model.run_with_hooks(
            tokens,
            fwd_hooks=[
                ("blocks.0.attn.hook_pattern", first_key_only),
                ("blocks.0.attn.hook_z", lambda t, hook: seen.update(z=t)),
            ],
        )
    torch.testing.assert_close(seen["z"], cache["v", 0][:, :1].expand_as(seen["z"]))


def test_gradient_reaches_the_pattern(model, tokens):
    kept = {}

    def keep(tensor, hook):
        tensor.retain_grad()
        kept["pattern"] = tensor

    model.run_with_hooks(tokens, fwd_hooks=[("blocks.1.attn.hook_pattern", keep)]).sum().backward()
    assert kept["pattern"].grad.abs().sum() > 0


def test_gradients_are_cached_on_request():
    model = zoo.sequence(d_vocab=5, d_model=8, n_heads=2, n_layers=1, n_ctx=8)
    model.forward = (lambda inner: lambda tokens: inner(tokens).square().sum())(model.forward)
    _, cache = model.run_with_cache(torch.tensor([[0, 1, 2]]), incl_bwd=True)
    assert cache["blocks.0.attn.hook_pattern_grad"].shape == (1, 2, 3, 3)
    assert cache["blocks.0.hook_resid_post_grad"].abs().sum() > 0


def test_readings_cannot_be_edited(model, tokens):
    with pytest.raises(ValueError, match="can be looked at, not edited"):
        model.run_with_hooks(tokens, fwd_hooks=[("blocks.0.attn.hook_row_entropy", lambda t, hook: t + 1)])


def test_stats_reduce_inside_the_hook_and_keep_every_bit(model, tokens):
    out, stats = model.run_with_stats(
        tokens,
        names=lambda n: n.endswith("hook_row_entropy"),
        reducer=lambda t, hook: (hook.axes, t.mean().item()),
    )
    assert torch.equal(out, model(tokens))
    assert set(stats) == {f"blocks.{i}.attn.hook_row_entropy" for i in range(2)}
    axes, mean = stats["blocks.0.attn.hook_row_entropy"]
    assert axes == ("batch", "head", "query")
    assert 0 < mean < torch.log(torch.tensor(9.0))


def test_row_entropy_is_the_pattern_s(model, tokens):
    _, cache = model.run_with_cache(tokens, names_filter=lambda _: True)
    wanted = torch.special.entr(cache["pattern", 1]).sum(-1)
    torch.testing.assert_close(cache["blocks.1.attn.hook_row_entropy"], wanted, atol=1e-5, rtol=1e-5)


def test_unknown_absent_and_unmatched_names_are_refused(model, tokens):
    with pytest.raises(KeyError, match=r"did you mean blocks\.0\.attn\.hook_pattern"):
        model.run_with_cache(tokens, names_filter="blocks.0.attn.hook_patern")
    with pytest.raises(KeyError, match="absent from this model: hook_z holds it per head"):
        model.run_with_hooks(tokens, fwd_hooks=[("blocks.0.attn.hook_result", lambda t, hook: None)])
    with pytest.raises(KeyError, match="matches none"):
        model.run_with_cache(tokens, names_filter=lambda n: n.endswith("hook_nothing"))
    with pytest.raises(KeyError, match="no hook point"):
        model.add_hook("blocks.9.hook_resid_pre", lambda t, hook: None)


def test_wrong_shapes_from_hooks_are_refused_by_name_and_hooks_are_gone_after(model, tokens):
    with pytest.raises(ValueError, match=r"blocks\.0\.hook_resid_mid returned \(3, 4, 32\).*axes batch pos d_model"):
        model.run_with_hooks(tokens, fwd_hooks=[("blocks.0.hook_resid_mid", lambda t, hook: t[:, :4])])
    with pytest.raises(TypeError, match="must return a tensor or None, not str"):
        model.run_with_hooks(tokens, fwd_hooks=[("blocks.0.hook_resid_mid", lambda t, hook: "x")])
    assert not any(p.watched for p in model.hook_points())


def test_positions_are_sliced_by_label_not_by_suffix(model, tokens):
    _, cache = model.run_with_cache(tokens, pos_slice=slice(2, 5))
    assert cache["q", 0].shape == (3, 3, 4, 8)
    assert cache["pattern", 0].shape == (3, 4, 3, 9)
    assert cache["resid_pre", 1].shape == (3, 3, 32)


def test_remove_batch_dim(model, tokens):
    _, cache = model.run_with_cache(tokens[:1], remove_batch_dim=True)
    assert cache["resid_pre", 0].shape == (9, 32)
    with pytest.raises(ValueError, match="batch of one"):
        model.run_with_cache(tokens, remove_batch_dim=True)


def test_stop_at_layer_gives_the_stream(model, tokens):
    _, cache = model.run_with_cache(tokens)
    torch.testing.assert_close(model(tokens, stop_at_layer=1), cache["resid_pre", 1])
    torch.testing.assert_close(model(tokens, stop_at_layer=-1), cache["resid_pre", 1])
    torch.testing.assert_close(model(tokens, stop_at_layer=0), cache["embed"] + cache["pos_embed"])


def test_the_lean_training_path_gives_the_same_predictions_and_gradients(generator):
    model = zoo.sequence(dim=4, d_model=32, n_heads=2, n_ctx=40, seed=3)
    xs, ys = torch.randn(5, 13, 4, generator=generator), torch.randn(5, 13, generator=generator)
    whole = model(xs, ys)
    model.train()
    lean = model(xs, ys)
    torch.testing.assert_close(lean, whole, atol=2e-6, rtol=1e-5)
    params = list(model.parameters())
    ours = torch.autograd.grad(lean.square().sum(), params)
    theirs = torch.autograd.grad(whole.square().sum(), params)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def test_stopping_after_the_last_layer_gives_every_row_in_training_too(generator):
    model = zoo.sequence(dim=3, d_model=8, n_heads=2, n_ctx=20)
    xs, ys = torch.randn(2, 5, 3, generator=generator), torch.randn(2, 5, generator=generator)
    rows = model(xs, ys, stop_at_layer=2)
    assert rows.shape == (2, 10, 8)
    torch.testing.assert_close(model.train()(xs, ys, stop_at_layer=2), rows)


def test_watching_readings_changes_no_bit_of_training(generator):
    model = zoo.sequence(dim=4, d_model=32, n_heads=2, n_ctx=40).train()
    xs, ys = torch.randn(5, 13, 4, generator=generator), torch.randn(5, 13, generator=generator)
    plain = model(xs, ys)
    watched, stats = model.run_with_stats(xs, ys, names=lambda n: "row_entropy" in n, reducer=lambda t, hook: t.shape)
    assert torch.equal(plain, watched)
    assert set(stats.values()) == {(5, 2, 26)}, "readings are of all rows, whatever the path skips"


def test_readings_are_declared_for_every_mixer():
    for mixer in zoo.names("mixers"):
        causal = not registry.load("mixers", mixer).Part.bidirectional_only
        model = zoo.sequence(d_vocab=5, d_model=8, n_heads=2, n_ctx=8, mixer=mixer, causal=causal)
        readings = [n for n, p in model.hook_dict.items() if isinstance(p, Reading)]
        assert len(readings) == 2 * len(model.blocks)
