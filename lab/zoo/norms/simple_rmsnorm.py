"""Root-mean-square normalisation without parameters: x / (‖x‖₂/√C + 1e-8) (Qin et al. 2022, "The Devil in Linear
Transformer", slug `transnormer`). The constant stands outside the root, unlike in `torch.nn.functional.rms_norm`.
"""

import math
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from microtome.lab.zoo.norms._hooked import Stream
from microtome.lab.zoo.parts import NormPart, Placement
from microtome.lab.zoo.points import Point

EPSILON = 1e-8


def scale(x: Float[Tensor, "*axes channel"], epsilon: float = EPSILON) -> Float[Tensor, "*axes 1"]:
    """What x is divided by: its root mean square over channels, and epsilon."""
    return x.norm(dim=-1, keepdim=True) / math.sqrt(x.shape[-1]) + epsilon


def simple_rms(x: Float[Tensor, "*axes channel"], epsilon: float = EPSILON) -> Float[Tensor, "*axes channel"]:
    """x over its `scale`."""
    return x / scale(x, epsilon)


class SimpleRMSNorm(nn.Module):
    """TransformerLens' two points lie on the path: `hook_scale` and the quotient, `hook_normalized`."""

    def __init__(self):
        super().__init__()
        self.hook_scale = Point("batch pos one", "norm")
        self.hook_normalized = Point("batch pos d_model", "norm")

    def forward(self, x: Stream) -> Stream:
        return self.hook_normalized(x / self.hook_scale(scale(x)))


@dataclass(frozen=True)
class Part(NormPart):
    """`placement` as `NormPart` says; `final`: one more at the end of a `pre` stream."""

    placement: Placement = "pre"
    final: bool = True

    def build(self, d_model: int) -> SimpleRMSNorm:
        return SimpleRMSNorm()
