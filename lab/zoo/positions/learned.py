"""Learned absolute positions: one vector a position, added to the stream (Gehring et al. 2017; GPT-2, BERT)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from microtome.lab.zoo.parts import Position, PositionPart, Shape


class LearnedPosition(Position):
    """The table `weight` is [pos, d_model]."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.longest = shape.n_ctx
        bound = shape.d_model**-0.5
        self.weight = nn.Parameter(torch.empty(shape.n_ctx, shape.d_model).uniform_(-bound, bound))

    def embedding(self, n: int) -> Float[Tensor, "pos d_model"]:
        return self.weight[:n]


@dataclass(frozen=True)
class Part(PositionPart):
    """No options: the table has n_ctx rows."""

    provides: ClassVar = frozenset({"embedding"})

    def build(self, shape: Shape) -> LearnedPosition:
        return LearnedPosition(shape)
