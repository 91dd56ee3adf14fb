"""Random features of the exponential kernel: their law, their mean, their variance."""

import math

import pytest
import torch

from microtome.kernels.random_features import (
    directions,
    positive_features,
    relative_variance,
    relu_features,
    trigonometric_features,
)

MAPS = {"positive": positive_features, "trigonometric": trigonometric_features}


def pair(norm, dim, generator):
    x, y = torch.randn(2, 1, dim, generator=generator, dtype=torch.float64)
    return norm * x / x.norm(), norm * y / y.norm()


@pytest.mark.parametrize("features", [1, 3, 8, 20])
def test_orthogonal_rows_are_orthogonal_within_each_block_and_no_row_is_unit(features, generator):
    w = directions(features, 8, generator)
    assert w.shape == (features, 8)
    for block in w.split(8):
        gram = block @ block.T
        torch.testing.assert_close(gram, gram.diagonal().diag(), atol=1e-12, rtol=0)
    assert ((w.norm(dim=-1) - 1).abs() > 1e-6).all()


@pytest.mark.parametrize("orthogonal", [True, False])
def test_rows_have_the_lengths_of_gaussian_ones(orthogonal, generator):
    """Mean of ‖w‖² is dim, its variance 2·dim: the mean over 20,000 rows strays more than 4.5 standard errors once in
    1.5e5 (normal by the central limit theorem)."""
    dim, rows = 5, 20_000
    squared = directions(rows, dim, generator, orthogonal=orthogonal).square().sum(-1)
    assert abs(squared.mean().item() - dim) < 4.5 * math.sqrt(2 * dim / rows)


@pytest.mark.parametrize("orthogonal", [True, False])
@pytest.mark.parametrize("features", MAPS.values(), ids=MAPS)
def test_products_average_to_the_kernel(features, orthogonal, generator):
    """200,000 draws at norm 0.5: the mean strays more than 4.5 standard errors, those of independent rows, once in
    1.5e5; orthogonal rows have smaller ones."""
    x, y = pair(0.5, 6, generator)
    w = directions(200_000, 6, generator, orthogonal=orthogonal)
    estimate = (features(x, w) * features(y, w)).sum().item()
    exact = (x * y).sum().exp().item()
    error = exact * math.sqrt(relative_variance(x, y, 200_000).item())
    if features is trigonometric_features:
        error = math.exp(0.25) * math.sqrt(0.5 / 200_000)  # a cosine's variance is at most 1/2
    assert abs(estimate - exact) < 4.5 * error


def test_the_variance_is_the_formula_and_falls_as_one_over_m(generator):
    """200,000 independent features in groups of m, at ‖x + y‖² = 0.09. The kurtosis of that log-normal law is below 5,
    so that a sample variance of at least 10,000 groups has a relative standard error of at most 2%: 10% is 5 of them,
    which happens once in 1.7e6."""
    x, y = pair(0.5, 6, generator)
    y = -x + 0.6 * y  # ‖x + y‖² = 0.09
    w = directions(200_000, 6, generator, orthogonal=False)
    single = positive_features(x, w) * positive_features(y, w) * 200_000
    exact = (x * y).sum().exp()
    for m in (1, 5, 20):
        relative = (single.unflatten(-1, (-1, m)).mean(-1) / exact).var().item()
        assert relative == pytest.approx(relative_variance(x, y, m).item(), rel=0.1)


def test_each_head_may_have_its_own_directions(generator):
    x = torch.randn(2, 3, 7, 4, generator=generator, dtype=torch.float64)
    w = torch.stack([directions(5, 4, generator) for _ in range(3)])
    for features in (positive_features, trigonometric_features, relu_features):
        each = torch.stack([features(x[:, h], w[h]) for h in range(3)], dim=1)
        torch.testing.assert_close(features(x, w), each, atol=1e-14, rtol=1e-12)


def test_positive_features_are_positive_and_relu_ones_at_least_epsilon(generator):
    x = 3 * torch.randn(50, 4, generator=generator)
    w = directions(16, 4, generator).float()
    assert (positive_features(x, w) > 0).all()
    assert (relu_features(x, w) >= 1e-3).all()
    assert torch.equal(relu_features(torch.zeros(1, 4), w), torch.full((1, 16), 1e-3))


@pytest.mark.parametrize(("features", "dim"), [(0, 3), (3, 0)])
def test_nothing_to_draw_is_refused(features, dim, generator):
    with pytest.raises(ValueError, match="must be at least 1"):
        directions(features, dim, generator)
