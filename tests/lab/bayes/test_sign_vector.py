"""The posterior over sign vectors against Bayes' rule, vector by vector.

Calibration is refused below p = 1e-6 only (2,000 independent prompts at one position); of log scores the paired gap is
held against 5 standard errors, which chance exceeds with probability below 1e-6.
"""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.stats import norm

from microtome.lab.bayes import OLS, BayesLinear, Probabilistic, integral_transform, squared_error, uniformity
from microtome.lab.bayes.sign_vector import SignVectorPosterior

SCALE = 0.7


def prompts(dim, batch, points, noise_std, generator, dtype=torch.float64):
    w = SCALE * (torch.randint(2, (batch, dim), generator=generator).to(dtype) * 2 - 1)
    xs = torch.randn(batch, points, dim, generator=generator, dtype=dtype)
    noise = noise_std * torch.randn(batch, points, generator=generator, dtype=dtype)
    return xs, (xs @ w[..., None])[..., 0] + noise, w


def test_equals_bayes_rule_vector_by_vector(generator):
    xs, ys, _ = prompts(4, 3, 6, 0.5, generator)
    posterior = SignVectorPosterior(4, 0.5, SCALE).posterior(xs, ys)
    vectors = SCALE * np.array(list(itertools.product((-1.0, 1.0), repeat=4)))
    for b, k in np.ndindex(3, 6):
        x, y = xs[b, :k].numpy(), ys[b, :k].numpy()
        likelihood = np.array([norm.pdf(y, x @ w, 0.5).prod() for w in vectors])
        p = likelihood / likelihood.sum()
        answers = vectors @ xs[b, k].numpy()
        assert posterior.weights[b, k].numpy() == pytest.approx(p @ vectors, rel=1e-9, abs=1e-12)
        assert posterior.prediction.mean[b, k].item() == pytest.approx(p @ answers, rel=1e-9, abs=1e-12)
        spread = p @ (answers - p @ answers) ** 2
        assert posterior.prediction.variance[b, k].item() == pytest.approx(spread + 0.25, rel=1e-9)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_without_noise_two_pairs_tell_all(dtype, tolerance, generator):
    """Two of 256 answers to one question may be within 1e-6 of each other; the same two to two questions are not."""
    xs, ys, w = prompts(8, 32, 5, 0.0, generator, dtype)
    predictor = SignVectorPosterior(8, 0.0, SCALE)
    weights = predictor.weights(xs, ys)
    torch.testing.assert_close(weights[:, 2:], w[:, None].expand(-1, 3, -1), rtol=tolerance, atol=tolerance)
    assert weights[:, 0].abs().max() < 1e-12
    assert squared_error(OLS().predict(xs, ys), ys)[:, 2].mean() > 1.0


@pytest.mark.parametrize("point", [0, 2, 7])
def test_is_calibrated(point, generator):
    xs, ys, _ = prompts(4, 2000, 8, 0.5, generator)

    def p_value(predictor: Probabilistic) -> float:
        return uniformity(integral_transform(predictor.law(xs, ys), ys, generator)[:, point])

    assert p_value(SignVectorPosterior(4, 0.5, SCALE)) > 1e-6
    assert p_value(SignVectorPosterior(4, 1.0, SCALE)) < 1e-6


def test_log_score_beats_other_laws(generator):
    xs, ys, _ = prompts(4, 2000, 8, 0.5, generator)
    own = SignVectorPosterior(4, 0.5, SCALE).law(xs, ys).log_prob(ys)
    others = (
        BayesLinear(0.5, SCALE),
        BayesLinear(0.5),
        SignVectorPosterior(4, 0.5),
        SignVectorPosterior(4, 0.8, SCALE),
    )
    for other in others:
        gap = (own - other.law(xs, ys).log_prob(ys)).mean(1)
        assert gap.mean() > 5 * gap.std() / math.sqrt(len(gap)), other.name


def test_vectors_come_in_blocks(generator):
    """Thirteen dimensions take two blocks of 4,096 vectors."""
    xs, ys, _ = prompts(13, 2, 6, 0.5, generator)
    predictor = SignVectorPosterior(13, 0.5, SCALE)
    law, said = predictor.law(xs, ys), predictor.predict(xs, ys)
    torch.testing.assert_close(said.mean, law.mean, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(said.variance, law.variance, rtol=1e-9, atol=1e-9)


def test_too_many_get_a_sentence_that_says_what_to_use():
    with pytest.raises(ValueError, match=r"2\^21 sign vectors.*SignVectorGibbs.*BayesLinear\(noise_std=0.1, prior"):
        SignVectorPosterior(21, 0.1)
    with pytest.raises(ValueError, match="dim must be at least 1"):
        SignVectorPosterior(0)
    with pytest.raises(ValueError, match="in 3 dimensions, but xs has 4"):
        SignVectorPosterior(3).predict(torch.zeros(1, 2, 4), torch.zeros(1, 2))
