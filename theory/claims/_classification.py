"""Classification of a fixed data set, for claims: minibatches, the loss, and how often the answer is right."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from microtome.lab.train import Batch


@dataclass(frozen=True)
class Classification:
    """Cross entropy of minibatches drawn with replacement; the model is called with one tensor and gives logits.

    Attributes:
        name: of the data set.
        inputs: [example, …].
        labels: [example], classes from 0.
        size: examples a minibatch.
    """

    name: str
    inputs: Tensor
    labels: Int[Tensor, " example"]
    size: int

    def batch(self, step: int, generator: torch.Generator) -> Batch:
        chosen = torch.randint(len(self.labels), (self.size,), generator=generator)
        return Batch((self.inputs[chosen],), self.labels[chosen])

    def loss(self, model: nn.Module, batch: Batch) -> Float[Tensor, ""]:
        return F.cross_entropy(model(*batch.inputs), batch.targets)

    def describe(self) -> dict[str, Any]:
        return {"name": "classification", "data": self.name, "examples": len(self.labels), "batch": self.size}


def accuracy(logits: Float[Tensor, "example classes"], labels: Int[Tensor, " example"]) -> float:
    """Share of the examples whose largest logit is the label's."""
    return (logits.argmax(-1) == labels).float().mean().item()
