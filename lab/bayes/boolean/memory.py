"""Exact posterior of prompts that are drawn from a known finite pool of prompts."""

import torch
from jaxtyping import Float
from torch import Tensor

from microtome.lab.bayes.boolean.signs import as_bits
from microtome.lab.bayes.law import Signs
from microtome.lab.bayes.protocol import Prediction

Vectors = Float[Tensor, "batch points dim"]
Scalars = Float[Tensor, "batch points"]


class Memory:
    """Says the mean label of the prompts in the pool that have had the same inputs and labels so far.

    Args:
        xs: inputs of the pool, [pool longest dim].
        ys: labels of the pool, [pool longest].
    """

    name = "bayes (pool)"

    def __init__(self, xs: Float[Tensor, "pool longest dim"], ys: Float[Tensor, "pool longest"]):
        self.xs, self.ys = xs, ys

    def predict(self, xs: Vectors, ys: Scalars) -> Prediction:
        """See `Predictor.predict`; the mean is P(+1) − P(−1).

        Raises:
            ValueError: also if a prompt is longer than those of the pool, or begins like none of them.
        """
        return self.law(xs, ys).prediction(xs.dtype)

    def law(self, xs: Vectors, ys: Scalars) -> Signs:
        """See `Probabilistic.law`."""
        as_bits(xs, ys, self.xs.shape[2])
        points = xs.shape[1]
        if points > self.xs.shape[1]:
            raise ValueError(f"the prompts of this pool have {self.xs.shape[1]} points, fewer than {points}.")
        alike = torch.ones(len(xs), len(self.xs), dtype=torch.bool, device=xs.device)
        means = []
        for i in range(points):
            alike = alike & (xs[:, None, i] == self.xs[:, i].to(xs)).all(-1)
            self._check(alike, i)
            weight = alike.double()
            means.append((weight @ self.ys[:, i].to(weight)) / weight.sum(1))
            alike = alike & (ys[:, None, i] == self.ys[:, i].to(xs))
        return Signs(torch.stack(means, dim=1))

    def _check(self, alike: Tensor, point: int) -> None:
        lost = ~alike.any(1)
        if lost.any():
            raise ValueError(f"prompt {int(lost.nonzero()[0])} is not in the pool from point {point} on.")
