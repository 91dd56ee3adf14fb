"""The baselines of the discrete tasks: always −1, the sign of averaging, and elimination of literals.

Source: Bhattamishra et al. (2024, icl_boolean); elimination is Valiant's learner of conjunctions (1984). Euclidean
neighbours are `KNN`, the cosine one is `CosineNeighbour`.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from microtome.lab.bayes.boolean.signs import as_bits
from microtome.lab.bayes.classical import Averaging
from microtome.lab.bayes.prefixes import before
from microtome.lab.bayes.protocol import Prediction, checked

Vectors = Float[Tensor, "batch points dim"]
Scalars = Float[Tensor, "batch points"]


@dataclass(frozen=True)
class Null:
    """Always −1."""

    @property
    def name(self) -> str:
        return "null"

    def predict(self, xs: Vectors, ys: Scalars) -> Prediction:
        """See `Predictor.predict`."""
        checked(xs, ys)
        return Prediction(-torch.ones_like(ys))


@dataclass(frozen=True)
class AveragingSign:
    """sign(xᵢᵀ · mean of y_j x_j), and −1 at the first point; 0 where the average is orthogonal to x."""

    @property
    def name(self) -> str:
        return "averaging (sign)"

    def predict(self, xs: Vectors, ys: Scalars) -> Prediction:
        """See `Predictor.predict`."""
        checked(xs, ys)
        mean = Averaging().predict(xs.double(), ys.double()).mean
        # Sums of ±1 divided by k: what should be zero is zero up to rounding.
        sign = torch.where(mean.abs() < 1e-9, 0.0, mean.sign())
        sign[:, 0] = -1
        return Prediction(sign.to(xs.dtype))


@dataclass(frozen=True)
class Elimination:
    """Keeps the literals that every positive example satisfies and says +1 where all of them hold.

    Without noise it errs on positive examples only: it keeps all literals of the true conjunction, so that whatever
    satisfies those it keeps satisfies the function. Before the first positive example it says −1.
    """

    @property
    def name(self) -> str:
        return "elimination"

    def predict(self, xs: Vectors, ys: Scalars) -> Prediction:
        """See `Predictor.predict`.

        Raises:
            ValueError: also if a number is not ±1.
        """
        as_bits(xs, ys)
        positive = (ys > 0)[..., None]
        against_plus, against_minus = ((positive & (xs * sign < 0)).cumsum(1) for sign in (1, -1))
        kept_plus, kept_minus = (before(against) == 0 for against in (against_plus, against_minus))
        violated = (kept_plus & (xs < 0)) | (kept_minus & (xs > 0))
        return Prediction(torch.where(violated.any(-1), -1.0, 1.0).to(xs.dtype))
