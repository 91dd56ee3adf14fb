"""The feed-forward of the first transformer (Vaswani et al. 2017, equation 2): ReLU."""

from dataclasses import dataclass

import torch

from microtome.lab.zoo.feedforward._mlp import MLP, width
from microtome.lab.zoo.parts import FeedForwardPart, Shape


@dataclass(frozen=True)
class Part(FeedForwardPart):
    """`d_mlp` None gives 4·d_model."""

    d_mlp: int | None = None
    bias: bool = True

    def build(self, shape: Shape) -> MLP:
        return MLP(shape, width(self.d_mlp, 4 * shape.d_model), torch.relu, self.bias)
