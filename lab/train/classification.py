"""The objective of learners that give a sequence one class."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from microtome.lab.tasks.long_range.protocol import LabelledSequences, SequenceClassification
from microtome.lab.tasks.protocol import check_sizes
from microtome.lab.train.objective import Batch, described


class SequenceLabels:
    """Cross entropy of a class, in nats, on fresh sequences each step.

    The model is called `model(tokens)`, or `model(tokens, mask)` where a batch has padding, and gives logits.

    Args:
        task: what sequences and labels are drawn from.
        batch: sequences a step.

    Raises:
        ValueError: if `batch` is below 1.
    """

    def __init__(self, task: SequenceClassification, batch: int):
        check_sizes(batch=batch)
        self.task, self.size = task, batch

    def batch(self, step: int, generator: torch.Generator) -> Batch:
        """Inputs (tokens,) or (tokens, mask), targets the labels."""
        drawn = self.task.sample(self.size, generator)
        return Batch(inputs_of(drawn), drawn.labels)

    def loss(self, model: nn.Module, batch: Batch) -> Float[Tensor, ""]:
        """The mean over sequences.

        Raises:
            ValueError: if the model does not give logits of every class for each sequence.
        """
        logits = model(*batch.inputs)
        wanted = (*batch.targets.shape, self.task.n_classes)
        if logits.shape != wanted:
            raise ValueError(
                f"the model gives {list(logits.shape)}; a classifier here gives logits "
                f"[batch n_classes] = {list(wanted)}."
            )
        return F.cross_entropy(logits, batch.targets)

    def describe(self) -> dict[str, Any]:
        return {"name": "sequence labels", "task": described(self.task), "batch": self.size}


def inputs_of(drawn: LabelledSequences) -> tuple[Tensor, ...]:
    """What a classifier is called with: no mask where nothing is masked, which most mixers do faster."""
    return (drawn.tokens,) if drawn.mask.all() else (drawn.tokens, drawn.mask)


@torch.no_grad()
def accuracy(model: nn.Module, examples: LabelledSequences, batch: int = 64) -> float:
    """The share of labels found, in evaluation mode, `batch` sequences at a time."""
    check_sizes(batch=batch, examples=len(examples.labels))
    training = model.training
    model.eval()
    try:
        right = 0
        for first in range(0, len(examples.labels), batch):
            cut = slice(first, first + batch)
            part = LabelledSequences(examples.tokens[cut], examples.mask[cut], examples.labels[cut])
            right += (model(*inputs_of(part)).argmax(-1) == part.labels).sum().item()
        return right / len(examples.labels)
    finally:
        model.train(training)
