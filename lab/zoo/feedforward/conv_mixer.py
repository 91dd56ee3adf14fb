"""The channel mixer of LMUFormer (Liu et al. 2024, slug `lmuformer`): two convolutions of width one, batch-normalised.

ReLU(BN(W_out·GELU(BN(W_in·x + b_in)) + b_out))
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from microtome.lab.zoo.feedforward._mlp import MLP, width
from microtome.lab.zoo.norms._batch import BatchNorm
from microtome.lab.zoo.parts import FeedForwardPart, Shape


class ConvMixer(MLP):
    """`hook_pre` stands after the first batch norm, before the activation."""

    b_out = None
    """The output's bias is normalised away, so that none is added to the stream."""

    def __init__(self, shape: Shape, d_mlp: int):
        super().__init__(shape, d_mlp, F.gelu, bias=True)
        self.bn_in, self.bn_out = BatchNorm(d_mlp), BatchNorm(shape.d_model)

    def forward(self, x: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch pos d_model"]:
        hidden = self.hook_post(self.act(self.hook_pre(self.bn_in(self.in_(x)))))
        return torch.relu(self.bn_out(self.out(hidden)))


@dataclass(frozen=True)
class Part(FeedForwardPart):
    """`d_mlp` None gives 4·d_model."""

    d_mlp: int | None = None

    def build(self, shape: Shape) -> ConvMixer:
        return ConvMixer(shape, width(self.d_mlp, 4 * shape.d_model))
