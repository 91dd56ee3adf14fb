"""What every task of the arena gives: sequences of symbols with one class each."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from microtome.lab.tasks.protocol import check_generator, check_sizes


@dataclass(frozen=True)
class LabelledSequences:
    """A batch of examples. Where an example is a pair of documents, `documents` is an axis of two.

    Attributes:
        tokens: [batch (documents) pos], ids from 0 to d_vocab − 1; 0 at padding.
        mask: [batch (documents) pos], True at real tokens.
        labels: [batch], classes from 0 to n_classes − 1.
    """

    tokens: Int[Tensor, "batch *documents pos"]
    mask: Bool[Tensor, "batch *documents pos"]
    labels: Int[Tensor, " batch"]


class SequenceClassification(ABC):
    """A law of labelled sequences. It is frozen and holds no state: the generator alone decides what is drawn.

    Attributes:
        length: positions of a sequence, padding included.
        pairs: whether an example is two documents, which an encoder reads one by one.
    """

    length: int
    pairs: ClassVar[bool] = False

    @property
    @abstractmethod
    def n_classes(self) -> int:
        """How many classes there are."""

    @property
    @abstractmethod
    def d_vocab(self) -> int:
        """How many ids tokens need, padding included."""

    @abstractmethod
    def sample(self, batch: int, generator: torch.Generator) -> LabelledSequences:
        """Draws examples on the generator's device; the same state of the generator gives the same batch.

        Raises:
            TypeError: if the generator is not one.
            ValueError: if batch is below 1.
        """

    def held_out(self) -> "SequenceClassification":
        """The task over examples that its own `sample` never draws.

        A law that is generated rather than stored is its own: fresh draws were not seen.
        """
        return self


def majority_rate(labels: Int[Tensor, " batch"]) -> float:
    """The share of the commonest class, which is what a constant answer reaches; 1/n_classes only under balance.

    Raises:
        ValueError: without labels.
    """
    check_sizes(labels=len(labels))
    return labels.bincount().max().item() / len(labels)


def check_request(batch: int, generator: torch.Generator) -> None:
    """Raises what `SequenceClassification.sample` says it raises."""
    check_sizes(batch=batch)
    check_generator(generator)


def integers(low: int, high: int, size: tuple[int, ...], generator: torch.Generator) -> Int[Tensor, "..."]:
    """Uniform whole numbers from `low` to `high`, both included, on the generator's device."""
    return torch.randint(low, high + 1, size, generator=generator, device=generator.device)


def whole(tokens: Int[Tensor, "batch *documents pos"], labels: Int[Tensor, " batch"]) -> LabelledSequences:
    """A batch without padding."""
    return LabelledSequences(tokens, torch.ones_like(tokens, dtype=torch.bool), labels)
