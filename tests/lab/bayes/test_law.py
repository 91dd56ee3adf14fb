"""Predictive laws: scores and the integral transform, where the truth is known.

Every p-value is refused below 1e-6 only, so that these tests alarm falsely less than once in 10^5 runs; of 2,000 draws
in 20 bins, 100 each, a shift of a fifth of a standard deviation gives p below 1e-12.
"""

import math

import pytest
import torch

from microtome.lab.bayes import (
    BayesLinear,
    Odds,
    Prediction,
    Probabilistic,
    Signs,
    gaussian,
    integral_transform,
    log_score,
    uniformity,
)
from microtome.lab.tasks import LinearRegression

NARROW = 1e-6


@pytest.mark.parametrize("point", [0, 3, 9])
def test_bayes_of_a_linear_law_is_calibrated_and_others_are_not(point: int, generator: torch.Generator) -> None:
    prompt = LinearRegression(4, noise_std=0.5).sample(2000, 10, generator)

    def at(predictor: Probabilistic) -> float:
        law = predictor.law(prompt.xs, prompt.ys)
        return uniformity(integral_transform(law, prompt.ys, generator)[:, point])

    assert at(BayesLinear(0.5)) > NARROW
    assert at(BayesLinear(0.5, prior_std=2.0) if point == 0 else BayesLinear(1.0)) < NARROW


def test_signs_against_the_definition(generator: torch.Generator) -> None:
    law = Signs(torch.tensor([[-1.0, -0.5, 0.0, 1.0]], dtype=torch.float64))
    plus = torch.ones(1, 4, dtype=torch.float64)
    expected = torch.tensor([[0, 0.25, 0.5, 1]]).double()
    torch.testing.assert_close(law.log_prob(plus).exp(), expected)
    torch.testing.assert_close(law.log_prob(-plus).exp(), 1 - expected)
    torch.testing.assert_close(law.cdf(-plus), 1 - expected)
    assert torch.equal(law.cdf(plus), plus)
    assert not law.cdf(plus - 3).any()
    torch.testing.assert_close(law.variance, 1 - law.mean**2)


def test_transform_of_signs_is_uniform_under_their_own_law_only(generator: torch.Generator) -> None:
    plus = torch.rand(2000, 1, generator=generator, dtype=torch.float64)
    ys = torch.where(torch.rand(2000, 1, generator=generator) < plus, 1.0, -1.0)
    assert uniformity(integral_transform(Signs(2 * plus - 1), ys, generator)[:, 0]) > NARROW
    assert uniformity(integral_transform(Signs(plus), ys, generator)[:, 0]) < NARROW


def test_log_score_is_the_normal_density() -> None:
    law = gaussian(Prediction(torch.tensor([[1.0]]), torch.tensor([[4.0]])))
    wanted = -0.5 * math.log(2 * math.pi * 4) - 0.5 * (3 - 1) ** 2 / 4
    assert log_score(law, torch.tensor([[3.0]])).item() == pytest.approx(wanted)


def test_odds_of_a_logit() -> None:
    class Learner:
        name = "learner"

        def predict(self, xs, ys):
            return Prediction(ys)

    logits = torch.tensor([[0.0, 2.0, -40.0]])
    said = Odds(Learner()).predict(torch.zeros(1, 3, 1), logits)
    torch.testing.assert_close(said.mean, 2 * torch.sigmoid(logits) - 1)
    assert isinstance(Odds(Learner()), Probabilistic)


@pytest.mark.usefixtures("untyped")
def test_bad_calls_get_a_sentence() -> None:
    with pytest.raises(ValueError, match="without variance has no law"):
        gaussian(Prediction(torch.zeros(1, 1)))
    with pytest.raises(ValueError, match="20 bins need at least 100 draws, not 99"):
        uniformity(torch.zeros(99))
