"""Probes that choose their position: they find what is there and where, and do not find what is not."""

import pytest
import torch

from microtome.lab import zoo
from microtome.lab.bayes import GradientDescent
from microtome.lab.tasks import LinearRegression
from microtome.probes.linear import Examples
from microtome.probes.position_probe import (
    Fitting,
    fit_position_probe,
    judge,
    pairs_visible,
    probe_beside_control,
)

BATCH, POSITIONS, WIDTH = 800, 5, 8
EVERYWHERE = torch.ones(2, POSITIONS, dtype=torch.bool)
LINEAR = Fitting(steps=300)
DEEP = Fitting(hidden=64, steps=300)


def activations(generator: torch.Generator) -> torch.Tensor:
    """With a mean and spread of their own, as a stream has."""
    return 3.0 + 0.1 * torch.randn(BATCH, POSITIONS, WIDTH, generator=generator)


def results(h, v, visible, fitting, generator):
    probe = fit_position_probe(h[::2], v[::2], visible, generator, fitting)
    return judge(probe, h[1::2], v[1::2])


@pytest.mark.parametrize("fitting", [LINEAR, DEEP], ids=["linear", "two layers"])
def test_a_linear_target_is_found_and_so_is_its_position(fitting, generator) -> None:
    h = activations(generator)
    maps = torch.randn(2, WIDTH, 3, generator=generator)
    v = 50 * torch.stack([h[:, 1] @ maps[0], h[:, 4] @ maps[1]], dim=1) + 7
    found = results(h, v, EVERYWHERE, fitting, generator)
    assert found.r2.min() > 0.97
    assert found.attention.argmax(-1).tolist() == [1, 4]
    assert found.attention.amax(-1).min() > 0.8
    torch.testing.assert_close(found.attention.sum(-1), torch.ones(2))


def test_a_target_spread_over_positions_is_found(generator) -> None:
    h = activations(generator)
    v = h.mean(1)[:, None, :2].expand(-1, 2, -1)
    found = results(h, v, EVERYWHERE, LINEAR, generator)
    assert found.r2.min() > 0.97
    assert found.attention.amax() < 0.4


@pytest.mark.parametrize("fitting", [LINEAR, DEEP], ids=["linear", "two layers"])
def test_random_targets_are_not_found(fitting, generator) -> None:
    """The R² of a probe that knows nothing is at most about (its own overfitting) 0; 400 examples, two coordinates."""
    v = torch.randn(BATCH, 2, 2, generator=generator)
    assert results(activations(generator), v, EVERYWHERE, fitting, generator).r2.max() < 0.05


def test_a_product_needs_the_hidden_layer(generator) -> None:
    h = torch.randn(4000, 2, 3, generator=generator)
    v = h[:, :1, :1] * h[:, :1, 1:2]
    visible = torch.ones(1, 2, dtype=torch.bool)
    assert results(h, v, visible, LINEAR, generator).r2.max() < 0.05
    found = results(h, v, visible, Fitting(hidden=64, steps=600), generator)
    assert found.r2.min() > 0.9
    assert found.attention[0, 0] > 0.8


def test_what_is_out_of_sight_is_not_found(generator) -> None:
    h = activations(generator)
    v = h[:, 3, None, :2].expand(-1, 2, -1)
    visible = torch.tensor([[True, True, True, False, False], [True, True, True, True, False]])
    found = results(h, v, visible, LINEAR, generator)
    assert found.r2[0] < 0.05
    assert found.r2[1] > 0.97
    assert (found.attention[~visible] == 0).all()


def test_errors_are_what_they_say(generator) -> None:
    h = activations(generator)
    v = torch.randn(BATCH, 2, 2, generator=generator)
    probe = fit_position_probe(h, v, EVERYWHERE, generator, Fitting(steps=5))
    found, said = judge(probe, h, v), probe(h)
    for prefix in range(2):
        residual = (said - v)[:, prefix].square()
        torch.testing.assert_close(found.mse[prefix], residual.mean())
        spread = (v[:, prefix] - v[:, prefix].mean(0)).square().sum()
        torch.testing.assert_close(found.r2[prefix], 1 - residual.sum() / spread)


