"""Predictors that a library or an iteration fits anew for every prefix of every prompt.

Their cost is that of one fit times prompts times points, milliseconds each, where the exact answers of this package
take all prefixes from one factorisation. `at` asks for a few context lengths only, and pays for no others.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from microtome.lab.bayes.protocol import Prediction, checked, in_dtype

Vectors = Float[Tensor, "batch points dim"]
Scalars = Float[Tensor, "batch points"]


class Refitted(ABC):
    """A predictor that is fitted to the pairs before a point and then asked for it; without pairs it says 0."""

    @property
    @abstractmethod
    def name(self) -> str:
        """A short name for legends and tables."""

    def predict(self, xs: Vectors, ys: Scalars) -> Prediction:
        """See `Predictor.predict`; there is no law, so no variance."""
        inputs, labels = checked(xs, ys)
        return in_dtype(xs.dtype, self._answers(inputs, labels, range(xs.shape[1])))

    def at(self, xs: Vectors, ys: Scalars, contexts: Sequence[int]) -> Float[Tensor, "batch contexts"]:
        """Column j is entry `contexts[j]` of the mean of `predict`, from so many pairs; nothing else is fitted.

        Args:
            xs: inputs; the prompts are cut where the largest context needs no more of them.
            ys: labels.
            contexts: numbers of pairs, each from 0 to points − 1.

        Raises:
            ValueError: as `predict`; also if there is no context, or a prompt is too short for one.
        """
        inputs, labels = checked(xs, ys)
        if not len(contexts) or not 0 <= min(contexts) <= max(contexts) < xs.shape[1]:
            raise ValueError(f"contexts must be between 0 and {xs.shape[1] - 1}, at least one, not {list(contexts)}.")
        return self._answers(inputs, labels, contexts).to(xs.dtype)

    def _answers(self, xs: Tensor, ys: Tensor, contexts: Sequence[int]) -> Tensor:
        zero = torch.zeros_like(ys[:, 0])
        return torch.stack([self._answer(xs[:, :k], ys[:, :k], xs[:, k]) if k else zero for k in contexts], dim=1)

    @abstractmethod
    def _answer(self, xs: Tensor, ys: Tensor, query: Tensor) -> Tensor:
        """ŷ [batch] of the queries [batch dim] from k ≥ 1 pairs, [batch k dim] and [batch k]."""


class RefittedLinear(Refitted):
    """One whose answer is ŵᵀx."""

    def weights(self, xs: Vectors, ys: Scalars) -> Vectors:
        """Weights learnt from the pairs before each point; entry 0 is zero."""
        inputs, labels = checked(xs, ys)
        fitted = [self._solve(inputs[:, :k], labels[:, :k]) for k in range(1, xs.shape[1])]
        return torch.stack([torch.zeros_like(inputs[:, 0]), *fitted], dim=1).to(xs.dtype)

    def _answer(self, xs: Tensor, ys: Tensor, query: Tensor) -> Tensor:
        return (self._solve(xs, ys) * query).sum(-1)

    @abstractmethod
    def _solve(self, xs: Tensor, ys: Tensor) -> Tensor:
        """ŵ [batch dim] of k ≥ 1 pairs."""
