"""Rotary positions (Su et al. 2021, RoFormer, equation 34): queries and keys turn by an angle t·base^{−2i/r} in the
i-th plane of their first r dimensions, so that scores depend on offsets only. Planes pair dimensions 2i and 2i + 1.
"""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float, Int
from torch import Tensor

from microtome.kernels.rope import rotate
from microtome.lab.zoo.parts import Position, PositionPart, Shape


class RotaryPosition(Position):
    def __init__(self, options: "Part"):
        super().__init__()
        self.options = options

    def rotate(
        self, x: Float[Tensor, "batch pos head d_head"], positions: Int[Tensor, " pos"]
    ) -> Float[Tensor, "batch pos head d_head"]:
        return rotate(x, positions, rotary_dim=self.options.rotary_dim, base=self.options.base)


@dataclass(frozen=True)
class Part(PositionPart):
    """`rotary_dim`: how many dimensions of a head turn (None: all); `base` as published."""

    provides: ClassVar = frozenset({"rotation"})

    rotary_dim: int | None = None
    base: float = 10_000.0

    def build(self, shape: Shape) -> RotaryPosition:
        return RotaryPosition(self)
