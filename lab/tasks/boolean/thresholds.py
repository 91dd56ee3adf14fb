"""Thresholds of weighted sums of bits: sparse thresholds, integer halfspaces and majorities; all inputs uniform."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from microtome.lab.bayes.boolean.classes import thresholds
from microtome.lab.bayes.boolean.enumeration import Enumeration
from microtome.lab.bayes.boolean.finite import check_count
from microtome.lab.bayes.boolean.literals import Literals
from microtome.lab.tasks.boolean.protocol import BooleanTask, Scalars, Vectors, draw_literals
from microtome.lab.tasks.draw import Draw
from microtome.lab.tasks.protocol import check_sizes

FEWER = "take fewer dimensions"


@dataclass(frozen=True)
class SparseThreshold(BooleanTask):
    """sign(xᵀw − κ), w_j ∈ {0, ±1} and κ uniform among −b + ½, …, b − ½.

    Attributes:
        dim: n.
        relevant: probability that w_j is not zero, ±1 alike.
        bound: b, at least 1.
        noise: η, the probability that a label is flipped.

    Raises:
        ValueError: if an attribute is out of range.
    """

    dim: int = 28
    relevant: float = 0.3
    bound: int = 3
    noise: float = 0.0

    def __post_init__(self):
        self._check()
        check_sizes(bound=self.bound)
        Literals(self.dim, self.relevant)

    def bayes(self) -> Enumeration:
        """The exact posterior predictive, by enumeration.

        Raises:
            ValueError: if there are too many, above 10 dimensions.
        """
        law = Literals(self.dim, self.relevant)
        offsets = np.arange(-self.bound, self.bound) + 0.5
        check_count(law.count * len(offsets), f"sparse thresholds over {self.dim} bits", FEWER)
        w = law.enumerate()
        log_prior = law.log_prior()[np.count_nonzero(w, axis=1)] - math.log(len(offsets))
        each = len(offsets)
        functions = thresholds(np.repeat(w, each, axis=0), np.tile(offsets, len(w)), np.repeat(log_prior, each))
        return Enumeration(functions, self.noise)

    def evaluate(self, latents: dict[str, Tensor], xs: Vectors) -> Scalars:
        return _signs(xs, latents["w"], latents["kappa"][:, None])

    def _functions(self, batch: int, draw: Draw) -> dict[str, Tensor]:
        """Latents: "w" [batch dim] and "kappa" [batch]."""
        kappa = draw.integers(self.bound, batch, low=-self.bound).to(draw.dtype) + 0.5
        return {"w": draw_literals(Literals(self.dim, self.relevant), batch, draw), "kappa": kappa}


@dataclass(frozen=True)
class IntegerHalfspace(BooleanTask):
    """sign(xᵀw − ½), w_j uniform among −b, …, b.

    Attributes:
        dim: n.
        bound: b, at least 1.
        noise: η, the probability that a label is flipped.

    Raises:
        ValueError: if an attribute is out of range.
    """

    dim: int = 20
    bound: int = 3
    noise: float = 0.0

    def __post_init__(self):
        self._check()
        check_sizes(bound=self.bound)

    def bayes(self) -> Enumeration:
        """The exact posterior predictive, by enumeration.

        Raises:
            ValueError: if there are too many: with bound 3 above 8 dimensions.
        """
        values = 2 * self.bound + 1
        count = values**self.dim
        check_count(count, f"integer halfspaces over {self.dim} bits", FEWER)
        w = np.indices((values,) * self.dim, dtype=np.int8).reshape(self.dim, -1).T - self.bound
        functions = thresholds(w, np.full(count, 0.5), np.full(count, -math.log(count)))
        return Enumeration(functions, self.noise)

    def evaluate(self, latents: dict[str, Tensor], xs: Vectors) -> Scalars:
        return _signs(xs, latents["w"], 0.5)

    def _functions(self, batch: int, draw: Draw) -> dict[str, Tensor]:
        """Latents: "w" [batch dim]."""
        return {"w": draw.integers(self.bound + 1, batch, self.dim, low=-self.bound).to(draw.dtype)}


@dataclass(frozen=True)
class SparseMajority(BooleanTask):
    """sign(xᵀw − ½), w_j = 1 with probability `relevant`, else 0.

    Attributes:
        dim: n.
        relevant: probability that a coordinate has a vote.
        noise: η, the probability that a label is flipped.

    Raises:
        ValueError: if an attribute is out of range.
    """

    dim: int = 28
    relevant: float = 0.3
    noise: float = 0.0

    def __post_init__(self):
        self._check()
        Literals(self.dim, self.relevant)

    def bayes(self) -> Enumeration:
        """The exact posterior predictive, by enumeration.

        Raises:
            ValueError: if there are too many, above 15 dimensions.
        """
        law = Literals(self.dim, self.relevant, monotone=True)
        check_count(law.count, f"majorities over {self.dim} bits", FEWER)
        w = law.enumerate()
        functions = thresholds(w, np.full(len(w), 0.5), law.log_prior()[np.count_nonzero(w, axis=1)])
        return Enumeration(functions, self.noise)

    def evaluate(self, latents: dict[str, Tensor], xs: Vectors) -> Scalars:
        return _signs(xs, latents["w"], 0.5)

    def _functions(self, batch: int, draw: Draw) -> dict[str, Tensor]:
        """Latents: "w" [batch dim]."""
        return {"w": draw_literals(Literals(self.dim, self.relevant, monotone=True), batch, draw)}


def _signs(xs: Vectors, w: Tensor, offset: Tensor | float) -> Scalars:
    """sign(xᵀw − offset); the sums are whole and the offsets are not, so that none is zero."""
    return torch.sign((xs @ w[..., None]).squeeze(-1) - offset)
