"""The gated feed-forward of TransNormer (Qin et al. 2022, slug `transnormer`): W_3(f(W_1 x) ⊙ W_2 x), with biases.

The paper's f is the swish; the published code's table of activations has no entry of that name and gives the identity,
so that its gate is bilinear.
"""

from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from torch import nn

from microtome.lab.zoo.feedforward._mlp import GatedMLP, width
from microtome.lab.zoo.parts import FeedForwardPart, Shape

GATES = {"swish": F.silu, "identity": nn.Identity()}


@dataclass(frozen=True)
class Part(FeedForwardPart):
    """`gate` is f; `d_mlp` None gives 8/3·d_model rounded down."""

    gate: Literal["swish", "identity"] = "swish"
    d_mlp: int | None = None
    bias: bool = True

    def build(self, shape: Shape) -> GatedMLP:
        if self.gate not in GATES:
            raise ValueError(f"the gate's activation is one of {', '.join(GATES)}, not {self.gate!r}.")
        return GatedMLP(shape, width(self.d_mlp, 8 * shape.d_model // 3), GATES[self.gate], self.bias)
