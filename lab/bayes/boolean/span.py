"""Exact posterior of a parity over a uniformly drawn subset, in any dimension: linear algebra over GF(2).

With bits b = (x + 1)/2 a parity is the linear function ⟨S, b⟩ mod 2. If b_i lies in the span of the bits before, its
value is the sum of the labels of those that it is a sum of; otherwise half of the subsets that agree with the pairs
give each value, and under the uniform prior both have probability ½.

Source: the exact answer to the parities of Bhattamishra et al. (2024, icl_boolean), which transformers do not learn.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from microtome.lab.bayes.boolean.signs import BitPrompts, as_bits
from microtome.lab.bayes.law import Signs
from microtome.lab.bayes.protocol import Prediction

Vectors = Float[Tensor, "batch points dim"]
Scalars = Float[Tensor, "batch points"]


@dataclass(frozen=True)
class ParitySpan:
    """The posterior predictive of parities without label noise.

    Attributes:
        dim: dimensions of x.
    """

    dim: int

    @property
    def name(self) -> str:
        return "bayes"

    def predict(self, xs: Vectors, ys: Scalars) -> Prediction:
        """See `Predictor.predict`; the mean is −1, 0 or +1.

        Raises:
            ValueError: also if a number is not ±1, the prompts have another dimension, or the pairs before a point are
                those of no parity.
        """
        return self.law(xs, ys).prediction(xs.dtype)

    def law(self, xs: Vectors, ys: Scalars) -> Signs:
        """See `Probabilistic.law`."""
        return Signs(torch.from_numpy(self._means(as_bits(xs, ys, self.dim))).to(xs.device))

    def _means(self, prompts: BitPrompts) -> np.ndarray:
        batch, points, dim = prompts.xs.shape
        rows = np.arange(batch)
        # basis[b, j] is zero, or a sum of the bits before whose first one stands at j; the label is the last column.
        basis = np.zeros((batch, dim, dim + 1), dtype=bool)
        means = np.zeros((batch, points))
        for i in range(points):
            left = np.concatenate([prompts.xs[:, i], prompts.ys[:, i, None]], axis=1)
            for j in range(dim):
                left ^= basis[:, j] & left[:, j, None]
            new = left[:, :dim].any(1)
            value = prompts.ys[:, i] ^ left[:, dim]  # the sum of the labels that were folded in
            means[:, i] = np.where(new, 0.0, np.where(value, 1.0, -1.0))
            self._check(left[:, dim] & ~new, i, points)
            pivot = left[:, :dim].argmax(1)
            basis[rows[new], pivot[new]] = left[new]
        return means

    def _check(self, contradicts: np.ndarray, point: int, points: int) -> None:
        if contradicts.any() and point < points - 1:  # the last label is never read
            prompt = int(np.flatnonzero(contradicts)[0])
            raise ValueError(
                f"the labels of prompt {prompt} up to point {point} are those of no parity; with label noise "
                "parities are enumerated (`Enumeration`)."
            )
