"""Mixture priors and linear Gaussian sensors: the posterior is a mixture too, and exact.

    φ ~ meta-prior,   x ~ Σ_k w_k N(μ_k, Σ_k),   z = Hx + N(0, R)

(Whittle et al. 2025, distribution_transformers, "closed form" experiment.)
"""

from dataclasses import dataclass

import torch

from microtome.lab.bayes.gaussian_mixture import GaussianMixture
from microtome.lab.bayes.linear_gaussian import LinearSensor, posterior
from microtome.lab.tasks.distributions.meta_priors import MetaPrior
from microtome.lab.tasks.distributions.protocol import InferenceTask, Problem
from microtome.lab.tasks.draw import Draw
from microtome.lab.tasks.protocol import check_sizes

UNIT = (LinearSensor(((1.0,),), ((1.0,),)),)
"""One sensor that reads x itself with noise of variance 1."""


@dataclass(frozen=True)
class LinearGaussian(InferenceTask):
    """Problems of the law above.

    Attributes:
        meta_prior: the law of the priors.
        sensors: each reads x once for every point.
        points: readings of each sensor, at least 1.

    Raises:
        ValueError: if there is no sensor, or one reads another dimension than the priors have.
    """

    meta_prior: MetaPrior
    sensors: tuple[LinearSensor, ...] = UNIT
    points: int = 1

    def __post_init__(self):
        check_sizes(points=self.points, sensors=len(self.sensors))
        for sensor in self.sensors:
            if len(sensor.matrix[0]) != self.dim:
                raise ValueError(f"a sensor reads {len(sensor.matrix[0])} dimensions and the priors have {self.dim}.")

    @property
    def dim(self) -> int:
        return self.meta_prior.dim

    @property
    def observation_sizes(self) -> tuple[int, ...]:
        return tuple(sensor.size for sensor in self.sensors)

    def _problem(self, batch: int, draw: Draw) -> Problem:
        prior = self.meta_prior.sample(batch, draw)
        x = prior.sample(draw.generator)
        seen = x[:, None].expand(-1, self.points, -1)
        return Problem(prior, tuple(sensor.sample(seen, draw.generator) for sensor in self.sensors), x)

    def prior(self, problem: Problem) -> GaussianMixture:
        """The prior itself."""
        return problem.prior.to(torch.float64)

    def posterior(self, problem: Problem) -> GaussianMixture:
        """Exact."""
        return posterior(problem.prior, self.sensors, problem.observations)
