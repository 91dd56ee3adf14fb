"""Linear probes: they find what is there, do not find what is not, and the control tells the two apart."""

import pytest
import torch
from sklearn.linear_model import LinearRegression as SklearnLinear

from microtome.lab import zoo
from microtome.lab.tasks import LinearRegression
from microtome.probes.linear import (
    Examples,
    Samples,
    fit_probe,
    normalised_error,
    probe_points,
    read_off,
    stream_points,
)

WIDTH, TARGETS = 6, 2


def made(samples: int, noise: float, generator: torch.Generator):
    """Activations and targets that are an affine map of them plus noise."""
    law = torch.Generator().manual_seed(1)
    weight = torch.randn(TARGETS, WIDTH, generator=law, dtype=torch.float64)
    activations = torch.randn(samples, WIDTH, generator=generator, dtype=torch.float64)
    targets = activations @ weight.mT + 3.0
    return Samples(
        activations, targets + noise * torch.randn(samples, TARGETS, generator=generator, dtype=torch.float64)
    )


def test_an_affine_target_is_read_off_whole(generator):
    found = read_off(made(200, 0.0, generator), made(100, 0.0, generator), generator)
    assert found.r2 > 1 - 1e-8
    torch.testing.assert_close(found.probe.bias, torch.full((TARGETS,), 3.0, dtype=torch.float64), atol=1e-4, rtol=0)
    assert found.control_r2 < 0.1


def test_noise_is_what_is_left(generator):
    """Σ‖noise‖²/Σ‖target‖² of 20,000 samples has a relative standard error of 1%; five of them are allowed."""
    test = made(20_000, 1.0, generator)
    law = torch.Generator().manual_seed(1)
    signal = torch.randn(TARGETS, WIDTH, generator=law, dtype=torch.float64).square().sum().item()
    expected = TARGETS / (signal + TARGETS)
    assert read_off(made(20_000, 1.0, generator), test, generator).error == pytest.approx(expected, rel=0.05)


def test_what_is_not_there_is_not_found(generator):
    """On 2,000 samples six useless weights cost 6/2000 of the variance in expectation, so that R² is about −0.003."""
    activations = torch.randn(4000, WIDTH, generator=generator)
    targets = torch.randn(4000, TARGETS, generator=generator)
    found = read_off(
        Samples(activations[:2000], targets[:2000]), Samples(activations[2000:], targets[2000:]), generator
    )
    assert abs(found.r2) < 0.05
    assert abs(found.control_r2) < 0.05


def test_the_fit_is_least_squares(generator):
    samples = made(50, 0.5, generator)
    ours = fit_probe(samples, ridge=0.0)
    theirs = SklearnLinear().fit(samples.activations, samples.targets)
    torch.testing.assert_close(ours.weight, torch.from_numpy(theirs.coef_))
    torch.testing.assert_close(ours(samples.activations), torch.from_numpy(theirs.predict(samples.activations)))


def test_constant_activations_read_nothing_and_break_nothing(generator):
    targets = torch.randn(30, TARGETS, generator=generator)
    found = fit_probe(Samples(torch.ones(30, WIDTH), targets))
    torch.testing.assert_close(found(torch.ones(1, WIDTH))[0], targets.double().mean(0))


def test_errors_of_targets_that_do_not_vary():
    flat = torch.ones(4, 1)
    assert normalised_error(flat, flat) == 0.0
    assert normalised_error(flat + 1, flat) == float("inf")


def test_a_model_is_read_at_each_depth(generator):
    """Its embedding holds x linearly at x-tokens and not at all at y-tokens, whatever the weights."""
    model = zoo.sequence(dim=3, d_model=16, n_layers=2, n_heads=2, n_ctx=12)

    def examples(count):
        prompt = LinearRegression(3).sample(count, 6, generator)
        return Examples((prompt.xs, prompt.ys), prompt.xs)

    train, test = examples(300), examples(200)
    names = stream_points(model)
    assert names == ["blocks.0.hook_resid_pre", "blocks.0.hook_resid_post", "blocks.1.hook_resid_post"]
    at_x = probe_points(model, names, train, test, generator, slice(0, None, 2))
    at_y = probe_points(model, names, train, test, generator, slice(1, None, 2))
    assert list(at_x) == names
    assert at_x[names[0]].r2 > 0.999
    assert abs(at_y[names[0]].r2) < 0.05
    assert at_y[names[1]].r2 > 0.2, "attention mixes earlier x into y-tokens even before training"
    assert all(found.control_r2 < 0.05 for found in (*at_x.values(), *at_y.values()))
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_point_with_heads_is_read_flat(generator):
    model = zoo.sequence(dim=3, d_model=16, n_layers=1, n_heads=2, n_ctx=12)
    prompt = LinearRegression(3).sample(50, 6, generator)
    both = Examples((prompt.xs, prompt.ys), prompt.xs)
    found = probe_points(model, ["blocks.0.attn.hook_z"], both, both, generator, slice(0, None, 2))
    assert found["blocks.0.attn.hook_z"].probe.weight.shape == (3, 16)


@pytest.mark.usefixtures("untyped")
def test_bad_samples_get_a_sentence(generator):
    good = made(10, 0.0, generator)
    with pytest.raises(ValueError, match="with the same samples, at least two"):
        Samples(good.activations, good.targets[:5])
    with pytest.raises(ValueError, match="at least two"):
        Samples(good.activations[:1], good.targets[:1])
    with pytest.raises(ValueError, match="activations hold an infinity or a NaN"):
        Samples(good.activations / 0, good.targets)
    with pytest.raises(ValueError, match="ridge must be finite and at least 0"):
        fit_probe(good, ridge=-1.0)


def test_bad_points_get_a_sentence(generator):
    model = zoo.sequence(dim=3, d_model=16, n_layers=1, n_heads=2, n_ctx=12)
    prompt = LinearRegression(3).sample(4, 6, generator)
    examples = Examples((prompt.xs, prompt.ys), prompt.xs)
    with pytest.raises(KeyError, match=r"no hook point 'blocks\.7\.hook_resid_post'"):
        probe_points(model, ["blocks.7.hook_resid_post"], examples, examples, generator)
    with pytest.raises(ValueError, match="needs a target at each position"):
        probe_points(model, ["blocks.0.hook_resid_post"], examples, examples, generator)
