"""Mixtures against the definition: evidence of all pairs so far from the joint density, not from the chain rule.

Calibration is refused below p = 1e-6 only (2,000 independent prompts at one position); of log scores the paired gap is
held against 5 standard errors, which chance exceeds with probability below 1e-6.
"""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multivariate_normal

from microtome.lab.bayes import (
    OLS,
    BayesLinear,
    LinearPredictor,
    Prediction,
    Probabilistic,
    Signs,
    SpikeAndSlab,
    integral_transform,
    uniformity,
)
from microtome.lab.bayes.gaussian_prior import BayesGaussian
from microtome.lab.bayes.mixture import BayesMixture
from microtome.lab.bayes.normals import Parts
from microtome.lab.bayes.rescaled import Rescaled
from microtome.lab.bayes.sign_vector import SignVectorPosterior

MEANS = torch.tensor([[1.5, 0.0], [-1.5, 0.5]], dtype=torch.float64)
COVARIANCES = torch.stack([torch.eye(2), torch.tensor([[0.5, 0.2], [0.2, 2.0]])]).double()
ALPHA = (0.3, 0.7)


def mixture(noise_std, alpha=ALPHA):
    parts = tuple(BayesGaussian(m, s, noise_std) for m, s in zip(MEANS, COVARIANCES, strict=True))
    return BayesMixture(parts, alpha)


def prompts(batch, points, noise_std, generator):
    which = (torch.rand(batch, generator=generator) > ALPHA[0]).long()
    roots = torch.linalg.cholesky(COVARIANCES)[which]
    w = MEANS[which] + (roots @ torch.randn(batch, 2, 1, generator=generator, dtype=torch.float64))[..., 0]
    xs = torch.randn(batch, points, 2, generator=generator, dtype=torch.float64)
    noise = noise_std * torch.randn(batch, points, generator=generator, dtype=torch.float64)
    return xs, (xs @ w[..., None])[..., 0] + noise, which


def written_out(x, y, query, noise_std):
    """β, mean and variance of the query's label, from the joint normal density of the labels."""
    evidence, means, variances = [], [], []
    for mu, sigma in zip(MEANS.numpy(), COVARIANCES.numpy(), strict=True):
        covariance = x @ sigma @ x.T + noise_std**2 * np.eye(len(y))
        evidence.append(multivariate_normal.pdf(y, x @ mu, covariance) if len(y) else 1.0)
        gain = np.linalg.solve(covariance, x @ sigma @ query) if len(y) else np.zeros(0)
        means.append(query @ mu + gain @ (y - x @ mu))
        variances.append(query @ sigma @ query - gain @ x @ sigma @ query + noise_std**2)
    beta = np.array(ALPHA) * evidence
    beta /= beta.sum()
    mean = beta @ means
    return beta, mean, beta @ (np.array(variances) + (np.array(means) - mean) ** 2)


def test_equals_the_mixture_written_out(generator):
    """To the 1e-8 of variance that the jitter adds where the evidence is weighed."""
    xs, ys, _ = prompts(3, 6, 0.5, generator)
    said, belief = mixture(0.5).predict(xs, ys), mixture(0.5).responsibilities(xs, ys)
    for b, k in np.ndindex(3, 6):
        x, y = xs[b, :k].numpy(), ys[b, :k].numpy()
        beta, mean, variance = written_out(x, y, xs[b, k].numpy(), 0.5)
        assert belief[b, k].numpy() == pytest.approx(beta, rel=1e-5, abs=1e-7)
        assert said.mean[b, k].item() == pytest.approx(mean, rel=1e-5, abs=1e-6)
        assert said.variance[b, k].item() == pytest.approx(variance, rel=1e-5)


@settings(max_examples=25, deadline=None)
@given(alpha=st.floats(0, 1), noise_std=st.sampled_from([0.0, 0.3]), seed=st.integers(0, 99))
def test_responsibilities_sum_to_one_and_begin_at_the_prior(alpha, noise_std, seed):
    xs, ys, _ = prompts(4, 7, noise_std, torch.Generator().manual_seed(seed))
    belief = mixture(noise_std, (alpha, 1 - alpha)).responsibilities(xs, ys)
    torch.testing.assert_close(belief.sum(-1), torch.ones_like(ys))
    torch.testing.assert_close(belief[:, 0], torch.tensor([[alpha, 1 - alpha]] * 4, dtype=torch.float64))
    assert ((belief >= 0) & (belief <= 1)).all()


