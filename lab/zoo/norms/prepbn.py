"""Progressive re-parametrised batch normalisation, PRepBN (Guo et al. 2024, "SLAB", section 3.1, slug `slab`).

    y = λ·LN(x) + (1 − λ)·RepBN(x),   λ = r₀·(T − t)/T, at least 0

in the t-th forward pass of training, t = 1, 2, …: layer normalisation at first, batch normalisation alone from step T
on. Evaluation is by RepBN alone whatever λ is, so that before step T it is not what training sees.
"""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn

from microtome.lab.zoo.norms import layernorm, repbn
from microtome.lab.zoo.parts import NormPart, Placement


class PRepBN(nn.Module):
    """The two norms side by side; `step` counts forward passes in training mode and is saved with the model."""

    def __init__(self, d_model: int, options: "Part"):
        super().__init__()
        self.options = options
        self.ln = options.keep.build(d_model)
        self.rep = repbn.RepBN(d_model, options.rep)
        self.register_buffer("step", torch.zeros((), dtype=torch.long))

    def forward(self, x: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch pos d_model"]:
        if not self.training:
            return self.rep(x)
        self.step += 1
        share = self.share().to(x.dtype)
        # RepBN runs at a share of zero too, so that its running statistics follow the stream from the first step.
        return share * self.ln(x) + (1 - share) * self.rep(x)

    def share(self) -> Float[Tensor, ""]:
        """λ at the present step, in float64; a tensor, so that no device has to be waited for."""
        options = self.options
        left = 1 - (self.step - options.warmup).double() / options.steps
        return torch.where(self.step <= options.warmup, 1.0, options.r0 * left.clamp(0, 1))


@dataclass(frozen=True)
class Part(NormPart):
    """Options of PRepBN.

    Attributes:
        steps: T, the training steps over which λ falls to 0; 300,000 in the paper, 60,000 for its DeiT and Swin.
        r0: λ at the start of the fall.
        warmup: training steps before it with the kept norm alone.
        keep: the norm that is replaced.
        rep: the RepBN that replaces it, with `eta` and `gain` to start from.
    """

    steps: int = 300_000
    r0: float = 1.0
    warmup: int = 0
    keep: NormPart = field(default_factory=layernorm.Part)
    rep: NormPart = field(default_factory=repbn.Part)

    @property
    def placement(self) -> Placement:
        return self.keep.placement

    @property
    def final(self) -> bool:
        return self.keep.final

    def build(self, d_model: int) -> PRepBN:
        if self.steps < 1 or self.warmup < 0 or not 0 <= self.r0 <= 1:
            raise ValueError(
                "PRepBN needs steps >= 1, warmup >= 0 and 0 <= r0 <= 1, "
                f"not steps={self.steps}, warmup={self.warmup}, r0={self.r0}."
            )
        return PRepBN(d_model, self)
