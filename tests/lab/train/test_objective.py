"""Where a step's data come from, and the loss on them."""

import math

import pytest
import torch
from torch import nn

from microtome.lab.tasks import Inputs, LinearRegression, RepeatedBlock, Spectrum
from microtome.lab.train import (
    Batch,
    Curriculum,
    InContextClassification,
    InContextRegression,
    Objective,
    Ramp,
    TokenPrediction,
)

CURRICULUM = Curriculum(Ramp(2, 5, 1, 10), Ramp(3, 8, 2, 10))


class Zero(nn.Module):
    """Predicts 0, or logits 0 over `d_vocab`."""

    def __init__(self, *tail):
        super().__init__()
        self.tail = tail

    def forward(self, *inputs):
        return inputs[-1].new_zeros((*inputs[-1].shape, *self.tail), dtype=torch.float32)


def test_both_are_objectives():
    assert isinstance(InContextRegression(LinearRegression(dim=3), batch=2, points=4), Objective)
    assert isinstance(TokenPrediction(RepeatedBlock(5, 3, 2), batch=2), Objective)


def test_regression_draws_the_tasks_prompts(generator):
    task = LinearRegression(dim=3, noise_std=0.1)
    batch = InContextRegression(task, batch=2, points=4).batch(0, generator.manual_seed(1))
    prompt = task.sample(2, 4, generator.manual_seed(1))
    assert torch.equal(batch.inputs[0], prompt.xs)
    assert torch.equal(batch.inputs[1], prompt.ys)
    assert torch.equal(batch.targets, prompt.ys)
    assert batch.weights is None


def test_regression_loss_is_the_mean_over_all_positions(generator):
    objective = InContextRegression(LinearRegression(dim=3), batch=2, points=4)
    batch = objective.batch(0, generator)
    assert objective.loss(Zero(), batch).item() == pytest.approx(batch.targets.square().sum().item() / 8)


def test_regression_refuses_models_of_another_kind(generator):
    objective = InContextRegression(LinearRegression(dim=3), batch=2, points=4)
    with pytest.raises(ValueError, match=r"the model predicts \[2, 4, 7\] where ys are \[2, 4\]; an in-context"):
        objective.loss(Zero(7), objective.batch(0, generator))


class Says(nn.Module):
    """A model that gives the same numbers whatever it is asked."""

    def __init__(self, numbers):
        super().__init__()
        self.numbers = numbers

    def forward(self, xs, ys):
        return self.numbers


def test_classification_loss_is_cross_entropy_from_the_first_pair_on():
    logits, labels = torch.tensor([[9.0, 2.0, -1.0]]), torch.tensor([[-1.0, 1.0, 1.0]])
    objective = InContextClassification(LinearRegression(2), batch=1, points=3, first=1)
    expected = nn.functional.binary_cross_entropy_with_logits(logits[:, 1:], (labels[:, 1:] + 1) / 2)
    loss = objective.loss(Says(logits), Batch((torch.zeros(1, 3, 2), labels), labels))
    torch.testing.assert_close(loss, expected)
    assert objective.describe()["name"] == "in-context classification"
    with pytest.raises(ValueError, match="first must lie between 0 and 2, so that a pair is left, not 3"):
        InContextClassification(LinearRegression(2), batch=1, points=3, first=3)


@pytest.mark.parametrize(("step", "dims", "points"), [(0, 2, 3), (9, 2, 3), (10, 3, 5), (25, 4, 7), (99, 5, 8)])
def test_curriculum_zeroes_coordinates_and_cuts_prompts(step, dims, points, generator):
    objective = InContextRegression(LinearRegression(dim=5), batch=6, points=8, curriculum=CURRICULUM)
    xs, ys = objective.batch(step, generator).inputs
    assert xs.shape == (6, points, 5)
    assert ys.shape == (6, points)
    assert (xs[..., :dims] != 0).all()
    assert (xs[..., dims:] == 0).all()


