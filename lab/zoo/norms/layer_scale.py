"""LayerScale (Touvron et al. 2021, "Going deeper with Image Transformers"): what a sub-layer writes is multiplied by a
learned γ per channel that starts small, x + γ₁ ⊙ attn(norm(x)), then x + γ₂ ⊙ mlp(norm(x)).

γ multiplies the last linear map of each sub-layer, W ↦ diag(γ)·W and b ↦ γ ⊙ b, so that `W_O` and `W_out` are what
reaches the stream. The norm itself is another part's.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from microtome.lab.zoo.norms import layernorm
from microtome.lab.zoo.parts import NormPart, Placement


class ChannelScale(nn.Module):
    """diag(γ) before a weight [channel, …] or a bias [channel]."""

    def __init__(self, channels: int, start: float):
        super().__init__()
        self.gamma = nn.Parameter(torch.full((channels,), start))

    def forward(self, x: Tensor) -> Tensor:
        return self.gamma.reshape(-1, *(1,) * (x.dim() - 1)) * x


@dataclass(frozen=True)
class Part(NormPart):
    """`start`: of every γ, 1e-4 for deep vision models; `keep`: the norm part that normalises.

    Raises ValueError, when a model is built, for a start that is zero or a mixer without an output map `o`.
    """

    start: float = 1e-4
    keep: NormPart = field(default_factory=layernorm.Part)

    @property
    def placement(self) -> Placement:
        return self.keep.placement

    @property
    def final(self) -> bool:
        return self.keep.final

    def build(self, d_model: int) -> nn.Module:
        return self.keep.build(d_model)

    def finish(self, model: nn.Module) -> None:
        if self.start == 0:
            raise ValueError("layer_scale must start above or below zero: at zero no sub-layer would ever learn.")
        self.keep.finish(model)
        for block in model.blocks:
            if not isinstance(getattr(block.mixing, "o", None), nn.Linear):
                raise ValueError(
                    f"layer_scale scales a mixer's output map o, which {type(block.mixing).__name__} lacks."
                )
            for linear in [block.mixing.o] + ([] if block.mlp is None else [block.mlp.out]):
                scale = ChannelScale(linear.out_features, self.start)
                for name in ("weight", "bias"):
                    if getattr(linear, name) is not None:
                        parametrize.register_parametrization(linear, name, scale)
