"""What every task gives: prompts drawn from a known law, and the exact answer for that law."""

import dataclasses
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from microtome.lab.bayes import Predictor
from microtome.lab.tasks.draw import Draw


@dataclass(frozen=True)
class Prompt:
    """A batch of in-context learning problems.

    Attributes:
        xs: inputs, [batch points dim].
        ys: labels, [batch points].
        latents: what was drawn and is hidden from the learner, by name; the batch comes first, e.g. "w"
            [batch dim].
    """

    xs: Float[Tensor, "batch points dim"]
    ys: Float[Tensor, "batch points"]
    latents: dict[str, Tensor]


class Task(ABC):
    """A law of prompts. A task is frozen and holds no state: the generator alone decides what is drawn.

    Attributes:
        dim: dimensions of x.
        signs: whether labels are −1 and +1, so that a learner gives log odds.
    """

    dim: int
    signs: ClassVar[bool] = False

    def sample(
        self,
        batch: int,
        points: int,
        generator: torch.Generator,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> Prompt:
        """Draws prompts; the same state of the generator gives the same prompts.

        Args:
            batch: how many prompts, at least 1.
            points: pairs in each, at least 1.
            generator: draws everything, on its own device.
            dtype: of all floating-point numbers.
            device: where the prompts are put; None leaves them on the generator's.

        Raises:
            TypeError: if the generator is not one, or dtype is not floating-point.
            ValueError: if batch or points is below 1, or the law has no prompts of so many points.
        """
        check_sizes(batch=batch, points=points)
        check_generator(generator)
        if not dtype.is_floating_point:
            raise TypeError(f"dtype must be floating-point, not {dtype}.")
        prompt = self._prompt(batch, points, Draw(generator, dtype))
        latents = {name: latent.to(device) for name, latent in prompt.latents.items()}
        return Prompt(prompt.xs.to(device), prompt.ys.to(device), latents)

    @property
    def full_size(self) -> int:
        """What a curriculum brings to its full value: the coordinates of x, unless the task says otherwise."""
        return self.dim

    def narrowed(self, size: int) -> "Task":
        """The same law at a smaller `size`, for a curriculum.

        Raises:
            TypeError: if the task has no such law.
            ValueError: if there is none of this size.
        """
        return dataclasses.replace(self, dim=size)

    @abstractmethod
    def _prompt(self, batch: int, points: int, draw: Draw) -> Prompt:
        """The prompts of `sample`, whose arguments were judged, on the generator's device."""

    @abstractmethod
    def bayes(self) -> Predictor:
        """The posterior predictive of this law, exact or with its error declared."""


@dataclass(frozen=True)
class TokenBatch:
    """A batch of token sequences with what is to be said at every position.

    Attributes:
        tokens: [batch pos].
        targets: [batch pos].
        weights: of each position in the loss, [batch pos]; zero where nothing is asked.
    """

    tokens: Int[Tensor, "batch pos"]
    targets: Int[Tensor, "batch pos"]
    weights: Float[Tensor, "batch pos"]


class TokenTask(ABC):
    """A law of token sequences with a target at every position.

    Attributes:
        length: positions of a sequence.
    """

    length: int

    @property
    @abstractmethod
    def d_vocab(self) -> int:
        """How many ids tokens and targets need together, as a model with one vocabulary wants it."""

    @abstractmethod
    def sample(self, batch: int, generator: torch.Generator) -> TokenBatch:
        """Draws sequences on the generator's device; the same state of the generator gives the same batch.

        Raises:
            TypeError: if the generator is not one.
            ValueError: if batch is below 1.
        """


def check_sizes(**sizes: int) -> None:
    """Raises ValueError, naming the one at fault, unless every size is at least 1."""
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} must be at least 1, not {size}.")


def check_generator(generator: torch.Generator) -> None:
    """Raises TypeError unless a generator was given: nothing here draws from the global one."""
    if not isinstance(generator, torch.Generator):
        raise TypeError(f"generator must be a torch.Generator, not {type(generator).__name__}.")
