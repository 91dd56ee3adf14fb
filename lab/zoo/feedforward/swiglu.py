"""SwiGLU (Shazeer 2020, equation 5): out(silu(gate(x)) · in(x)), three matrices."""

from dataclasses import dataclass

import torch.nn.functional as F

from microtome.lab.zoo.feedforward._mlp import GatedMLP, width
from microtome.lab.zoo.parts import FeedForwardPart, Shape


@dataclass(frozen=True)
class Part(FeedForwardPart):
    """`d_mlp` None gives 8/3·d_model rounded down, which keeps the parameters of a 4·d_model feed-forward."""

    d_mlp: int | None = None
    bias: bool = False

    def build(self, shape: Shape) -> GatedMLP:
        return GatedMLP(shape, width(self.d_mlp, 8 * shape.d_model // 3), F.silu, self.bias)
