"""The enumerated posterior against one written out support by support."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

from microtome.lab import bayes
from microtome.lab.tasks import LinearRegression

TAU = 1.5


def written_out(x: np.ndarray, y: np.ndarray, query: np.ndarray, s: int, noise_std: float) -> tuple[float, float]:
    """Posterior mean and variance of the query's label, one support after the other."""
    evidence, means, variances = [], [], []
    for support in map(list, itertools.combinations(range(len(query)), s)):
        seen, asked = x[:, support], query[support]
        covariance = TAU**2 * seen @ seen.T + noise_std**2 * np.eye(len(y))
        evidence.append(multivariate_normal.logpdf(y, cov=covariance) if len(y) else 0.0)
        gain = np.linalg.solve(covariance, TAU**2 * seen @ asked) if len(y) else np.zeros(0)
        means.append(gain @ y)
        variances.append(TAU**2 * (asked @ asked - gain @ seen @ asked) + noise_std**2)
    p = np.exp(np.array(evidence) - logsumexp(evidence))
    mean = p @ means
    return mean, p @ (np.array(variances) + (np.array(means) - mean) ** 2)


@pytest.mark.parametrize("s", [1, 2, 5])
def test_equals_the_sum_over_supports(s: int, generator: torch.Generator) -> None:
    task = LinearRegression(5, noise_std=0.3, prior_std=TAU, sparsity=s)
    prompt = task.sample(3, 9, generator, dtype=torch.float64)
    prediction = task.bayes().predict(prompt.xs, prompt.ys)
    for b, k in np.ndindex(3, 9):
        x, y = prompt.xs[b].numpy(), prompt.ys[b].numpy()
        mean, variance = written_out(x[:k], y[:k], x[k], s, 0.3)
        assert prediction.mean[b, k].item() == pytest.approx(mean, rel=1e-9, abs=1e-12)
        assert prediction.variance[b, k].item() == pytest.approx(variance, rel=1e-9)


def test_without_noise_up_to_s_pairs_fit_every_support(generator: torch.Generator) -> None:
    task = LinearRegression(5, prior_std=TAU, sparsity=2)
    prompt = task.sample(3, 3, generator, dtype=torch.float64)
    prediction = task.bayes().predict(prompt.xs, prompt.ys)
    for b, k in np.ndindex(3, 3):
        x, y = prompt.xs[b].numpy(), prompt.ys[b].numpy()
        mean, variance = written_out(x[:k], y[:k], x[k], 2, 0.0)
        assert prediction.mean[b, k].item() == pytest.approx(mean, rel=1e-8, abs=1e-9)
        assert prediction.variance[b, k].item() == pytest.approx(variance, rel=1e-8, abs=1e-9)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
def test_without_noise_one_pair_more_than_s_tells_all(
    dtype: torch.dtype, tolerance: float, generator: torch.Generator
) -> None:
    task = LinearRegression(8, sparsity=3)
    prompt = task.sample(32, 12, generator, dtype=dtype)
    posterior = task.bayes().posterior(prompt.xs, prompt.ys)
    true = prompt.latents["w"][:, None].expand(-1, 8, -1)
    torch.testing.assert_close(posterior.weights[:, 4:], true, rtol=tolerance, atol=tolerance)
    assert posterior.prediction.variance[:, 4:].max() < 1e-6
    dense = bayes.OLS().predict(prompt.xs, prompt.ys)
    assert bayes.squared_error(dense, prompt.ys)[:, 4].mean() > 0.5  # which needs all eight pairs


def test_all_coordinates_is_dense_regression(generator: torch.Generator) -> None:
    prompt = LinearRegression(4, 0.5).sample(3, 9, generator, dtype=torch.float64)
    sparse = bayes.SpikeAndSlab(4, 4, 0.5, TAU).posterior(prompt.xs, prompt.ys)
    dense = bayes.BayesLinear(0.5, TAU).posterior(prompt.xs, prompt.ys)
    torch.testing.assert_close(sparse.weights, dense.weights)
    torch.testing.assert_close(sparse.prediction.mean, dense.prediction.mean)
    torch.testing.assert_close(sparse.prediction.variance, dense.prediction.variance)


def test_answer_does_not_depend_on_the_blocks(generator: torch.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    prompt = LinearRegression(5, 0.5, sparsity=2).sample(4, 6, generator, dtype=torch.float64)
    predictor = bayes.SpikeAndSlab(5, 2, 0.5)
    whole = predictor.predict(prompt.xs, prompt.ys)
    monkeypatch.setattr("microtome.lab.bayes.spike_and_slab.BLOCK_ENTRIES", 1)
    torch.testing.assert_close(predictor.predict(prompt.xs, prompt.ys).mean, whole.mean)


def test_too_many_supports_get_a_sentence_that_says_what_to_use() -> None:
    linear = f"{math.sqrt(5 / 40):.4g}"
    with pytest.raises(ValueError, match=rf"658,008 supports.*BayesLinear\(noise_std=0.1, prior_std={linear}\)"):
        bayes.SpikeAndSlab(40, 5, 0.1)
    with pytest.raises(ValueError, match="enumerated"):
        LinearRegression(40, sparsity=5).bayes()


def test_suggested_predictor_is_the_best_linear_one(generator: torch.Generator) -> None:
    """The weights of a sparse law have covariance τ²(s/d)I, so that another ridge does worse.

    The paired gap in risk is 5 standard errors from zero by chance with probability below 1e-6; measured 16 or more.
    """
    s, d = 1, 6
    prompt = LinearRegression(d, 1.0, sparsity=s).sample(4000, 12, generator, dtype=torch.float64)
    best = bayes.squared_error(bayes.BayesLinear(1.0, math.sqrt(s / d)).predict(prompt.xs, prompt.ys), prompt.ys)
    for other in (bayes.BayesLinear(1.0, 1.0), bayes.BayesLinear(1.0, s / d)):
        gap = (bayes.squared_error(other.predict(prompt.xs, prompt.ys), prompt.ys) - best).mean(1)
        assert gap.mean() > 5 * gap.std() / math.sqrt(len(gap))


@pytest.mark.parametrize("s", [0, 6])
def test_impossible_sparsity_gets_a_sentence(s: int) -> None:
    with pytest.raises(ValueError, match=f"sparsity must be between 1 and dim = 5, not {s}"):
        bayes.SpikeAndSlab(5, s)


def test_other_dimension_gets_a_sentence() -> None:
    with pytest.raises(ValueError, match="supports in 5 dimensions, but xs has 4"):
        bayes.SpikeAndSlab(5, 2).predict(torch.zeros(1, 2, 4), torch.zeros(1, 2))
