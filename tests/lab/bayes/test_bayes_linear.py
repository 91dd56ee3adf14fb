"""Ridge, least squares and the Gaussian posterior against other libraries, prefix by prefix."""

import itertools

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LinearRegression, Ridge
from torch import Tensor

from microtome.lab import bayes
from microtome.lab.bayes import givens, gram

EPS = torch.finfo(torch.float64).eps
SHAPES = [(1, 1), (1, 5), (7, 1), (4, 9), (9, 4), (20, 41)]  # dim, points
shapes = pytest.mark.parametrize(("dim", "points"), SHAPES)


def prompts(dim: int, points: int, generator: torch.Generator, batch: int = 3) -> tuple[Tensor, Tensor]:
    xs = torch.randn(batch, points, dim, generator=generator, dtype=torch.float64)
    return xs, torch.randn(batch, points, generator=generator, dtype=torch.float64)


def by_prefix(fit, xs: Tensor, ys: Tensor) -> Tensor:
    """Weights from `fit(X, y)` in numpy, prompt by prompt and prefix by prefix; zero without pairs."""
    weights = torch.zeros_like(xs)
    for b, k in np.ndindex(xs.shape[0], xs.shape[1]):
        if k > 0:
            weights[b, k] = torch.as_tensor(fit(xs[b, :k].numpy(), ys[b, :k].numpy()))
    return weights


@shapes
def test_ols_equals_lstsq(dim: int, points: int, generator: torch.Generator) -> None:
    xs, ys = prompts(dim, points, generator)
    expected = by_prefix(lambda x, y: np.linalg.lstsq(x, y, rcond=None)[0], xs, ys)
    torch.testing.assert_close(bayes.OLS().weights(xs, ys), expected, rtol=1e-10, atol=1e-10)


@shapes
@pytest.mark.parametrize("lam", [1e-9, 1e-3, 0.25, 1e3])
def test_ridge_equals_sklearn(dim: int, points: int, lam: float, generator: torch.Generator) -> None:
    xs, ys = prompts(dim, points, generator)
    # The smallest ridge asks for a singular value decomposition: sklearn's default squares the condition number.
    expected = by_prefix(lambda x, y: Ridge(lam, fit_intercept=False, solver="svd").fit(x, y).coef_, xs, ys)
    torch.testing.assert_close(bayes.Ridge(lam).weights(xs, ys), expected, rtol=1e-9, atol=1e-10)


def test_ols_equals_sklearn_once_determined(generator: torch.Generator) -> None:
    xs, ys = prompts(3, 10, generator)
    expected = by_prefix(lambda x, y: LinearRegression(fit_intercept=False).fit(x, y).coef_, xs, ys)
    torch.testing.assert_close(bayes.OLS().weights(xs, ys)[:, 3:], expected[:, 3:], rtol=1e-9, atol=1e-10)


@settings(max_examples=50)
@given(
    dim=st.integers(1, 6),
    points=st.integers(1, 12),
    largest=st.integers(1, 3),
    seed=st.integers(0, 2**32 - 1),
)
def test_ols_is_the_pseudoinverse_at_any_rank(dim: int, points: int, largest: int, seed: int) -> None:
    # Small integers make zero, repeated and dependent rows common, and every rank clear.
    generator = torch.Generator().manual_seed(seed)
    xs = torch.randint(-largest, largest + 1, (2, points, dim), generator=generator).double()
    ys = torch.randint(-9, 10, (2, points), generator=generator).double()
    expected = by_prefix(lambda x, y: np.linalg.pinv(x) @ y, xs, ys)
    torch.testing.assert_close(bayes.OLS().weights(xs, ys), expected, rtol=1e-9, atol=1e-9)


