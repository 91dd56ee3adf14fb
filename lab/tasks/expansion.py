"""Functions that are linear in features of x, as a law of prompts with an exact answer.

    y = Σ_f w_f φ_f(x) + N(0, σ²),   w_f ~ N(0, s²) for the features in use, else 0

(Panwar, Ahuja & Goyal 2024, "In-context learning through the Bayesian prism", slug `icl_bayesian_prism`, sections 4 and
5.) Given which features are in use this is dense linear regression in them, so that the exact answer is a ridge on the
features, or the mixture of those ridges over the families that a function may come from. The features bear no scale;
the s of a family makes the labels' variance one, or nearly so, for families of every size.
"""

import functools
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from microtome.lab.bayes import Predictor
from microtome.lab.tasks.draw import Draw
from microtome.lab.tasks.families import Families
from microtome.lab.tasks.protocol import Prompt, Task

MAX_FAMILIES = 512

Vectors = Float[Tensor, "batch points dim"]
Features = Float[Tensor, "batch points feature"]


class Expansion(Task, ABC):
    """A task that is linear in features.

    Attributes:
        noise_std: σ.
    """

    noise_std: float

    @abstractmethod
    def features(self, xs: Vectors) -> Features:
        """φ of each point: every feature that some function of the class uses."""

    @property
    @abstractmethod
    def families(self) -> Families | None:
        """The families of functions, each as likely; None if a function's features are drawn afresh."""

    @abstractmethod
    def _inputs(self, batch: int, points: int, draw: Draw) -> tuple[Vectors, dict[str, Tensor]]: ...

    def _active(self, batch: int, draw: Draw) -> Float[Tensor, "batch feature"]:
        """The prior standard deviation of each weight of each prompt, zero for a feature not in use."""
        stds = _stds(self)
        return stds.to(draw.generator.device, draw.dtype)[draw.integers(len(stds), batch)]

    def _combined(self, xs: Vectors, w: Float[Tensor, "batch feature"]) -> Float[Tensor, "batch points"]:
        """Σ_f w_f φ_f(x)."""
        return torch.linalg.vecdot(self.features(xs), w[:, None])

    def _prompt(self, batch: int, points: int, draw: Draw) -> Prompt:
        """Latents: "w" [batch feature], "active" [batch feature], true for the features in use, and those of the
        inputs."""
        stds = self._active(batch, draw)
        w = stds * draw.normal(*stds.shape)
        xs, axes = self._inputs(batch, points, draw)
        return Prompt(xs, draw.noisy(self._combined(xs, w), self.noise_std), {"w": w, "active": stds > 0} | axes)

    def bayes(self) -> Predictor:
        """The exact posterior predictive: a ridge on the features, or a mixture of them over the families.

        Raises:
            ValueError: if the families have no list, or one longer than `MAX_FAMILIES`, with what to use instead.
        """
        from microtome.lab.bayes.features import BayesFeatures
        from microtome.lab.bayes.mixture import BayesMixture

        families = self.families
        if families is None or len(families.std) > MAX_FAMILIES:
            raise ValueError(
                f"only up to {MAX_FAMILIES} listed families of features are averaged over; use the best predictor "
                f"linear in the labels, BayesFeatures(task.features, noise_std={self.noise_std:g}, "
                f"prior_std={self._pooled_std():.4g})."
            )
        components = tuple(
            BayesFeatures(Chosen(self, tuple(active.nonzero().flatten().tolist())), self.noise_std, std)
            for active, std in zip(families.active, families.std.tolist(), strict=True)
        )
        if len(components) == 1:
            return components[0]
        return BayesMixture(components, (1 / len(components),) * len(components))

    @abstractmethod
    def _pooled_std(self) -> float:
        """Root mean square of all weights, zeros included."""


@dataclass(frozen=True)
class Chosen:
    """Some of a task's features, as a map from xs.

    Attributes:
        task: whose features.
        places: which of them.
    """

    task: Expansion
    places: tuple[int, ...]

    def __call__(self, xs: Vectors) -> Features:
        return self.task.features(xs)[..., list(self.places)]


@functools.lru_cache(maxsize=16)  # making the list of families takes as long as drawing a batch
def _stds(task: Expansion) -> Float[Tensor, "family feature"]:
    return task.families.active * task.families.std[:, None]
