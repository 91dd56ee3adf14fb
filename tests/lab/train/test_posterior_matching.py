"""The objective of Whittle et al. (2025, distribution_transformers)."""

import json

import pytest
import torch
from torch import nn

from microtome.lab import zoo
from microtome.lab.bayes.gaussian_mixture import GaussianMixture
from microtome.lab.tasks.distributions import ConjugateMixtures, FixedMixture, LinearGaussian, SensorFusion, Variance
from microtome.lab.train import Batch, Objective, TrainConfig, train
from microtome.lab.train.distribution import PosteriorMatching
from microtome.lab.zoo.in_context.distribution.model import Distributions

TASK = LinearGaussian(ConjugateMixtures(2, 1))
SMALL = {"d_model": 16, "n_layers": 1, "n_heads": 2, "d_mlp": 16}


class Says(nn.Module):
    """A model that gives the same answer whatever it is asked."""

    def __init__(self, prior, posterior):
        super().__init__()
        self.answer = Distributions(prior, posterior)

    def forward(self, *inputs):
        return self.answer


def test_the_loss_is_both_cross_entropies(generator):
    problem = TASK.sample(6, generator, dtype=torch.float64)
    batch = Batch((torch.zeros(6, 2, 3), *problem.observations), problem.target)
    model = Says(problem.prior, TASK.posterior(problem))
    out, before = (-law.log_prob(problem.target).mean() for law in (TASK.posterior(problem), problem.prior))
    torch.testing.assert_close(PosteriorMatching(TASK, 6).loss(model, batch), out + before)
    torch.testing.assert_close(PosteriorMatching(TASK, 6, prior_term=False).loss(model, batch), out)


def test_the_exact_answer_has_the_least_loss(generator):
    """Against the prior as the answer, 4,000 problems: by six standard errors of their difference."""
    problem = TASK.sample(4000, generator, dtype=torch.float64)
    gain = TASK.posterior(problem).log_prob(problem.target) - problem.prior.log_prob(problem.target)
    assert gain.mean() > 6 * gain.std() / 4000**0.5


def test_batches_are_the_tasks_problems(generator):
    objective = PosteriorMatching(TASK, 3)
    batch = objective.batch(7, generator.manual_seed(1))
    problem = TASK.sample(3, generator.manual_seed(1))
    assert isinstance(objective, Objective)
    assert torch.equal(batch.targets, problem.target)
    assert torch.equal(batch.inputs[0][..., 1:2], problem.prior.means)
    assert torch.equal(batch.inputs[1], problem.observations[0])
    assert json.dumps(objective.describe())


@pytest.mark.parametrize("task", [TASK, Variance(), SensorFusion(draws=2)], ids=["mixtures", "variance", "fusion"])
def test_losses_and_gradients_stay_finite(task, generator):
    """Meta-priors with nearly singular covariances and variances without a mean: 20 batches of 256."""
    family = {"n_components": 3, "parameters": task.parameters} if task.parameters else {}
    model = zoo.build("distribution_transformers", dim=task.dim, observations=task.observation_sizes, **SMALL, **family)
    objective = PosteriorMatching(task, 256)
    for step in range(20):
        loss = objective.loss(model, objective.batch(step, generator))
        model.zero_grad()
        loss.backward()
        assert torch.isfinite(loss)
        assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_training_lowers_the_loss(tmp_path, generator):
    """40 steps on one prior halve the gap between the loss and its optimum."""
    prior = FixedMixture((0.5, 0.5), ((-1.5,), (1.5,)), (((0.36,),), ((0.36,),)))
    objective = PosteriorMatching(LinearGaussian(prior), 128)
    model = zoo.build("distribution_transformers", **SMALL)
    batch = PosteriorMatching(LinearGaussian(prior), 4000).batch(0, generator)
    before = objective.loss(model, batch).item()
    train(model, objective, TrainConfig(steps=40, lr=1e-2, optimizer="adamw"), tmp_path / "run", progress=False)
    with torch.no_grad():
        after = objective.loss(model, batch).item()
    problem = LinearGaussian(prior).sample(4000, torch.Generator().manual_seed(0))
    task = LinearGaussian(prior)
    best = -sum(
        law.log_prob(problem.target.double()).mean().item() for law in (task.prior(problem), task.posterior(problem))
    )
    assert after - best < (before - best) / 2


def test_answers_of_another_shape_are_refused(generator):
    other = GaussianMixture.of(torch.ones(6, 1), torch.zeros(6, 1, 2), torch.eye(2).expand(6, 1, 2, 2))
    objective = PosteriorMatching(TASK, 6)
    with pytest.raises(
        ValueError, match=r"the model answers \[6\] problems in 2 dimensions where the targets are \[6, 1\]"
    ):
        objective.loss(Says(other, other), objective.batch(0, generator))
    with pytest.raises(ValueError, match="batch must be at least 1, not 0"):
        PosteriorMatching(TASK, 0)
