"""Measures against their definitions, and the bootstrap against what it should cover."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import binom, bootstrap

from microtome.lab import bayes
from microtome.lab.bayes import Prediction
from microtome.lab.tasks import LinearRegression

TASK = LinearRegression(4, noise_std=0.5)


def test_squared_error_keeps_prompts_and_positions() -> None:
    prediction = Prediction(torch.tensor([[1.0, 2.0], [0.0, -1.0]]))
    assert bayes.squared_error(prediction, torch.tensor([[0.0, 2.0], [3.0, 1.0]])).tolist() == [
        [1, 0],
        [9, 4],
    ]


def test_spd_and_mspd_are_their_definitions() -> None:
    a, b = Prediction(torch.tensor([[0.0, 1, 2, 3], [0, 0, 0, 0]])), Prediction(torch.zeros(2, 4))
    torch.testing.assert_close(bayes.spd(a, b, dim=3), torch.tensor([0, 1, 4, 9]) / 2 / 3)
    torch.testing.assert_close(bayes.mspd(a, b, dim=3), torch.tensor((1 + 4) / 2 / 6))  # k = 1, 2


def test_implicit_weights_of_a_linear_predictor_are_its_weights(generator: torch.Generator) -> None:
    prompt = TASK.sample(5, 7, generator, dtype=torch.float64)
    queries = torch.randn(5, 9, 4, generator=generator, dtype=torch.float64)
    for predictor in (bayes.OLS(), bayes.Ridge(0.25), bayes.Averaging(), bayes.SGD(0.02)):
        shown = torch.cat([prompt.xs, queries[:, :1]], dim=1)
        expected = predictor.weights(shown, torch.nn.functional.pad(prompt.ys, (0, 1)))[:, -1]
        fitted = bayes.implicit_weights(predictor, prompt.xs, prompt.ys, queries)
        torch.testing.assert_close(fitted, expected, rtol=1e-9, atol=1e-9)


def test_implicit_weights_fit_a_predictor_that_is_not_linear(generator: torch.Generator) -> None:
    prompt = TASK.sample(3, 7, generator, dtype=torch.float64)
    queries = torch.randn(3, 30, 4, generator=generator, dtype=torch.float64)
    fitted = bayes.implicit_weights(bayes.KNN(3), prompt.xs, prompt.ys, queries)
    for b in range(3):
        answers = [
            bayes.KNN(3)
            .predict(
                torch.cat([prompt.xs[b], query[None]])[None],
                torch.cat([prompt.ys[b], query.new_zeros(1)])[None],
            )
            .mean[0, -1]
            for query in queries[b]
        ]
        expected = np.linalg.lstsq(queries[b].numpy(), np.array(answers), rcond=None)[0]
        assert fitted[b].numpy() == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_ilwd_is_the_squared_distance_of_implicit_weights(generator: torch.Generator) -> None:
    prompt = TASK.sample(5, 7, generator, dtype=torch.float64)
    queries = torch.randn(5, 9, 4, generator=generator, dtype=torch.float64)
    ridge, ols = (bayes.implicit_weights(p, prompt.xs, prompt.ys, queries) for p in (bayes.Ridge(1.0), bayes.OLS()))
    measured = bayes.ilwd(bayes.Ridge(1.0), bayes.OLS(), prompt.xs, prompt.ys, queries)
    torch.testing.assert_close(measured, (ridge - ols).square().sum(1).mean() / 4)
    assert bayes.ilwd(bayes.OLS(), bayes.OLS(), prompt.xs, prompt.ys, queries) < 1e-25


def test_excess_risk_is_paired_and_its_interval_agrees_with_scipy(generator: torch.Generator) -> None:
    prompt = TASK.sample(300, 10, generator, dtype=torch.float64)
    ridge, exact = (p.predict(prompt.xs, prompt.ys) for p in (bayes.Ridge(4.0), TASK.bayes()))
    measured = bayes.excess_risk(ridge, exact, prompt.ys, generator, resamples=4000)
    excess = bayes.squared_error(ridge, prompt.ys) - bayes.squared_error(exact, prompt.ys)
    torch.testing.assert_close(measured.mean, excess.mean(0))
    reference = bootstrap(
        (excess.numpy(),), np.mean, n_resamples=4000, method="percentile", vectorized=True, rng=0
    ).confidence_interval
    # An end of a percentile interval is a sample quantile: its standard error is √(p(1 − p)/n)/density = 0.04
    # standard errors of the mean for n = 4000, p = 0.025; two of them differ by more than 0.3 with
    # probability below 1e-6.
    scale = excess.std(0) / math.sqrt(300)
    assert ((measured.low - torch.tensor(reference.low)).abs() <= 0.3 * scale).all()
    assert ((measured.high - torch.tensor(reference.high)).abs() <= 0.3 * scale).all()


def test_interval_covers_as_often_as_it_says(generator: torch.Generator) -> None:
    """200 positions of independent normal errors: the count of intervals that cover the truth is nearly binomial.

    The bootstrap of 400 values covers 95 % to within half a percent, so that a count outside what 94 % to 96 %
    allow has a false-alarm rate below 1e-4.
    """
    batch, points, truth = 400, 200, 0.3
    excess = truth + torch.randn(batch, points, generator=generator, dtype=torch.float64)
    zero = torch.zeros(batch, points, dtype=torch.float64)
    # Squared errors whose difference is `excess`: with the label 0, predictions of the square roots.
    shift = excess.clamp(max=0).neg()
    a, b = Prediction((excess + shift).sqrt()), Prediction(shift.sqrt())
    interval = bayes.excess_risk(a, b, zero, generator)
    covered = int(((interval.low <= truth) & (truth <= interval.high)).sum())
    assert binom.ppf(2e-5, points, 0.94) <= covered <= binom.ppf(1 - 2e-5, points, 0.96)
    assert covered < points


def test_excess_risk_of_the_exact_answer_is_zero(generator: torch.Generator) -> None:
    prompt = TASK.sample(20, 6, generator)
    exact = TASK.bayes().predict(prompt.xs, prompt.ys)
    interval = bayes.excess_risk(exact, exact, prompt.ys, generator)
    assert not torch.cat([interval.mean, interval.low, interval.high]).any()


def test_bootstrap_is_decided_by_the_generator() -> None:
    generator = torch.Generator().manual_seed(0)
    prompt = TASK.sample(20, 6, generator)
    a, b = (p.predict(prompt.xs, prompt.ys) for p in (bayes.OLS(), TASK.bayes()))
    state = generator.get_state()
    first = bayes.excess_risk(a, b, prompt.ys, generator)
    assert not torch.equal(bayes.excess_risk(a, b, prompt.ys, generator).low, first.low)
    generator.set_state(state)
    assert torch.equal(bayes.excess_risk(a, b, prompt.ys, generator).low, first.low)


@pytest.mark.usefixtures("untyped")
def test_bad_input_gets_a_sentence(generator: torch.Generator) -> None:
    two, three = Prediction(torch.zeros(2, 5)), Prediction(torch.zeros(3, 5))
    ys, context, queries = torch.zeros(2, 5), torch.ones(2, 5, 4), torch.ones(2, 3, 4)
    cases = [
        (lambda: bayes.squared_error(three, ys), r"prediction and ys .* not \[3, 5\] and \[2, 5\]"),
        (lambda: bayes.spd(two, three, 4), r"a and b must be of the same prompts"),
        (lambda: bayes.spd(two, two, 0), "dim must be at least 1, not 0"),
        (lambda: bayes.mspd(two, two, 1), "dim must be at least 2 and at most the 5 points"),
        (lambda: bayes.mspd(two, two, 6), "at most the 5 points of these prompts, not 6"),
        (lambda: bayes.excess_risk(two, two, ys, generator, level=1.0), "level must lie between 0 and 1"),
        (lambda: bayes.excess_risk(two, two, ys, generator, resamples=1), "resamples be at least 2"),
        (
            lambda: bayes.excess_risk(Prediction(ys[:1]), Prediction(ys[:1]), ys[:1], generator),
            "at least two of them, not 1",
        ),
        (lambda: bayes.ilwd(bayes.OLS(), bayes.OLS(), context, ys, queries), "at least 4 queries, not 3"),
        (lambda: bayes.ilwd(bayes.OLS(), bayes.OLS(), context, ys, queries[:1]), r"\[2 queries 4\]"),
        (lambda: bayes.ilwd(bayes.OLS(), bayes.OLS(), context[:, :0], ys[:, :0], queries), "one point"),
    ]
    for call, sentence in cases:
        with pytest.raises(ValueError, match=sentence):
            call()


def test_errors_of_signs_count_silence() -> None:
    said = Prediction(torch.tensor([[0.2, -3.0, 0.0, 1.0]]))
    assert bayes.zero_one_error(said, torch.tensor([[1.0, 1.0, 1.0, -1.0]])).tolist() == [[0, 1, 1, 1]]
    with pytest.raises(ValueError, match="labels must be −1 or \\+1"):
        bayes.zero_one_error(said, torch.tensor([[1.0, 0.5, 1.0, -1.0]]))


def test_points_to_reach_a_level_for_good() -> None:
    curve = torch.tensor([0.5, 0.9, 0.7, 0.9, 0.95])
    assert bayes.points_to_reach(curve, 0.8) == 3
    assert bayes.points_to_reach(curve, 0.5) == 0
    assert bayes.points_to_reach(curve, 0.96) is None
