"""The feed-forward of GPT-2, BERT and ViT: GELU (Hendrycks and Gimpel 2016), tanh form or exact."""

from dataclasses import dataclass
from functools import partial
from typing import Literal

from microtome.kernels.gelu import gelu
from microtome.lab.zoo.feedforward._mlp import MLP, width
from microtome.lab.zoo.parts import FeedForwardPart, Shape


@dataclass(frozen=True)
class Part(FeedForwardPart):
    """`d_mlp` None gives 4·d_model; `approximate` is torch's: "tanh" (GPT-2) or "none" (the error function, ViT)."""

    d_mlp: int | None = None
    approximate: Literal["tanh", "none"] = "tanh"
    bias: bool = True

    def build(self, shape: Shape) -> MLP:
        return MLP(
            shape,
            width(self.d_mlp, 4 * shape.d_model),
            partial(gelu, approximate=self.approximate),
            self.bias,
        )
