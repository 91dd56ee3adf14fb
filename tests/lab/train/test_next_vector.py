"""Learners of vector sequences: what they are asked, and that they learn it."""

import json

import pytest
import torch

from microtome.lab import zoo
from microtome.lab.tasks.dynamics import RepresentationDynamics
from microtome.lab.tasks.representations import Representation
from microtome.lab.train import TrainConfig, load, train
from microtome.lab.train.next_vector import NextVector

SYSTEM = RepresentationDynamics(Representation(4, 4, 1), lags=2, noise_std=0.1, prior_std=1.0)


@pytest.fixture
def model():
    return zoo.sequence(stem={"name": "vectors", "dim": 2}, d_model=16, n_layers=1, n_heads=2, n_ctx=8)


def test_targets_are_the_vectors_that_follow(generator):
    batch = NextVector(SYSTEM, batch=3, points=6).batch(0, generator)
    assert batch.inputs[0].shape == batch.targets.shape == (3, 6, 2)
    assert torch.equal(batch.inputs[0][:, 1:], batch.targets[:, :-1])


def test_training_brings_the_loss_down_and_the_run_loads(model, tmp_path):
    objective = NextVector(SYSTEM, batch=32, points=6)
    batch = objective.batch(0, torch.Generator().manual_seed(9))
    before = objective.loss(model, batch).item()
    train(model, objective, TrainConfig(steps=60, lr=1e-2), tmp_path / "run", progress=False)
    assert objective.loss(model.eval(), batch).item() < 0.9 * before
    again = load(tmp_path / "run").model
    torch.testing.assert_close(again(*batch.inputs), model(*batch.inputs))
    assert json.loads(json.dumps(objective.describe()))["task"]["lags"] == 2


def test_a_vector_learner_sees_no_future(model, generator):
    xs = torch.randn(2, 7, 2, generator=generator)
    changed = xs.clone()
    changed[:, 4:] += 1
    torch.testing.assert_close(model(xs)[:, :4], model(changed)[:, :4])
    assert model(xs, stop_at_layer=1).shape == (2, 7, 16)


@pytest.mark.usefixtures("untyped")
def test_bad_vectors_get_a_sentence(model, generator):
    for wrong in (torch.zeros(2, 3, 3), torch.zeros(2, 2), torch.zeros(0, 3, 2)):
        with pytest.raises(ValueError, match=r"vectors must be \[batch points 2\]"):
            model(wrong)
    with pytest.raises(ValueError, match="NaN"):
        model(torch.full((1, 2, 2), torch.nan))
    with pytest.raises(ValueError, match="dim must be at least 1"):
        zoo.sequence(stem={"name": "vectors", "dim": 0})
    with pytest.raises(ValueError, match="points must be at least 1"):
        NextVector(SYSTEM, batch=2, points=0)
    other = zoo.sequence(stem={"name": "vectors", "dim": 3}, d_model=16, n_layers=1, n_heads=2, n_ctx=8)
    xs = torch.zeros(2, 4, 3)
    objective = NextVector(SYSTEM, batch=2, points=4)
    batch = objective.batch(0, generator)
    with pytest.raises(ValueError, match="where the next vectors are"):
        objective.loss(lambda _: other(xs), batch)
