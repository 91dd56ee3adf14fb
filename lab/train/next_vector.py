"""The objective of learners that continue a sequence of vectors."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from microtome.lab.tasks.dynamics import RepresentationDynamics
from microtome.lab.tasks.protocol import check_sizes
from microtome.lab.train.objective import Batch, described


class NextVector:
    """Mean squared error of the next vector at every position, on fresh sequences each step.

    The model is called `model(xs)` with xs [batch points dim] and returns at every place its prediction of the next
    vector from those up to there. (Guo et al. 2024, `icl_representations`, section 3.2.)

    Args:
        task: what sequences are drawn from.
        batch: sequences a step.
        points: vectors shown in each; one more is drawn, as the last target.

    Raises:
        ValueError: if `batch` or `points` is below 1.
    """

    def __init__(self, task: RepresentationDynamics, batch: int, points: int):
        check_sizes(batch=batch, points=points)
        self.task, self.size, self.points = task, batch, points

    def batch(self, step: int, generator: torch.Generator) -> Batch:
        """Inputs (xs [batch points dim],), targets the vectors that follow."""
        xs = self.task.sample(self.size, self.points + 1, generator).xs
        return Batch((xs[:, :-1],), xs[:, 1:])

    def loss(self, model: nn.Module, batch: Batch) -> Float[Tensor, ""]:
        """The mean over sequences, places and coordinates.

        Raises:
            ValueError: if the model does not give one vector a place.
        """
        predicted = model(*batch.inputs)
        if predicted.shape != batch.targets.shape:
            raise ValueError(
                f"the model predicts {list(predicted.shape)} where the next vectors are {list(batch.targets.shape)}."
            )
        return F.mse_loss(predicted, batch.targets)

    def describe(self) -> dict[str, Any]:
        return {"name": "next vector", "task": described(self.task), "batch": self.size, "points": self.points}
