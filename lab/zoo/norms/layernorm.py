"""Layer normalisation (Ba et al. 2016): gain · (x − mean) / √(var + eps) + bias over the model's width."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from microtome.lab.zoo.norms._hooked import HookedNorm, Stream
from microtome.lab.zoo.parts import NormPart, Placement


class LayerNorm(HookedNorm):
    def __init__(self, d_model: int, eps: float):
        super().__init__(d_model, eps)
        self.bias = nn.Parameter(torch.zeros(d_model))

    def fused(self, x: Stream) -> Stream:
        return F.layer_norm(x, self.shape, self.weight, self.bias, self.eps)

    def centred(self, x: Stream) -> Stream:
        return x - x.mean(-1, keepdim=True)

    def gain(self, x: Stream) -> Stream:
        return x * self.weight + self.bias


@dataclass(frozen=True)
class Part(NormPart):
    """`placement` as `NormPart` says; `final`: one more at the end of a `pre` stream."""

    placement: Placement = "pre"
    eps: float = 1e-5
    final: bool = True

    def build(self, d_model: int) -> LayerNorm:
        return LayerNorm(d_model, self.eps)
