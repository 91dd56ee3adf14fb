"""Written weights as predictors (Akyürek et al. 2023): the same measures, the same answers, the same refusals."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from microtome.lab import zoo
from microtome.lab.bayes import SGD, GradientDescent, Predictor, Ridge, ilwd, mspd, spd
from microtome.lab.tasks import LinearRegression
from microtome.theory.constructions.icl_linear_algorithms import (
    Scales,
    constructed_descent,
    constructed_ridge,
    constructed_sgd,
    direct_gradient_step,
    gradient_step,
    gradient_steps,
)
from microtome.theory.statements import icl_linear_algorithms_predictors_numeric as statement

DIM, POINTS, BATCH = 3, 5, 12
PAIRS = {
    "one step": (constructed_descent(1, 0.05), GradientDescent(1, 0.05)),
    "four steps": (constructed_descent(4, 0.05), GradientDescent(4, 0.05)),
    "stochastic": (constructed_sgd(0.05), SGD(0.05)),
    "stochastic with decay": (constructed_sgd(0.05, 0.25), SGD(0.05, 0.25)),
    "ridge": (constructed_ridge(1.0), Ridge(1.0)),
}
every_pair = pytest.mark.parametrize(("constructed", "algorithm"), PAIRS.values(), ids=PAIRS)


@pytest.fixture
def prompt(generator):
    return LinearRegression(DIM, noise_std=0.5).sample(BATCH, POINTS, generator, dtype=torch.float64)


@every_pair
def test_a_construction_predicts_as_its_algorithm(constructed, algorithm, prompt) -> None:
    assert isinstance(constructed, Predictor)
    got, wanted = (each.predict(prompt.xs, prompt.ys).mean for each in (constructed, algorithm))
    torch.testing.assert_close(got, wanted, atol=1e-6, rtol=0)
    assert (got[:, 0] == 0).all()
    assert mspd(constructed.predict(prompt.xs, prompt.ys), algorithm.predict(prompt.xs, prompt.ys), DIM) < 1e-12


@every_pair
@pytest.mark.parametrize("pairs", [1, 4])
def test_its_implicit_weights_are_the_algorithm_s(constructed, algorithm, pairs, prompt, generator) -> None:
    xs, ys = prompt.xs[:6, :pairs], prompt.ys[:6, :pairs]
    queries = torch.randn(6, 2 * DIM, DIM, generator=generator, dtype=torch.float64)
    assert ilwd(constructed, algorithm, xs, ys, queries) < 1e-12
    assert ilwd(constructed, Ridge(50.0), xs, ys, queries) > 1e-4, "another algorithm is told apart"


@every_pair
def test_relu_in_place_of_gelu_is_another_predictor(constructed, algorithm, prompt) -> None:
    spoilt = replace(constructed, activation=F.relu).predict(prompt.xs, prompt.ys)
    assert mspd(spoilt, algorithm.predict(prompt.xs, prompt.ys), DIM) > 1e-2


@every_pair
def test_a_later_pair_and_the_own_label_are_not_seen(constructed, algorithm, prompt) -> None:
    before = constructed.predict(prompt.xs, prompt.ys).mean
    for j in (0, 2, POINTS - 1):
        xs, ys = prompt.xs.clone(), prompt.ys.clone()
        xs[:, j + 1 :] += 1.0
        ys[:, j:] -= 3.0
        assert torch.equal(constructed.predict(xs, ys).mean[:, : j + 1], before[:, : j + 1])


@every_pair
def test_learners_lie_as_far_from_the_construction_as_from_the_algorithm(constructed, algorithm, prompt) -> None:
    """A learner held against written weights is held against the algorithm, whatever the learner."""
    learner = zoo.build("icl_linear_algorithms", n_layers=1, d_model=16, n_heads=1, dim=DIM, points=POINTS)
    xs, ys = prompt.xs.float(), prompt.ys.float()
    said = learner.predict(xs, ys)
    distances = [spd(said, each.predict(xs, ys), DIM) for each in (constructed, algorithm)]
    torch.testing.assert_close(*distances, atol=1e-5, rtol=1e-5)
    assert (distances[0][1:] > 1e-3).all()


def test_the_error_falls_with_s(prompt) -> None:
    """About a hundredfold per tenfold s, as that of one product."""
    wanted = GradientDescent(4, 0.05).predict(prompt.xs, prompt.ys).mean
    errors = [
        (replace(PAIRS["four steps"][0], scales=Scales(s)).predict(prompt.xs, prompt.ys).mean - wanted).abs().max()
        for s in (1e2, 1e3, 1e4)
    ]
    assert 50 < errors[0] / errors[1] < 200
    assert 50 < errors[1] / errors[2] < 200


def test_many_steps_begin_as_one_and_count_their_layers(prompt, generator) -> None:
    start = torch.randn(DIM, generator=generator, dtype=torch.float64)
    xs, ys, query = prompt.xs[:, :4], prompt.ys[:, :4], prompt.xs[:, 4]
    one = gradient_steps(4, 1, 0.05, 0.25, start)
    torch.testing.assert_close(
        one.interpret(xs, ys, query), gradient_step(4, 0.05, 0.25, start).interpret(xs, ys, query)
    )
    w = start
    for steps in (1, 2, 3):
        w = torch.stack([direct_gradient_step(x, y, 0.05, 0.25, v) for x, y, v in zip(xs, ys, _each(w), strict=True)])
        construction = gradient_steps(4, steps, 0.05, 0.25, start)
        torch.testing.assert_close(construction.interpret(xs, ys, query), (w * query).sum(-1), atol=1e-12, rtol=0)
        torch.testing.assert_close(construction.predict(xs, ys, query), (w * query).sum(-1), atol=1e-6, rtol=0)
        assert len(construction.program) == 7 + 3 * steps
    assert len(gradient_steps(9, 2, 0.05, 0.0, start).program) == 13, "whatever the number of examples"


def _each(w: torch.Tensor) -> torch.Tensor:
    return w.expand(BATCH, -1) if w.ndim == 1 else w


def test_the_window_code_of_the_paper_is_not_one_step(prompt) -> None:
    """n steps on growing prefixes (the paper's code) and one step on all pairs (its text) are two algorithms."""
    one, passed = (each.predict(prompt.xs, prompt.ys) for each in (constructed_descent(1, 0.05), constructed_sgd(0.05)))
    torch.testing.assert_close(one.mean[:, 1], passed.mean[:, 1], atol=1e-6, rtol=0)
    assert spd(one, passed, DIM)[POINTS - 1] > 1e-3


def test_one_prompt_of_one_point_and_single_precision() -> None:
    single = constructed_ridge(1.0).predict(torch.ones(1, 1, 2), torch.ones(1, 1))
    assert single.mean.tolist() == [[0.0]]
    assert single.mean.dtype == torch.float32
    assert single.variance is None


@pytest.mark.usefixtures("untyped")
def test_bad_input_gets_a_sentence(prompt) -> None:
    with pytest.raises(ValueError, match="gradient descent of 0 steps; there must be at least 1"):
        constructed_descent(0, 0.1).predict(prompt.xs, prompt.ys)
    with pytest.raises(ValueError, match="it must be positive"):
        constructed_ridge(0.0).predict(prompt.xs, prompt.ys)
    with pytest.raises(ValueError, match="with the same batch and points"):
        constructed_ridge(1.0).predict(prompt.xs, prompt.ys[:, :-1])
    with pytest.raises(ValueError, match="must be finite"):
        constructed_ridge(1.0).predict(prompt.xs / 0, prompt.ys)


def test_the_statement_holds_and_its_control_fails() -> None:
    (claim,) = statement.CLAIMS
    evidence = claim.run(budget="quick", seed=1)
    assert evidence.verdict == "holds", evidence.to_json()
    assert not any(check.passes for check in evidence.control.checks)
