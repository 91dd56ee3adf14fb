"""Which algorithm a predictor follows: known ones are recognised as themselves, and the tuned step is the best."""

import math
from dataclasses import replace

import pytest
import torch

from microtome.lab.bayes import OLS, BayesLinear, GradientDescent, Ridge, ilwd, mspd, squared_error
from microtome.lab.bayes.nearest import FAMILIES, Algorithm, algorithms, best_step, compare
from microtome.lab.tasks import LinearRegression

DIM, POINTS = 3, 6
NOISES = (0.0, 0.25, 0.5, 1.0)


def drawn(noise: float, generator: torch.Generator, batch: int = 64):
    prompt = LinearRegression(DIM, noise).sample(batch, POINTS, generator, dtype=torch.float64)
    queries = torch.randn(16, 2 * DIM, DIM, generator=generator, dtype=torch.float64)
    return prompt.xs, prompt.ys, queries


@pytest.mark.parametrize("noise", NOISES)
def test_each_known_algorithm_is_itself(noise: float, generator: torch.Generator) -> None:
    xs, ys, queries = drawn(noise, generator)
    among = algorithms(xs, ys, noise)
    for algorithm in among:
        found = compare(algorithm.predictor, among, xs, ys, queries)
        for nearest, distances in ((found.nearest, found.predictions), (found.nearest_by_weights, found.weights)):
            assert nearest.label == algorithm.label
            assert distances[algorithm.label] < 1e-12
            assert sorted(distances.values())[1] > 1e-4, "the next one is told apart"


def test_distances_are_the_lab_s_measures(generator: torch.Generator) -> None:
    xs, ys, queries = drawn(0.5, generator)
    among = algorithms(xs, ys, 0.5)
    found = compare(Ridge(2.0), among, xs, ys, queries)
    for algorithm in among:
        said, wanted = Ridge(2.0).predict(xs, ys), algorithm.predictor.predict(xs, ys)
        assert found.predictions[algorithm.label] == pytest.approx(mspd(said, wanted, DIM).item())
        each = [ilwd(Ridge(2.0), algorithm.predictor, xs[:16, :k], ys[:16, :k], queries) for k in range(1, DIM)]
        assert found.weights[algorithm.label] == pytest.approx(torch.stack(each).mean().item())


@pytest.mark.parametrize("noise", NOISES)
def test_no_two_candidates_are_the_same_predictor(noise: float, generator: torch.Generator) -> None:
    xs, ys, _ = drawn(noise, generator)
    among = algorithms(xs, ys, noise)
    answers = [algorithm.predictor.predict(xs, ys).mean for algorithm in among]
    for at, one in enumerate(answers):
        assert all((one - other).abs().max() > 1e-3 for other in answers[at + 1 :])
    assert {algorithm.family for algorithm in among} == set(FAMILIES) - ({"least squares"} if noise == 0 else set())


def test_bayes_stands_for_its_own_ridge_and_for_least_squares(generator: torch.Generator) -> None:
    xs, ys, queries = drawn(0.5, generator)
    noisy, clean = algorithms(xs, ys, 0.5), algorithms(xs, ys, 0.0)
    assert "ridge λ=0.25" not in {algorithm.label for algorithm in noisy}
    assert compare(Ridge(0.25), noisy, xs, ys, queries).nearest.family == "Bayes"
    assert compare(OLS(), clean, xs, ys, queries).nearest.family == "Bayes"
    assert compare(BayesLinear(0.5), clean, xs, ys, queries).nearest.label == "ridge λ=0.25"


def test_the_tuned_step_is_the_best(generator: torch.Generator) -> None:
    xs, ys, _ = drawn(0.5, generator, batch=500)
    step = best_step(xs, ys)

    def risk(alpha: float) -> float:
        return squared_error(GradientDescent(1, alpha).predict(xs, ys), ys)[:, 1:].mean().item()

    assert risk(step) < min(risk(step * (1 + change)) for change in (-0.05, 0.05, -0.5, 1.0))


def test_the_step_is_tuned_where_algorithms_are_compared(generator: torch.Generator) -> None:
    xs, ys, _ = drawn(0.5, generator, batch=500)
    (tuned,) = [a.predictor for a in algorithms(xs, ys, 0.5) if a.family == "gradient descent"]
    assert tuned.step_size == pytest.approx(best_step(xs[:, :DIM], ys[:, :DIM]))
    assert tuned.step_size > best_step(xs, ys), "fewer pairs leave room for a longer step"


@pytest.mark.usefixtures("untyped")
def test_bad_input_gets_a_sentence(generator: torch.Generator) -> None:
    xs, ys, queries = drawn(0.5, generator)
    among = algorithms(xs, ys, 0.5)
    with pytest.raises(ValueError, match="at least one, of different labels"):
        compare(OLS(), (), xs, ys, queries)
    with pytest.raises(ValueError, match="at least one, of different labels"):
        compare(OLS(), (among[0], replace(among[0])), xs, ys, queries)
    with pytest.raises(ValueError, match="at most the 8 prompts, not 16"):
        compare(OLS(), among, xs[:8], ys[:8], queries)
    with pytest.raises(ValueError, match="no gradient step helps"):
        best_step(xs, torch.zeros_like(ys))
    with pytest.raises(ValueError, match="no gradient step helps"):
        best_step(xs[:, :1], ys[:, :1])
    with pytest.raises(ValueError, match="dim must be at least 2"):
        compare(OLS(), among, xs[..., :1], ys, queries[..., :1])
    with pytest.raises(ValueError, match="must be finite"):
        best_step(xs, ys * math.nan)
    assert Algorithm("Bayes", "", OLS()).label == "Bayes"
