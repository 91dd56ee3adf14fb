"""ALiBi (Press et al. 2022, section 3): scores lose m_h per step of distance, m_h = 2^{−8h/H} for H a power of two,
else the slopes of the next lower power followed by every other slope of the next higher one. Nothing is learned.
Bidirectional models use the distance |i − j|.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from microtome.lab.zoo.parts import Position, PositionPart, Shape


def slopes(n_heads: int) -> Float[Tensor, " head"]:
    """ALiBi's slope of each head."""

    def geometric(n: int) -> list[float]:
        return [2.0 ** (-8.0 * (h + 1) / n) for h in range(n)]

    lower = 2 ** int(math.log2(n_heads))
    return torch.tensor(geometric(lower) + geometric(2 * lower)[::2][: n_heads - lower])


class AlibiPosition(Position):
    def __init__(self, shape: Shape):
        super().__init__()
        self.register_buffer("slopes", slopes(shape.n_heads), persistent=False)

    def bias(self, queries: Int[Tensor, " query"], n_keys: int) -> Float[Tensor, "head query key"]:
        distance = (torch.arange(n_keys, device=queries.device) - queries[:, None]).abs()
        return -self.slopes[:, None, None] * distance


@dataclass(frozen=True)
class Part(PositionPart):
    """No options."""

    provides: ClassVar = frozenset({"bias"})

    def build(self, shape: Shape) -> AlibiPosition:
        return AlibiPosition(shape)
