"""What LayerNorm and RMSNorm share: TransformerLens' two points beside a fused path."""

from abc import abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor, nn

from microtome.lab.zoo.points import Recomputable

Stream = Float[Tensor, "batch pos d_model"]


class HookedNorm(nn.Module):
    """`hook_scale` is what the (centred) stream is divided by, `hook_normalized` the quotient, before gain and bias."""

    def __init__(self, d_model: int, eps: float):
        super().__init__()
        self.shape, self.eps = (d_model,), eps
        self.weight = nn.Parameter(torch.ones(d_model))
        self.hook_scale = Recomputable("batch pos one", "norm")
        self.hook_normalized = Recomputable("batch pos d_model", "norm")

    @abstractmethod
    def fused(self, x: Stream) -> Stream:
        """The whole norm in torch's fused operation."""

    @abstractmethod
    def centred(self, x: Stream) -> Stream:
        """What is divided by its root mean square."""

    @abstractmethod
    def gain(self, x: Stream) -> Stream:
        """Gain, and bias if there is one."""

    def forward(self, x: Stream) -> Stream:
        if not (self.hook_scale.watched or self.hook_normalized.watched):
            return self.fused(x)
        if (self.hook_scale.needs_path or self.hook_normalized.needs_path) and torch.is_grad_enabled():
            return self.explicit(x)[0]
        with torch.no_grad():
            out, edited = self.explicit(x)
        return out if edited else self.fused(x)

    def explicit(self, x: Stream) -> tuple[Tensor, bool]:
        """The norm through its points, and whether a hook changed one."""
        centred = self.centred(x)
        scale, scale_edited = self.hook_scale.show((centred.square().mean(-1, keepdim=True) + self.eps).sqrt())
        quotient, quotient_edited = self.hook_normalized.show(centred / scale)
        return self.gain(quotient), scale_edited or quotient_edited
