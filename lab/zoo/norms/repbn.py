"""Re-parametrised batch normalisation, RepBN (Guo et al. 2024, "SLAB", section 3.1, slug `slab`).

    RepBN(x) = BN(x) + η·x

with one learned scalar η a layer. With the running statistics μ and σ = √(var + eps) it is a·x + b channel by channel,
a = γ/σ + η, b = β − γμ/σ: an ordinary batch norm with γ′ = γ + ησ and β′ = β + ημ, which a following linear map can
take in.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from microtome.lab.zoo.norms._batch import BatchNorm
from microtome.lab.zoo.parts import NormPart, Placement
from microtome.lab.zoo.points import Point


class RepBN(nn.Module):
    """`hook_normalized` is (x − μ)/σ, before gain, bias and the way around."""

    def __init__(self, d_model: int, options: "Part"):
        super().__init__()
        self.bn = BatchNorm(d_model, eps=options.eps, affine=False)
        self.weight = nn.Parameter(torch.full((d_model,), options.gain))
        self.bias = nn.Parameter(torch.zeros(d_model))
        self.eta = nn.Parameter(torch.tensor(options.eta))
        self.hook_normalized = Point("batch pos d_model", "norm")

    def forward(self, x: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch pos d_model"]:
        return self.hook_normalized(self.bn(x)) * self.weight + self.bias + self.eta * x

    def affine(self) -> tuple[Float[Tensor, " d_model"], Float[Tensor, " d_model"]]:
        """a and b of the norm as it is in evaluation mode, x ↦ a·x + b."""
        gain = self.weight * (self.bn.running_var + self.bn.eps).rsqrt()
        return gain + self.eta, self.bias - gain * self.bn.running_mean


@dataclass(frozen=True)
class Part(NormPart):
    """Options of RepBN.

    Attributes:
        placement: as `NormPart` says.
        eta: what η starts from: 1 in the paper's vision models, 0 in its language models.
        gain: what γ starts from: 1 in the vision models, 0 in the language models.
        eps: added to the variance.
        final: one more at the end of a `pre` stream.
    """

    placement: Placement = "pre"
    eta: float = 1.0
    gain: float = 1.0
    eps: float = 1e-5
    final: bool = True

    def build(self, d_model: int) -> RepBN:
        return RepBN(d_model, self)