def test_ols_with_repeated_rows_and_conflicting_labels(generator: torch.Generator) -> None:
    xs, ys = prompts(4, 12, generator)
    xs[:, 1] = xs[:, 0]
    xs[:, 3] = -2 * xs[:, 2]
    xs[0, 4] = 0  # ranks now differ between prompts
    xs[1, 5] = xs[1, 0] + xs[1, 2]
    xs[2, :, 3] = 0
    expected = by_prefix(lambda x, y: np.linalg.pinv(x) @ y, xs, ys)
    torch.testing.assert_close(bayes.OLS().weights(xs, ys), expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("scale", [1e-20, 1e20])
def test_ols_does_not_depend_on_the_unit_of_x(scale: float, generator: torch.Generator) -> None:
    xs, ys = prompts(4, 9, generator)
    xs[:, 2] = xs[:, 0] / 3 + xs[:, 1] / 7  # dependent up to rounding
    scaled = bayes.OLS().weights(scale * xs, ys) * scale
    torch.testing.assert_close(scaled, bayes.OLS().weights(xs, ys), rtol=1e-10, atol=1e-10)


def ill_conditioned(condition: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Prompts of 16 points in 6 dimensions whose singular values fall evenly in the logarithm."""
    xs, ys = prompts(6, 16, generator)
    u, s, v = torch.linalg.svd(xs, full_matrices=False)
    fall = torch.logspace(0, -np.log10(condition), s.shape[1], dtype=torch.float64)
    return u * fall @ v, ys


def exact_weights(x: Tensor, y: Tensor) -> Tensor:
    """X⁺y of a matrix of full rank in 60 digits."""
    with mpmath.workdps(60):
        matrix, label = mpmath.matrix(x.tolist()), mpmath.matrix(y.tolist())
        if x.shape[0] <= x.shape[1]:
            solution = matrix.T * mpmath.lu_solve(matrix * matrix.T, label)
        else:
            solution = mpmath.lu_solve(matrix.T * matrix, matrix.T * label)
        return torch.tensor([float(value) for value in solution], dtype=torch.float64)


@pytest.mark.parametrize("condition", [1e3, 1e6, 1e9])
def test_ols_is_backward_stable(condition: float, generator: torch.Generator) -> None:
    """The error stays in what rounding the data costs, eps·κ(1 + κ·‖residual‖/(‖X‖‖w‖)) (Björck 1996, §1.4)."""
    xs, ys = ill_conditioned(condition, generator)
    ours = bayes.OLS().weights(xs, ys)
    normal_equations_fail = False
    for b, k in [(b, k) for b in range(3) for k in (1, 3, 5, 6, 7, 15)]:
        x, y = xs[b, :k], ys[b, :k]
        exact = exact_weights(x, y)
        kappa, residual = torch.linalg.cond(x), (x @ exact - y).norm()
        size = torch.linalg.matrix_norm(x, 2) * exact.norm()
        bound = 100 * EPS * kappa * (1 + kappa * residual / size) * exact.norm()
        assert (ours[b, k] - exact).norm() <= bound
        if k >= 6 and residual < 1e-3 * size / kappa:
            squared = torch.linalg.lstsq(x.T @ x, x.T @ y).solution
            normal_equations_fail |= bool((squared - exact).norm() > bound)
    if condition >= 1e6:
        assert normal_equations_fail, "the bound would also let a route pass that squares the condition number"


def test_early_ill_conditioning_is_forgotten(generator: torch.Generator) -> None:
    xs, ys = prompts(5, 30, generator)
    xs[:, 4] = xs[:, 3] + 1e-9 * xs[:, 4]  # the prefix of five pairs is nearly singular, those of many are not
    expected = by_prefix(lambda x, y: np.linalg.lstsq(x, y, rcond=None)[0], xs[:, :], ys)
    torch.testing.assert_close(bayes.OLS().weights(xs, ys)[:, 10:], expected[:, 10:], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dim", [3, 20])
def test_min_norm_ols_interpolates_up_to_dim_pairs(dim: int, generator: torch.Generator) -> None:
    xs, ys = prompts(dim, dim + 2, generator)
    weights = bayes.OLS().weights(xs, ys)
    for k in range(1, dim + 1):
        fitted = torch.einsum("bpd,bd->bp", xs[:, :k], weights[:, k])
        torch.testing.assert_close(fitted, ys[:, :k], rtol=1e-9, atol=1e-9)
    overdetermined = torch.einsum("bpd,bd->bp", xs[:, :-1], weights[:, -1])
    assert (overdetermined - ys[:, :-1]).abs().amax(dim=1).min() > 1e-3


@shapes
@pytest.mark.parametrize("lam", [1e-3, 0.25, 40.0])
def test_sherman_morrison_steps_are_direct_ridge(dim: int, points: int, lam: float, generator: torch.Generator) -> None:
    xs, ys = prompts(dim, points, generator)
    steps = bayes.sherman_morrison(xs, ys, lam)
    torch.testing.assert_close(steps, bayes.Ridge(lam).weights(xs, ys), rtol=1e-9, atol=1e-9)


def test_large_ridge_is_one_gradient_step(generator: torch.Generator) -> None:
    xs, ys = prompts(4, 9, generator)
    moments = (xs * ys[..., None]).cumsum(1)
    errors = [(lam * bayes.Ridge(lam).weights(xs, ys)[:, 1:] - moments[:, :-1]).abs().max() for lam in (1e4, 1e6, 1e8)]
    assert errors[2] < 1e-5
    for larger, smaller in itertools.pairwise(errors):
        assert larger / smaller == pytest.approx(100, rel=0.02)  # the rest of the series is O(1/λ)


def conditioned(x: Tensor, y: Tensor, noise_std: float, tau: float) -> tuple[float, float]:
    """Mean and variance of the last label given those before it, in 60 digits."""
    with mpmath.workdps(60):
        matrix, k = mpmath.matrix(x.tolist()), len(y)
        covariance = tau**2 * matrix * matrix.T + mpmath.mpf(noise_std) ** 2 * mpmath.eye(k + 1)
        if k == 0:
            return 0.0, float(covariance[0, 0])
        cross = covariance[:k, k]
        gain = mpmath.lu_solve(covariance[:k, :k], cross)
        mean = (gain.T * mpmath.matrix(y.tolist()))[0]
        return float(mean), float(covariance[k, k] - (gain.T * cross)[0])


@pytest.mark.parametrize("noise_std", [0.5, 1e-5])  # one by each route
def test_posterior_equals_gaussian_conditioning(noise_std: float, generator: torch.Generator) -> None:
    xs, ys = prompts(4, 9, generator)
    tau = 3.0
    ours = bayes.BayesLinear(noise_std, tau).posterior(xs, ys)
    for b, k in np.ndindex(3, 9):
        mean, variance = conditioned(xs[b, : k + 1], ys[b, :k], noise_std, tau)
        assert ours.prediction.mean[b, k].item() == pytest.approx(mean, rel=1e-10, abs=1e-12)
        assert ours.prediction.variance[b, k].item() == pytest.approx(variance, rel=1e-10)
    alone = bayes.BayesLinear(noise_std, tau).predict(xs, ys)
    torch.testing.assert_close(ours.prediction.mean, alone.mean, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(ours.prediction.variance, alone.variance, rtol=1e-9, atol=0)


def test_noiseless_posterior_is_min_norm_with_what_the_span_leaves_open(generator: torch.Generator) -> None:
    xs, ys = prompts(5, 9, generator)
    xs[:, 2] = xs[:, 0] - xs[:, 1]
    prediction = bayes.BayesLinear(0.0, prior_std=2.0).predict(xs, ys)
    torch.testing.assert_close(prediction.mean, bayes.OLS().predict(xs, ys).mean)
    for b, k in np.ndindex(3, 9):
        x = xs[b, :k].numpy()
        outside = xs[b, k].numpy() - np.linalg.pinv(x) @ x @ xs[b, k].numpy() if k else xs[b, k].numpy()
        assert prediction.variance[b, k].item() == pytest.approx(4 * outside @ outside, rel=1e-9, abs=1e-20)
    assert (prediction.variance[:, 2] == 0).all()
    assert (prediction.variance[:, 6:] == 0).all()


def test_small_noise_tends_to_the_noiseless_posterior(generator: torch.Generator) -> None:
    xs, ys = prompts(4, 9, generator)
    limit = bayes.BayesLinear(0.0).predict(xs, ys)
    far, near = (bayes.BayesLinear(noise).predict(xs, ys) for noise in (1e-4, 1e-6))
    for measured in ("mean", "variance"):
        end = getattr(limit, measured)
        gaps = [(getattr(prediction, measured) - end).abs().max() for prediction in (far, near)]
        assert gaps[0] / gaps[1] == pytest.approx(1e4, rel=0.01)  # both are O(σ²) away


@shapes
@pytest.mark.parametrize("lam", [1e-4, 1.0])
def test_both_routes_agree(dim: int, points: int, lam: float, generator: torch.Generator) -> None:
    xs, ys = prompts(dim, points, generator)
    mean, spread = gram.predict(xs, ys, lam)
    weights, same_spread = gram.fit(xs, ys, lam)
    other_weights, other_spread = givens.prefixes(xs, ys, lam, EPS)
    torch.testing.assert_close(weights, other_weights, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(mean, (other_weights * xs).sum(-1), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(spread + lam, other_spread + lam, rtol=1e-9, atol=0)
    assert torch.equal(spread, same_spread)


def test_answer_does_not_depend_on_the_blocks(generator: torch.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    xs, ys = prompts(3, 8, generator, batch=7)
    whole = [bayes.BayesLinear(noise).posterior(xs, ys).weights for noise in (0.0, 0.5)]
    monkeypatch.setattr("microtome.lab.bayes.linear.GIVENS_ENTRIES", 1)
    monkeypatch.setattr("microtome.lab.bayes.blocks.over_prompts.__defaults__", (1,))
    cut = [bayes.BayesLinear(noise).posterior(xs, ys).weights for noise in (0.0, 0.5)]
    for before, after in zip(whole, cut, strict=True):
        torch.testing.assert_close(after, before, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("noise_std", [0.0, 0.01])
def test_huge_future_does_not_reach_back(noise_std: float, generator: torch.Generator) -> None:
    # The scale of a prompt decides between the two routes and on what counts as rank; a later point may be largest.
    xs, ys = prompts(4, 9, generator)
    before = bayes.BayesLinear(noise_std).predict(xs, ys)
    xs[:, -1] *= 1e20
    after = bayes.BayesLinear(noise_std).predict(xs, ys)
    torch.testing.assert_close(after.mean[:, :-1], before.mean[:, :-1], rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: bayes.BayesLinear(-1.0), "noise_std must be finite and at least 0, not -1.0"),
        (lambda: bayes.BayesLinear(0.1, 0.0), "prior_std must be finite and above 0, not 0.0"),
        (lambda: bayes.BayesLinear(float("nan")), "noise_std must be finite"),
        (lambda: bayes.Ridge(-0.25), "lam must be finite and at least 0, not -0.25"),
        (
            lambda: bayes.sherman_morrison(torch.ones(1, 2, 3), torch.ones(1, 2), 0.0),
            "ridge must be positive and finite, not 0.0",
        ),
    ],
)
def test_impossible_laws_get_a_sentence(make, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        make()
