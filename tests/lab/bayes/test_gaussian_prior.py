"""The general Gaussian prior against conditioning of the joint law, written out.

Calibration is refused below p = 1e-6 only (2,000 independent prompts at one position); of log scores the paired gap is
held against 5 standard errors, which chance exceeds with probability below 1e-6.
"""

import math

import numpy as np
import pytest
import torch

from microtome.lab.bayes import OLS, BayesLinear, LinearPredictor, Probabilistic, integral_transform, uniformity
from microtome.lab.bayes.gaussian_prior import BayesGaussian

MEAN = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
COVARIANCE = torch.tensor([[1.0, 0.4, 0.0], [0.4, 0.5, -0.2], [0.0, -0.2, 2.0]], dtype=torch.float64)
SINGULAR = torch.diag(torch.tensor([1.0, 0.0, 1e-8], dtype=torch.float64))


def prompts(batch, points, covariance, noise_std, generator):
    values, vectors = torch.linalg.eigh(covariance)
    w = MEAN + torch.randn(batch, 3, generator=generator, dtype=torch.float64) * values.clamp(min=0).sqrt() @ vectors.mT
    xs = torch.randn(batch, points, 3, generator=generator, dtype=torch.float64)
    noise = noise_std * torch.randn(batch, points, generator=generator, dtype=torch.float64)
    return xs, (xs @ w[..., None])[..., 0] + noise


def conditioned(x, y, query, covariance, noise_std):
    """Mean and variance of the query's label, from the joint normal law of all labels."""
    mean, everything = MEAN.numpy(), np.vstack([x, query])
    joint = everything @ covariance.numpy() @ everything.T + noise_std**2 * np.eye(len(everything))
    gain = np.linalg.pinv(joint[:-1, :-1], rcond=1e-13) @ joint[:-1, -1]
    return query @ mean + gain @ (y - x @ mean), joint[-1, -1] - gain @ joint[:-1, -1]


@pytest.mark.parametrize(("covariance", "noise_std"), [(COVARIANCE, 0.3), (COVARIANCE, 0.0), (SINGULAR, 0.5)])
def test_equals_conditioning(covariance, noise_std, generator):
    xs, ys = prompts(3, 6, covariance, noise_std, generator)
    said = BayesGaussian(MEAN, covariance, noise_std).predict(xs, ys)
    for b, k in np.ndindex(3, 3 if noise_std == 0 else 6):
        mean, variance = conditioned(xs[b, :k].numpy(), ys[b, :k].numpy(), xs[b, k].numpy(), covariance, noise_std)
        assert said.mean[b, k].item() == pytest.approx(mean, rel=1e-8, abs=1e-9)
        assert said.variance[b, k].item() == pytest.approx(variance, rel=1e-7, abs=1e-9)


def test_zero_mean_and_identity_are_dense_regression(generator):
    xs, ys = prompts(3, 6, COVARIANCE, 0.5, generator)
    same = BayesGaussian(torch.zeros(3), torch.eye(3), 0.5)
    for a, b in ((same.predict(xs, ys), BayesLinear(0.5).predict(xs, ys)),):
        torch.testing.assert_close(a.mean, b.mean)
        torch.testing.assert_close(a.variance, b.variance)
    torch.testing.assert_close(same.weights(xs, ys), BayesLinear(0.5).weights(xs, ys))


def test_weights_begin_at_the_prior_mean_and_carry_the_prediction(generator):
    xs, ys = prompts(3, 6, COVARIANCE, 0.5, generator)
    predictor = BayesGaussian(MEAN, COVARIANCE, 0.5)
    weights = predictor.weights(xs, ys)
    assert isinstance(predictor, LinearPredictor)
    torch.testing.assert_close(weights[:, 0], MEAN.expand(3, 3))
    torch.testing.assert_close((weights * xs).sum(-1), predictor.predict(xs, ys).mean)


def test_without_noise_it_finds_the_weights(generator):
    xs, ys = prompts(8, 6, COVARIANCE, 0.0, generator)
    said = BayesGaussian(MEAN, COVARIANCE).predict(xs, ys)
    torch.testing.assert_close(said.mean[:, 3:], ys[:, 3:])
    assert said.variance[:, 3:].max() < 1e-12


@pytest.mark.parametrize("point", [0, 2, 7])
def test_is_calibrated(point, generator):
    xs, ys = prompts(2000, 8, COVARIANCE, 0.5, generator)

    def p_value(predictor: Probabilistic) -> float:
        return uniformity(integral_transform(predictor.law(xs, ys), ys, generator)[:, point])

    assert p_value(BayesGaussian(MEAN, COVARIANCE, 0.5)) > 1e-6
    assert p_value(BayesGaussian(MEAN, COVARIANCE, 1.0)) < 1e-6


def test_log_score_beats_other_priors(generator):
    xs, ys = prompts(2000, 8, COVARIANCE, 0.5, generator)
    own = BayesGaussian(MEAN, COVARIANCE, 0.5).law(xs, ys).log_prob(ys)
    others = (
        BayesLinear(0.5),
        BayesLinear(0.5, 3.0),
        BayesGaussian(MEAN, torch.eye(3), 0.5),
        BayesGaussian(torch.zeros(3), COVARIANCE, 0.5),
    )
    for other in others:
        gap = (own - other.law(xs, ys).log_prob(ys)).mean(1)
        assert gap.mean() > 5 * gap.std() / math.sqrt(len(gap))
    best = (BayesGaussian(MEAN, COVARIANCE, 0.5).predict(xs, ys).mean - ys).square()
    gap = ((OLS().predict(xs, ys).mean - ys).square() - best)[:, 1]  # at k = d the square of least squares has no mean
    assert gap.mean() > 5 * gap.std() / math.sqrt(len(gap))


REFUSED = {
    "shapes": (torch.zeros(2), torch.eye(3), 0.0, r"not \[2\] and \[3, 3\]"),
    "no covariance": (torch.zeros(2), torch.tensor([[1.0, 2.0], [2.0, 1.0]]), 0.0, "no eigenvalue below 0"),
    "not symmetric": (torch.zeros(2), torch.tensor([[1.0, 0.5], [0.0, 1.0]]), 0.0, "symmetric"),
    "a NaN": (torch.tensor([0.0, torch.nan]), torch.eye(2), 0.0, "finite"),
    "noise": (torch.zeros(2), torch.eye(2), -1.0, "noise_std"),
}


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
def test_bad_laws_get_a_sentence(case):
    mean, covariance, noise_std, sentence = case
    with pytest.raises(ValueError, match=sentence):
        BayesGaussian(mean, covariance, noise_std)


def test_other_dimension_gets_a_sentence():
    with pytest.raises(ValueError, match="weights have 3 dimensions, but xs has 4"):
        BayesGaussian(MEAN, COVARIANCE).predict(torch.zeros(1, 2, 4), torch.zeros(1, 2))
