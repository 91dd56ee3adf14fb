"""What every inference task gives: problems drawn from a known law, and the exact answer to each.

    φ ~ meta-prior,   x ~ p(x | φ),   z ~ p(z | x)

A problem tells the learner φ and z, and asks for the law of x. x is in coordinates that fill R^D (log σ² for a
variance, logit δ for a probability), because the answer is to be a Gaussian mixture.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from microtome.lab.bayes.densities import Density
from microtome.lab.bayes.gaussian_mixture import GaussianMixture
from microtome.lab.tasks.draw import Draw
from microtome.lab.tasks.protocol import check_generator, check_sizes


@dataclass(frozen=True)
class Problem:
    """A batch of inference problems.

    Attributes:
        prior: φ: mixtures of batch shape [batch], or [batch parameter], the numbers of another family as the task says.
        observations: z, one tensor for each kind, [batch points size].
        target: x, [batch dim].
    """

    prior: GaussianMixture | Float[Tensor, "batch parameter"]
    observations: tuple[Float[Tensor, "batch _ _"], ...]
    target: Float[Tensor, "batch dim"]


class InferenceTask(ABC):
    """A law of problems. A task is frozen and holds no state: the generator alone decides what is drawn.

    Attributes:
        dim: dimensions of x.
    """

    dim: int

    @property
    @abstractmethod
    def observation_sizes(self) -> tuple[int, ...]:
        """How many numbers an observation of each kind has."""

    @property
    def parameters(self) -> tuple[int, ...] | None:
        """How many numbers each independent factor of the prior has; None where the prior is a mixture."""
        return None

    def sample(self, batch: int, generator: torch.Generator, *, dtype: torch.dtype = torch.float32) -> Problem:
        """Draws problems on the generator's device; the same state of the generator gives the same problems.

        Args:
            batch: how many, at least 1.
            generator: draws everything.
            dtype: what the problems are given in; they are drawn in float64.

        Raises:
            TypeError: if the generator is not one, or dtype is not floating-point.
            ValueError: if batch is below 1.
        """
        check_sizes(batch=batch)
        check_generator(generator)
        if not dtype.is_floating_point:
            raise TypeError(f"dtype must be floating-point, not {dtype}.")
        drawn = self._problem(batch, Draw(generator, torch.float64))
        observations = tuple(z.to(dtype) for z in drawn.observations)
        return Problem(drawn.prior.to(dtype), observations, drawn.target.to(dtype))

    @abstractmethod
    def _problem(self, batch: int, draw: Draw) -> Problem:
        """The problems of `sample` in float64."""

    @abstractmethod
    def prior(self, problem: Problem) -> Density:
        """The law of x before the data, of batch shape [batch], in float64."""

    @abstractmethod
    def posterior(self, problem: Problem) -> Density:
        """The law of x given the data, of batch shape [batch], in float64: exact, or with its error declared."""


def check_positive(**values: float) -> None:
    """Raises ValueError, naming the one at fault, unless every value is positive and finite."""
    for name, value in values.items():
        if not 0 < value < float("inf"):
            raise ValueError(f"{name} must be positive and finite, not {value}.")
