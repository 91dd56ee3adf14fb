"""Classical predictors against scikit-learn and against their recursions written out."""

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsRegressor
from torch import Tensor

from microtome.lab import bayes

DIM, POINTS, BATCH = 4, 12, 3


@pytest.fixture
def prompt(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    xs = torch.randn(BATCH, POINTS, DIM, generator=generator, dtype=torch.float64)
    return xs, torch.randn(BATCH, POINTS, generator=generator, dtype=torch.float64)


WEIGHTS = {
    "uniform": "uniform",
    "inverse": "distance",
    "inverse_square": lambda distance: 1 / distance**2,
}


@pytest.mark.parametrize("k", [1, 3, POINTS + 5])
@pytest.mark.parametrize("weighting", WEIGHTS)
def test_knn_equals_sklearn(k: int, weighting: str, prompt: tuple[Tensor, Tensor]) -> None:
    xs, ys = prompt
    mean = bayes.KNN(k, weighting).predict(xs, ys).mean
    for b, i in np.ndindex(BATCH, POINTS):
        if i > 0:
            neighbours = KNeighborsRegressor(min(k, i), weights=WEIGHTS[weighting])
            expected = neighbours.fit(xs[b, :i].numpy(), ys[b, :i].numpy()).predict(xs[b, i : i + 1].numpy())
            assert mean[b, i].item() == pytest.approx(expected.item(), rel=1e-12)


@pytest.mark.parametrize("weighting", ["inverse", "inverse_square"])
def test_coincident_neighbours_take_all_the_weight(weighting: str, prompt: tuple[Tensor, Tensor]) -> None:
    xs, ys = prompt
    xs += 1000  # where distances from inner products would miss zero
    xs[:, 5] = xs[:, 3] = xs[:, 1]
    mean = bayes.KNN(3, weighting).predict(xs, ys).mean
    torch.testing.assert_close(mean[:, 3], ys[:, 1])
    torch.testing.assert_close(mean[:, 5], (ys[:, 1] + ys[:, 3]) / 2)
    # Its default search misses zero here for that very reason; the tree takes differences.
    reference = KNeighborsRegressor(3, weights="distance", algorithm="kd_tree")
    reference.fit(xs[0, :5].numpy(), ys[0, :5].numpy())
    assert mean[0, 5].item() == pytest.approx(reference.predict(xs[0, 5:6].numpy()).item())


def test_averaging_is_the_mean_of_label_times_input(prompt: tuple[Tensor, Tensor]) -> None:
    xs, ys = prompt
    weights = bayes.Averaging().weights(xs, ys)
    for k in range(1, POINTS):
        expected = (xs[:, :k] * ys[:, :k, None]).mean(1)
        torch.testing.assert_close(weights[:, k], expected)


def test_one_gradient_step_is_twice_step_size_times_moments(prompt: tuple[Tensor, Tensor]) -> None:
    xs, ys = prompt
    weights = bayes.GradientDescent(1, 0.03).weights(xs, ys)
    for k in range(1, POINTS):
        expected = 2 * 0.03 * torch.einsum("bpd,bp->bd", xs[:, :k], ys[:, :k])
        torch.testing.assert_close(weights[:, k], expected)


def test_gradient_descent_follows_the_gradient_of_the_squared_error(prompt: tuple[Tensor, Tensor]) -> None:
    xs, ys = prompt
    weights = bayes.GradientDescent(4, 0.02).weights(xs, ys)
    for k in range(1, POINTS):
        w = torch.zeros(BATCH, DIM, dtype=torch.float64)
        for _ in range(4):
            w.requires_grad_()
            loss = (torch.einsum("bpd,bd->bp", xs[:, :k], w) - ys[:, :k]).square().sum()
            w = (w - 0.02 * torch.autograd.grad(loss, w)[0]).detach()
        torch.testing.assert_close(weights[:, k], w)


def test_gradient_descent_converges_to_min_norm_least_squares(generator: torch.Generator) -> None:
    # Orthogonal rows, so that the convergence is quick in every prefix, also in those that leave w open.
    gaussian = torch.randn(2, 6, 6, generator=generator, dtype=torch.float64)
    xs, ys = torch.linalg.qr(gaussian).Q, gaussian[:, 0]
    descended = bayes.GradientDescent(60, 0.25).weights(xs, ys)
    torch.testing.assert_close(descended, bayes.OLS().weights(xs, ys), rtol=1e-9, atol=1e-9)


def test_sgd_is_one_pass_with_decay(prompt: tuple[Tensor, Tensor]) -> None:
    xs, ys = prompt
    weights = bayes.SGD(0.05, weight_decay=0.25).weights(xs, ys)
    for b in range(BATCH):
        w = np.zeros(DIM)
        for i in range(POINTS):
            assert weights[b, i].numpy() == pytest.approx(w)
            x, y = xs[b, i].numpy(), ys[b, i].item()
            w = w - 2 * 0.05 * (x * (w @ x - y) + 0.25 * w)


def test_sgd_leaves_the_gradient_step_with_the_second_pair(prompt: tuple[Tensor, Tensor]) -> None:
    (xs, ys), step = prompt, 0.05
    sgd, gd = bayes.SGD(step).weights(xs, ys), bayes.GradientDescent(1, step).weights(xs, ys)
    torch.testing.assert_close(sgd[:, 1], gd[:, 1])
    overlap = (xs[:, 0] * xs[:, 1]).sum(1) * ys[:, 0]
    torch.testing.assert_close(gd[:, 2] - sgd[:, 2], (2 * step) ** 2 * overlap[:, None] * xs[:, 1])


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: bayes.KNN(0), "k must be at least 1, not 0"),
        (lambda: bayes.KNN(3, "invers"), "one of uniform, inverse, inverse_square, not 'invers'"),
        (lambda: bayes.GradientDescent(0, 0.1), "steps must be at least 1, not 0"),
        (lambda: bayes.GradientDescent(1, 0.0), "step_size must be finite and above 0, not 0.0"),
        (lambda: bayes.SGD(float("inf")), "step_size must be finite and above 0, not inf"),
        (lambda: bayes.SGD(0.1, -1.0), "weight_decay must be finite and at least 0, not -1.0"),
    ],
)
def test_impossible_settings_get_a_sentence(make, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        make()


@pytest.mark.parametrize("predictor", [bayes.GradientDescent(400, 10.0), bayes.SGD(1e60)], ids=["gd", "sgd"])
def test_divergence_gets_a_sentence(predictor, prompt: tuple[Tensor, Tensor]) -> None:
    with pytest.raises(ValueError, match="diverged on these prompts; take a smaller step_size"):
        predictor.predict(*prompt)
