"""The variance of a normal law under an inverse-gamma prior: conjugate, so exact.

    a, b ~ InverseGamma(1, 1),   σ² ~ InverseGamma(a, b),   z ~ N(m, σ²)

(Whittle et al. 2025, distribution_transformers.) The prior's numbers are log a and log b; x is log σ². The laws of a
and b have no mean: now and then a variance is as large as e⁵⁰.
"""

import math
from dataclasses import dataclass

import torch

from microtome.lab.bayes.gamma_draws import log_gamma
from microtome.lab.bayes.inverse_gamma import LogInverseGamma
from microtome.lab.tasks.distributions.protocol import InferenceTask, Problem
from microtome.lab.tasks.draw import Draw
from microtome.lab.tasks.protocol import check_sizes


@dataclass(frozen=True)
class Variance(InferenceTask):
    """Problems of the law above.

    Attributes:
        mean: m, known.
        points: observations of a problem, at least 1.

    Raises:
        ValueError: if an attribute is out of range.
    """

    mean: float = 0.0
    points: int = 1

    dim = 1
    observation_sizes = (1,)
    parameters = (2,)

    def __post_init__(self):
        check_sizes(points=self.points)
        if not math.isfinite(self.mean):
            raise ValueError(f"mean must be finite, not {self.mean}.")

    def _problem(self, batch: int, draw: Draw) -> Problem:
        ones = torch.ones(batch, 2, dtype=draw.dtype, device=draw.generator.device)
        parameters = -log_gamma(ones, draw.generator)
        u = LogInverseGamma(*parameters.unbind(-1)).sample(draw.generator)
        z = self.mean + (u / 2).exp()[:, None] * draw.normal(batch, self.points, 1)
        return Problem(parameters, (z,), u)

    def prior(self, problem: Problem) -> LogInverseGamma:
        """The law of log σ²."""
        return LogInverseGamma(*problem.prior.double().unbind(-1))

    def posterior(self, problem: Problem) -> LogInverseGamma:
        """Exact."""
        return self.prior(problem).posterior(problem.observations[0].double() - self.mean)
