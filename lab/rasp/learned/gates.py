"""Choosing one of several: exactly, or relaxed by the Gumbel-softmax so that the choice can be trained.

    sample(φ) = softmax((φ + g)/τ),  g ~ Gumbel(0, 1)      (Jang et al. 2017; Friedman et al. 2023, section 3.1)

As τ → 0 this tends to the one-hot vector of argmax(φ + g); without noise the argmax of φ is left, the discrete network.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

Sample = Callable[[Tensor], Tensor]
"""Turns logits into one-hot vectors, exact or relaxed, along the last axis."""


def argmax(logits: Float[Tensor, "*rows value"]) -> Float[Tensor, "*rows value"]:
    """The one-hot vector of the largest logit; of equal ones, the first."""
    return torch.zeros_like(logits).scatter_(-1, logits.argmax(-1, keepdim=True), 1.0)


@dataclass(frozen=True)
class Gumbel:
    """Samples with Gumbel noise.

    Attributes:
        temperature: τ, positive.
        generator: draws the noise.
        hard: whether to return the one-hot limit τ → 0 for the same noise, which has no gradient.

    Raises:
        ValueError: if the temperature is not positive and finite.
    """

    temperature: float
    generator: torch.Generator
    hard: bool = False

    def __post_init__(self):
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise ValueError(f"temperature must be positive and finite, not {self.temperature}.")

    def __call__(self, logits: Float[Tensor, "*rows value"]) -> Float[Tensor, "*rows value"]:
        noise = -torch.empty_like(logits).exponential_(generator=self.generator).log()
        noisy = logits + noise
        return argmax(noisy) if self.hard else (noisy / self.temperature).softmax(-1)


@dataclass(frozen=True)
class Annealing:
    """A temperature that falls geometrically from `start` to `end` over the epochs, and within each towards the next.

    Raises:
        ValueError: unless start ≥ end > 0.
    """

    start: float = 3.0
    end: float = 0.01

    def __post_init__(self):
        if not (math.isfinite(self.start) and self.start >= self.end > 0):
            raise ValueError(f"temperatures must fall and stay positive, not go from {self.start} to {self.end}.")

    def at(self, step: int, per_epoch: int, epochs: int) -> float:
        """The temperature of a step of a run of `epochs` epochs with `per_epoch` steps each.

        The first epoch begins at `start` and the last one is at `end` throughout; the steps of an epoch between go from
        its own temperature to the next one's, both included.
        """
        epoch, within = divmod(step, per_epoch)
        if epochs > 1 and epoch < epochs - 1:
            epoch += within / (per_epoch - 1) if per_epoch > 1 else 0
        return self.start * (self.end / self.start) ** (epoch / max(epochs - 1, 1))


class Gate(nn.Module):
    """Reads one variable out of several: Σ_v π_v · variable_v with π = sample(φ), for a whole array of readers.

    Args:
        readers: shape of the array of readers, e.g. (2, heads).
        n_vars: variables to choose from, m.
        generator: draws φ ~ N(0, 1/m).
    """

    def __init__(self, readers: tuple[int, ...], n_vars: int, generator: torch.Generator):
        super().__init__()
        self.logits = started(*readers, n_vars, fan=n_vars, generator=generator)

    def forward(
        self, variables: Float[Tensor, "batch pos var value"], sample: Sample
    ) -> Float[Tensor, "batch pos *readers value"]:
        choice = sample(self.logits)
        read = torch.einsum("rv,bpvk->bprk", choice.flatten(0, -2), variables)
        return read.unflatten(-2, choice.shape[:-1])

    @property
    def chosen(self) -> Int[Tensor, "*readers"]:
        """The variable that each reader of the discrete network reads."""
        return self.logits.argmax(-1)


def started(*shape: int, fan: int, generator: torch.Generator) -> nn.Parameter:
    """A parameter with entries from N(0, 1/fan)."""
    return nn.Parameter(torch.randn(*shape, generator=generator) / math.sqrt(fan))
