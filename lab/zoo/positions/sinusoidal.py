"""Sinusoidal positions (Vaswani et al. 2017, section 3.5): PE[t, 2i] = sin(t/base^{2i/d}), PE[t, 2i+1] = cos(same)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from microtome.lab.zoo.parts import Position, PositionPart, Shape


def sinusoids(n: int, d_model: int, base: float = 10_000.0) -> Float[Tensor, "pos d_model"]:
    """The table of n positions, float64 inside and float32 out."""
    frequency = base ** (-torch.arange(0, d_model, 2, dtype=torch.float64) / d_model)
    angle = torch.arange(n, dtype=torch.float64)[:, None] * frequency
    return torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(1).float()


class SinusoidalPosition(Position):
    """A fixed table, kept as a buffer that checkpoints leave out."""

    def __init__(self, options: "Part", shape: Shape):
        super().__init__()
        if shape.d_model % 2:
            raise ValueError(
                f"sinusoidal positions come in sine and cosine pairs; d_model={shape.d_model} must be even."
            )
        self.longest = shape.n_ctx
        self.register_buffer("table", sinusoids(shape.n_ctx, shape.d_model, options.base), persistent=False)

    def embedding(self, n: int) -> Float[Tensor, "pos d_model"]:
        return self.table[:n]


@dataclass(frozen=True)
class Part(PositionPart):
    """`base` is the ratio of the longest wavelength to the shortest."""

    provides: ClassVar = frozenset({"embedding"})

    base: float = 10_000.0

    def build(self, shape: Shape) -> SinusoidalPosition:
        return SinusoidalPosition(self, shape)
