"""Root-mean-square normalisation (Zhang and Sennrich 2019): gain · x / √(mean(x²) + eps)."""

from dataclasses import dataclass

import torch.nn.functional as F

from microtome.lab.zoo.norms._hooked import HookedNorm, Stream
from microtome.lab.zoo.parts import NormPart, Placement


class RMSNorm(HookedNorm):
    def fused(self, x: Stream) -> Stream:
        return F.rms_norm(x, self.shape, self.weight, self.eps)

    def centred(self, x: Stream) -> Stream:
        return x

    def gain(self, x: Stream) -> Stream:
        return x * self.weight


@dataclass(frozen=True)
class Part(NormPart):
    """`placement` as `NormPart` says; `final`: one more at the end of a `pre` stream."""

    placement: Placement = "pre"
    eps: float = 1e-5
    final: bool = True

    def build(self, d_model: int) -> RMSNorm:
        return RMSNorm(d_model, self.eps)