@pytest.mark.parametrize("noise_std", [0.0, 0.5])
def test_of_equal_components_is_the_component(noise_std, generator):
    xs, ys, _ = prompts(3, 6, noise_std, generator)
    one = BayesGaussian(MEANS[0], COVARIANCES[1], noise_std)
    both = BayesMixture((one, one, one), (0.2, 0.3, 0.5))
    torch.testing.assert_close(both.predict(xs, ys).mean, one.predict(xs, ys).mean)
    torch.testing.assert_close(both.predict(xs, ys).variance, one.predict(xs, ys).variance, rtol=1e-7, atol=1e-12)
    torch.testing.assert_close(both.responsibilities(xs, ys), torch.tensor([0.2, 0.3, 0.5]).double().expand(3, 6, 3))


def test_answer_does_not_depend_on_the_blocks(generator, monkeypatch):
    xs, ys, _ = prompts(7, 6, 0.5, generator)
    whole, belief = mixture(0.5).predict(xs, ys), mixture(0.5).responsibilities(xs, ys)
    monkeypatch.setattr("microtome.lab.bayes.mixture.PROMPTS", 3)
    torch.testing.assert_close(mixture(0.5).predict(xs, ys).mean, whole.mean)
    torch.testing.assert_close(mixture(0.5).predict(xs, ys).variance, whole.variance)
    torch.testing.assert_close(mixture(0.5).responsibilities(xs, ys), belief)


def test_is_no_linear_predictor():
    assert not isinstance(mixture(0.5), LinearPredictor), "what its fields are called must not make it one"


def test_component_of_weight_zero_has_no_part(generator):
    xs, ys, _ = prompts(3, 6, 0.5, generator)
    alone = BayesGaussian(MEANS[0], COVARIANCES[0], 0.5)
    torch.testing.assert_close(mixture(0.5, (1.0, 0.0)).predict(xs, ys).mean, alone.predict(xs, ys).mean)
    torch.testing.assert_close(
        mixture(0.5, (1.0, 0.0)).law(xs, ys).log_prob(ys), alone.law(xs, ys).log_prob(ys), rtol=1e-9, atol=1e-9
    )


def test_law_has_the_mean_and_variance_that_are_predicted(generator):
    xs, ys, _ = prompts(3, 6, 0.5, generator)
    law, said = mixture(0.5).law(xs, ys), mixture(0.5).predict(xs, ys)
    torch.testing.assert_close(law.mean, said.mean)
    torch.testing.assert_close(law.variance, said.variance)
    inner = BayesMixture((mixture(0.5), BayesLinear(0.5)), (0.5, 0.5))
    torch.testing.assert_close(inner.law(xs, ys).mean, inner.predict(xs, ys).mean)
    torch.testing.assert_close(inner.law(xs, ys).variance, inner.predict(xs, ys).variance)


@pytest.mark.parametrize("point", [0, 1, 7])
def test_is_calibrated(point, generator):
    xs, ys, _ = prompts(2000, 8, 0.5, generator)

    def p_value(predictor: Probabilistic) -> float:
        return uniformity(integral_transform(predictor.law(xs, ys), ys, generator)[:, point])

    assert p_value(mixture(0.5)) > 1e-6
    assert p_value(mixture(1.0)) < 1e-6


def test_log_score_beats_other_laws(generator):
    xs, ys, _ = prompts(4000, 6, 0.5, generator)
    own = mixture(0.5).law(xs, ys).log_prob(ys)
    others = (BayesLinear(0.5), BayesLinear(0.5, 1.7), *mixture(0.5).components, mixture(0.5, (0.8, 0.2)))
    for other in others:
        gap = (own - other.law(xs, ys).log_prob(ys)).mean(1)
        assert gap.mean() > 5 * gap.std() / math.sqrt(len(gap)), other.name


