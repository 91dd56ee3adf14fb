"""The range-minimisation phase before a model becomes a polynomial ("Power-Softmax", 2024, slug `power_softmax`).

    loss + λ Σ ‖input of each non-polynomial operation‖_∞

so that variances, GELU's inputs and the denominators of attention sit in intervals on which low degrees are
enough. `lab.zoo.compression.power_softmax` says which operations those are and makes the polynomial.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from microtome.lab.train.objective import Batch, Objective


class RangeMinimising:
    """Another objective with the ranges beside it.

    Args:
        objective: what the model is trained for.
        weight: λ, at least 0.

    Raises:
        ValueError: for a negative or infinite weight.
    """

    def __init__(self, objective: Objective, weight: float):
        if not 0 <= weight < float("inf"):
            raise ValueError(f"weight must be a finite number of at least 0, not {weight}.")
        self.objective, self.weight = objective, weight

    def batch(self, step: int, generator: torch.Generator) -> Batch:
        """The other objective's data."""
        return self.objective.batch(step, generator)

    def loss(self, model: nn.Module, batch: Batch) -> Float[Tensor, ""]:
        """Both terms, of one forward pass.

        Raises:
            ValueError: for a model that could not become a polynomial.
        """
        from microtome.lab.zoo.compression.power_softmax import non_polynomial

        largest: list[Tensor] = []
        hooks = [
            (name, lambda tensor, hook, read=read: largest.append(read(tensor).abs().amax()))
            for name, read in non_polynomial(model)
        ]
        with model.hooks(fwd_hooks=hooks):
            loss = self.objective.loss(model, batch)
        return loss + self.weight * torch.stack(largest).sum()

    def describe(self) -> dict[str, Any]:
        return {"name": "range minimising", "objective": self.objective.describe(), "weight": self.weight}
