"""Relative score bias with one learned scalar an offset and head: B_ij = b_{j−i} (the plain form of Shaw et al. 2018,
Raffel et al. 2020). The table serves all layers; 2·n_ctx − 1 scalars a head.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from microtome.kernels.toeplitz import toeplitz
from microtome.lab.zoo.parts import Position, PositionPart, Shape


class RelativePosition(Position):
    """The table `weight` is [head, offset]; offset index j − i + n_ctx − 1."""

    def __init__(self, options: "Part", shape: Shape):
        super().__init__()
        self.longest = shape.n_ctx
        self.weight = nn.Parameter(torch.randn(shape.n_heads, 2 * shape.n_ctx - 1) * options.std)

    def bias(self, queries: Int[Tensor, " query"], n_keys: int) -> Float[Tensor, "head query key"]:
        return toeplitz_rows(self.weight, self.longest, queries, n_keys)


def toeplitz_rows(
    table: Float[Tensor, "head offset"], n_ctx: int, queries: Int[Tensor, " query"], n_keys: int
) -> Float[Tensor, "head query key"]:
    """Rows of the Toeplitz matrix T_ij = t_{j−i} at the given queries, from a table for up to n_ctx positions."""
    cut = table[:, n_ctx - n_keys : n_ctx + n_keys - 1]
    return toeplitz(cut, queries)


@dataclass(frozen=True)
class Part(PositionPart):
    """`std` is the standard deviation of the table's start."""

    provides: ClassVar = frozenset({"bias"})

    std: float = 0.02

    def build(self, shape: Shape) -> RelativePosition:
        return RelativePosition(self, shape)