def test_belief_is_the_frequency_of_the_component(generator):
    """Among prompts whose belief in the second lies near p, a share p comes from it; within 5 standard errors, which
    chance exceeds in one of ten bins with probability below 1e-5."""
    xs, ys, which = prompts(20_000, 3, 0.5, generator)
    belief = mixture(0.5).responsibilities(xs, ys)[:, 2, 1]
    for low in torch.arange(0, 1, 0.1).tolist():
        inside = (belief >= low) & (belief < low + 0.1)
        count = int(inside.sum())
        p = belief[inside].mean().item()
        assert count > 100
        assert abs(which[inside].double().mean().item() - p) < 5 * math.sqrt(p * (1 - p) / count)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_classes_without_noise_are_told_apart(dtype, generator):
    """Dense, sparse and sign-vector weights, each of unit output variance: three pairs tell which, and a dense law
    that knows some labels for sure (k ≥ d) takes nothing from the others by rounding."""
    dim, batch = 6, 64
    scale = 1 / math.sqrt(dim)
    parts = (
        Rescaled(BayesLinear(), scale),
        Rescaled(SpikeAndSlab(dim, 2), 1 / math.sqrt(2)),
        Rescaled(SignVectorPosterior(dim), scale),
    )
    dense = torch.randn(batch, dim, generator=generator, dtype=dtype) * scale
    support = torch.rand(batch, dim, generator=generator).argsort(1) < 2
    sparse = torch.randn(batch, dim, generator=generator, dtype=dtype) * support / math.sqrt(2)
    signs = (torch.randint(2, (batch, dim), generator=generator).to(dtype) * 2 - 1) * scale
    predictor = BayesMixture(parts, (1 / 3, 1 / 3, 1 / 3))
    for index, w in enumerate((dense, sparse, signs)):
        xs = torch.randn(batch, 10, dim, generator=generator, dtype=dtype)
        ys = (xs @ w[..., None])[..., 0]
        belief = predictor.responsibilities(xs, ys)
        assert belief.dtype == dtype
        assert belief[:, 4:, index].mean() > 0.99
        error = (predictor.predict(xs, ys).mean - ys).square().mean(0)
        assert error[[6, 4, 3][index] :].max() < 1e-2, "all is known after d, near s + 2 or two pairs"


class Coin:
    """Labels ±1 of one mean, whatever x."""

    def __init__(self, mean: float):
        self.mean, self.name = mean, f"coin({mean:g})"

    def predict(self, xs, ys):
        mean = torch.full_like(ys, self.mean)
        return Prediction(mean, 1 - mean.square())

    def law(self, xs, ys):
        return Signs(self.predict(xs, ys.double()).mean)


def test_labels_of_two_values_mix_as_signs():
    ys = torch.tensor([[1.0, 1.0, -1.0, -1.0]], dtype=torch.float64)
    coins = BayesMixture((Coin(1.0), Coin(0.0), Coin(-1.0)), (0.25, 0.5, 0.25))
    belief = coins.responsibilities(ys[..., None], ys)
    wanted = torch.tensor([[[0.25, 0.5, 0.25], [0.5, 0.5, 0], [2 / 3, 1 / 3, 0], [0, 1, 0]]], dtype=torch.float64)
    torch.testing.assert_close(belief, wanted)
    law = coins.law(ys[..., None], ys)
    assert isinstance(law, Signs)
    torch.testing.assert_close(law.mean, coins.predict(ys[..., None], ys).mean)
    torch.testing.assert_close(law.variance, coins.predict(ys[..., None], ys).variance)


def test_labels_that_no_component_allows_weigh_on_all_alike():
    ys = torch.tensor([[-1.0, -1.0]], dtype=torch.float64)
    belief = BayesMixture((Coin(1.0), Coin(1.0)), (0.5, 0.5)).responsibilities(ys[..., None], ys)
    torch.testing.assert_close(belief[:, 1], torch.tensor([[0.5, 0.5]], dtype=torch.float64))


def test_rescaled_is_the_law_of_scaled_labels(generator):
    xs, ys, _ = prompts(3, 6, 0.5, generator)
    scaled = Rescaled(BayesLinear(0.5, 2.0), 0.25)
    same = BayesLinear(0.125, 0.5)
    torch.testing.assert_close(scaled.predict(xs, ys).mean, same.predict(xs, ys).mean)
    torch.testing.assert_close(scaled.predict(xs, ys).variance, same.predict(xs, ys).variance)
    torch.testing.assert_close(scaled.law(xs, ys).log_prob(ys), same.law(xs, ys).log_prob(ys))
    with pytest.raises(ValueError, match="factor must be finite and above 0"):
        Rescaled(BayesLinear(), 0.0)


@pytest.mark.usefixtures("untyped")
def test_bad_mixtures_get_a_sentence():
    with pytest.raises(ValueError, match="at least one component"):
        BayesMixture((), ())
    with pytest.raises(TypeError, match="to be weighed by, which ols has not"):
        BayesMixture((OLS(),), (1.0,))
    with pytest.raises(ValueError, match="prior of as many numbers, not 1"):
        BayesMixture((BayesLinear(), BayesLinear()), (1.0,))
    for prior in ((0.5, 0.6), (1.5, -0.5), (math.nan, 1.0)):
        with pytest.raises(ValueError, match="sum to 1"):
            BayesMixture((BayesLinear(), BayesLinear()), prior)
    with pytest.raises(TypeError, match="Normal or a mixture of them, not Signs"):
        Parts.of(Signs(torch.zeros(1, 1)))