def test_the_seed_decides_everything(generator) -> None:
    h, v = activations(generator), torch.randn(BATCH, 2, 2, generator=generator)
    first, again, other = (
        fit_position_probe(h, v, EVERYWHERE, torch.Generator().manual_seed(seed), Fitting(steps=5))(h)
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_constant_activations_read_nothing_and_break_nothing(generator) -> None:
    v = torch.randn(BATCH, 2, 2, generator=generator)
    found = results(torch.ones(BATCH, POSITIONS, WIDTH), v, EVERYWHERE, LINEAR, generator)
    assert found.r2.isfinite().all()
    assert found.r2.max() < 0.05


def test_pairs_visible_by_hand() -> None:
    assert pairs_visible(3).int().tolist() == [[1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 0]]
    with pytest.raises(ValueError, match=r"points must be at least 2, .* not 1"):
        pairs_visible(1)


def test_a_model_is_read_beside_its_control(generator) -> None:
    """Targets: the x of the second pair. The embedding holds it; a control whose embedding is zero holds nothing."""
    dim, points = 3, 4
    model, control = (
        zoo.build("icl_linear_algorithms", n_layers=1, d_model=16, n_heads=1, dim=dim, points=points, seed=seed)
        for seed in (0, 1)
    )
    mode = model.training
    with torch.no_grad():
        control.embed.weight.zero_()

    def examples(count: int) -> Examples:
        prompt = LinearRegression(dim).sample(count, points, generator)
        return Examples((prompt.xs, prompt.ys), prompt.xs[:, 1:2].expand(-1, points - 1, -1))

    names = ["blocks.0.hook_resid_pre", "blocks.0.hook_resid_post"]
    train, test = examples(600), examples(300)
    found = probe_beside_control(model, control, names, train, test, pairs_visible(points), fitting=LINEAR)
    assert list(found) == names
    for at_point in found.values():
        assert at_point.control.r2.max() < 0.05
    embedding = found[names[0]].model
    assert embedding.r2.min() > 0.97
    others = embedding.attention[:, [0, 4, 6]]
    assert others.max() < 0.05, "not at another x; y-tokens hold no x and may dilute the second one's"
    assert all(parameter.grad is None for parameter in model.parameters())
    assert model.training == mode


def test_moments_of_untrained_streams_are_not_held_whole(generator) -> None:
    """Xᵀy is a sum of products: an embedding holds x and y apart, so that no linear probe reads it off."""
    model = zoo.build("icl_linear_algorithms", n_layers=1, d_model=16, n_heads=1, dim=2, points=4)

    def examples(count: int) -> Examples:
        prompt = LinearRegression(2).sample(count, 4, generator)
        moments = GradientDescent(1, 0.5).weights(prompt.xs, prompt.ys)
        return Examples((prompt.xs, prompt.ys), moments[:, 1:])

    names = ["blocks.0.hook_resid_pre"]
    found = probe_beside_control(model, model, names, examples(600), examples(300), pairs_visible(4), fitting=LINEAR)
    assert found[names[0]].model.r2.max() < 0.2
    assert torch.equal(found[names[0]].model.r2, found[names[0]].control.r2), "one model, one seed, one answer"


@pytest.mark.usefixtures("untyped")
def test_bad_input_gets_a_sentence(generator) -> None:
    h, v = activations(generator), torch.randn(BATCH, 2, 2, generator=generator)

    def fit(h, v, visible=EVERYWHERE):
        return fit_position_probe(h, v, visible, generator, Fitting(steps=1))

    with pytest.raises(ValueError, match="of the same examples, at least two"):
        fit(h, v[:-1])
    with pytest.raises(ValueError, match="at least two"):
        fit(h[:1], v[:1])
    with pytest.raises(ValueError, match=r"visible must be \[prefix pos\] = \[2, 5\], not \[3, 5\]"):
        fit(h, v, torch.ones(3, 5, dtype=torch.bool))
    with pytest.raises(ValueError, match="prefix 1 sees no position"):
        fit(h, v, torch.tensor([[True] * 5, [False] * 5]))
    with pytest.raises(ValueError, match="activations hold an infinity or a NaN"):
        fit(h / 0, v)
    for option, sentence in (({"hidden": 0}, "hidden"), ({"steps": 0}, "steps"), ({"lr": 0.0}, "lr must be finite")):
        with pytest.raises(ValueError, match=sentence):
            Fitting(**option)
    model = zoo.build("icl_linear_algorithms", n_layers=1, d_model=16, n_heads=1, dim=WIDTH, points=4)
    examples = Examples((h[:, :4], h[:, :4, 0]), v)
    with pytest.raises(KeyError, match=r"no hook point 'blocks\.9"):
        probe_beside_control(model, model, ["blocks.9.hook_resid_post"], examples, examples, EVERYWHERE)