def test_under_a_curriculum_labels_depend_on_what_is_shown(generator):
    """With more points than live coordinates, least squares on those fits noiseless labels exactly."""
    objective = InContextRegression(LinearRegression(dim=5), batch=6, points=8, curriculum=CURRICULUM)
    xs, ys = (tensor.double() for tensor in objective.batch(0, generator).inputs)
    w = torch.linalg.lstsq(xs[..., :2], ys[..., None]).solution
    assert torch.allclose((xs[..., :2] @ w).squeeze(-1), ys, atol=1e-5)
    assert ys.abs().min() > 0


@pytest.mark.parametrize(
    ("task", "curriculum", "sentence"),
    [
        (LinearRegression(dim=6), CURRICULUM, "curriculum's dims must end at the full size 6, not at 5"),
        (
            LinearRegression(dim=5),
            Curriculum(Ramp(2, 5), Ramp(3, 9)),
            "points must end at the full size 8, not at 9",
        ),
        (
            LinearRegression(dim=5, inputs=Inputs(Spectrum.power_law(5))),
            CURRICULUM,
            "the curriculum needs the task in 2 dimensions, but covariance has 5 eigenvalues",
        ),
    ],
    ids=["dims", "points", "task"],
)
def test_curriculum_must_fit(task, curriculum, sentence):
    with pytest.raises(ValueError, match=sentence):
        InContextRegression(task, batch=2, points=8, curriculum=curriculum)


def test_token_loss_of_a_uniform_guess_is_the_log_of_the_vocabulary(generator):
    objective = TokenPrediction(RepeatedBlock(vocab=7, block=3, repeats=2), batch=4)
    assert objective.loss(Zero(7), objective.batch(0, generator)).item() == pytest.approx(math.log(7), rel=1e-6)


def test_token_loss_counts_weighted_positions_only():
    logits = torch.tensor([[[2.0, 0.0], [0.0, 3.0], [1.0, 1.0]]])
    batch = Batch((torch.zeros(1, 3),), torch.tensor([[0, 0, 1]]), torch.tensor([[2.0, 1.0, 0.0]]))

    class Fixed(nn.Module):
        def forward(self, tokens):
            return logits

    first, second = math.log1p(math.exp(-2)), math.log1p(math.exp(3))
    loss = TokenPrediction(RepeatedBlock(2, 1, 3), batch=1).loss(Fixed(), batch)
    assert loss.item() == pytest.approx((2 * first + second) / 3, rel=1e-6)


def test_tokens_refuse_models_of_another_kind(generator):
    objective = TokenPrediction(RepeatedBlock(vocab=3, block=2, repeats=2), batch=2)
    with pytest.raises(ValueError, match=r"gives \[2, 4\] where targets are \[2, 4\]; a token model gives logits"):
        objective.loss(Zero(), objective.batch(0, generator))


@pytest.mark.parametrize("sizes", [{"batch": 0, "points": 4}, {"batch": 2, "points": -1}], ids=str)
def test_empty_batches_are_refused(sizes):
    with pytest.raises(ValueError, match=r"(batch must be at least 1, not 0|points must be at least 1, not -1)\."):
        InContextRegression(LinearRegression(dim=3), **sizes)


def test_empty_token_batches_are_refused():
    with pytest.raises(ValueError, match=r"batch must be at least 1, not 0\."):
        TokenPrediction(RepeatedBlock(5, 3, 2), batch=0)


def test_a_batch_needs_targets():
    with pytest.raises(ValueError, match=r"at least one target; these have shape \(0, 3\)"):
        Batch((torch.zeros(0, 3, 2),), torch.zeros(0, 3))


def test_descriptions_tell_tasks_apart():
    def described(noise_std):
        return InContextRegression(LinearRegression(dim=3, noise_std=noise_std), batch=2, points=4).describe()

    assert described(0.1) == described(0.1) != described(0.2)
    assert described(0.1)["task"] == {
        "name": "LinearRegression", "dim": 3, "noise_std": 0.1, "prior_std": 1.0, "sparsity": None,
        "inputs": {"covariance": "isotropic", "scale": 1.0, "query": "same"},
    }  # fmt: skip
