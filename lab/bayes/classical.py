"""The predictors that in-context learners are compared with, for every prefix of every prompt.

Averaging and k nearest neighbours as Garg et al. (2022) use them; gradient descent and one-pass stochastic
gradient descent as in Akyürek et al. (2023, icl_linear_algorithms).
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from microtome.lab.bayes.blocks import over_prompts
from microtome.lab.bayes.prefixes import before
from microtome.lab.bayes.protocol import Prediction, checked, in_dtype

Vectors = Float[Tensor, "batch points dim"]
Scalars = Float[Tensor, "batch points"]

WEIGHTINGS = {"uniform": 0, "inverse": 1, "inverse_square": 2}  # name: power of the distance


@dataclass(frozen=True)
class _Weighted(ABC):
    """A predictor that is its weights."""

    def predict(self, xs: Vectors, ys: Scalars) -> Prediction:
        """See `Predictor.predict`.

        Raises:
            ValueError: also if a descent diverges beyond the range of float64.
        """
        inputs, labels = checked(xs, ys)
        return in_dtype(xs.dtype, (self._weights(inputs, labels) * inputs).sum(-1))

    def weights(self, xs: Vectors, ys: Scalars) -> Vectors:
        """Weights learnt from the pairs before each point."""
        return self._weights(*checked(xs, ys)).to(xs.dtype)

    @abstractmethod
    def _weights(self, xs: Tensor, ys: Tensor) -> Tensor:
        """The weights of checked prompts, [batch points dim]."""


@dataclass(frozen=True)
class Averaging(_Weighted):
    """ŵ = (1/k) Σ_j y_j x_j over the k pairs before a point; consistent for x ~ N(0, I)."""

    @property
    def name(self) -> str:
        return "averaging"

    def _weights(self, xs: Tensor, ys: Tensor) -> Tensor:
        sums = before((xs * ys[..., None]).cumsum(1))
        return sums / torch.arange(xs.shape[1], device=xs.device).clamp(min=1)[:, None]


@dataclass(frozen=True)
class KNN:
    """The mean label of the k nearest of the points before; of all of them while there are fewer than k.

    Attributes:
        k: how many neighbours, at least 1.
        weighting: "uniform", "inverse" (1/distance) or "inverse_square"; a neighbour at distance zero takes
            all the weight.

    Raises:
        ValueError: if k < 1 or the weighting is unknown.
    """

    k: int
    weighting: str = "uniform"

    def __post_init__(self):
        if self.k < 1:
            raise ValueError(f"k must be at least 1, not {self.k}.")
        if self.weighting not in WEIGHTINGS:
            raise ValueError(f"weighting must be one of {', '.join(WEIGHTINGS)}, not {self.weighting!r}.")

    @property
    def name(self) -> str:
        weighting = "" if self.weighting == "uniform" else f" ({self.weighting.replace('_', ' ')})"
        return f"{self.k}-nn{weighting}"

    def predict(self, xs: Vectors, ys: Scalars) -> Prediction:
        """See `Predictor.predict`; entry 0, with no neighbour, is zero."""
        inputs, labels = checked(xs, ys)
        (mean,) = over_prompts(self._mean, inputs, labels, entries=inputs.shape[1] ** 2)
        return in_dtype(xs.dtype, mean)

    def _mean(self, xs: Tensor, ys: Tensor) -> tuple[Tensor]:
        points = xs.shape[1]
        # The matrix-product shortcut of cdist leaves 1e-8 between equal points.
        distance = torch.cdist(xs, xs, compute_mode="donot_use_mm_for_euclid_dist")
        ahead = torch.ones(points, points, dtype=torch.bool, device=xs.device).triu()
        nearest, index = distance.masked_fill(ahead, torch.inf).topk(min(self.k, points), largest=False)
        weight = self._weight(nearest)
        label = ys[:, None].expand_as(distance).gather(-1, index)
        return ((weight * label).sum(-1) / weight.sum(-1).clamp(min=torch.finfo(xs.dtype).tiny),)

    def _weight(self, nearest: Tensor) -> Tensor:
        """Weights [batch points k], zero for a neighbour that does not exist, so lies at infinity."""
        power = WEIGHTINGS[self.weighting]
        if power == 0:
            return nearest.isfinite().to(nearest)
        coincides = nearest[..., :1] == 0  # distances are sorted
        return torch.where(coincides, (nearest == 0).to(nearest), nearest**-power)


@dataclass(frozen=True)
class GradientDescent(_Weighted):
    """s steps of w ← w − 2α Xᵀ(Xw − y) from w = 0 on the pairs before a point; one step is w = 2α Xᵀy.

    Attributes:
        steps: s ≥ 1.
        step_size: α > 0; the iteration converges while α is below 1/λ_max(XᵀX), which grows with the pairs.
    """

    steps: int
    step_size: float

    def __post_init__(self):
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, not {self.steps}.")
        _check_step_size(self.step_size)

    @property
    def name(self) -> str:
        return f"gd({self.step_size:g})" if self.steps == 1 else f"gd({self.step_size:g}) x {self.steps}"

    def _weights(self, xs: Tensor, ys: Tensor) -> Tensor:
        (weights,) = over_prompts(self._descend, xs, ys, entries=xs.shape[1] ** 2)
        return _finite(weights, self.name)

    def _descend(self, xs: Tensor, ys: Tensor) -> tuple[Tensor]:
        weights = torch.zeros_like(xs)
        for _ in range(self.steps):
            residual = (ys[:, None] - weights @ xs.mT).tril(-1)  # batch prefix pair
            weights = weights + 2 * self.step_size * (residual @ xs)
        return (weights,)


@dataclass(frozen=True)
class SGD(_Weighted):
    """One pass over the pairs, w ← w − 2α[x(wᵀx − y) + λw], from w = 0.

    Attributes:
        step_size: α > 0.
        weight_decay: λ ≥ 0.
    """

    step_size: float
    weight_decay: float = 0.0

    def __post_init__(self):
        _check_step_size(self.step_size)
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"weight_decay must be finite and at least 0, not {self.weight_decay}.")

    @property
    def name(self) -> str:
        decay = f", decay {self.weight_decay:g}" if self.weight_decay else ""
        return f"sgd({self.step_size:g}{decay})"

    def _weights(self, xs: Tensor, ys: Tensor) -> Tensor:
        weights = [torch.zeros_like(xs[:, 0])]
        for x, y in zip(xs[:, :-1].unbind(1), ys[:, :-1, None].unbind(1), strict=True):
            w = weights[-1]
            error = (w * x).sum(-1, keepdim=True) - y
            weights.append(w - 2 * self.step_size * (x * error + self.weight_decay * w))
        return _finite(torch.stack(weights, dim=1), self.name)


def _check_step_size(step_size: float) -> None:
    if not 0 < step_size < math.inf:
        raise ValueError(f"step_size must be finite and above 0, not {step_size}.")


def _finite(weights: Tensor, name: str) -> Tensor:
    if not torch.isfinite(weights).all():
        raise ValueError(f"{name} diverged on these prompts; take a smaller step_size.")
    return weights
