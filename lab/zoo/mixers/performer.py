"""Performer, FAVOR+ (Choromanski et al. 2021, "Rethinking attention with Performers"): random features of the
exponential kernel in linear attention.

    A_ij = φ(q_i)·φ(k_j) / Σ_l φ(q_i)·φ(k_l) with q, k scaled by d^{−1/4},   E[φ(q)·φ(k)] = e^{q·k/√d}

The features are positive, their directions orthogonal within blocks of d_head rows, drawn once and frozen. As
`features="relu"` they are ReLU(w_r·x)/√m + 10⁻³, another kernel than softmax's, which the published code of "Long Range
Arena" (Tay et al. 2020, slug `long_range_arena`) takes by default.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from microtome.kernels.random_features import directions, positive_features, relu_features
from microtome.lab.zoo.mixers.linear_attention import LinearAttention
from microtome.lab.zoo.parts import MixerPart, Shape
from microtome.lab.zoo.template import Template

KINDS = ("positive", "relu")


class PerformerMixer(LinearAttention):
    """Linear attention through random features."""

    def __init__(self, options: "Part", shape: Shape):
        super().__init__(shape)
        self.kind = options.features
        drawn = torch.Generator().manual_seed(int(torch.randint(2**31, ())))
        w = directions(options.n_features, self.d_head, drawn, orthogonal=options.orthogonal)
        self.register_buffer("w", w.to(self.o.weight.dtype))

    def features(self, x: Float[Tensor, "*axes d_head"]) -> Float[Tensor, "*axes feature"]:
        x = x * self.d_head**-0.25
        return positive_features(x, self.w) if self.kind == "positive" else relu_features(x, self.w)

    @property
    def n_features(self) -> int:
        return self.w.shape[0]


@dataclass(frozen=True)
class Part(MixerPart):
    """Options of Performer.

    Attributes:
        n_features: m, how many random features.
        features: "positive" for e^{w·x − ‖x‖²/2}, "relu" for ReLU(w·x) + 10⁻³.
        orthogonal: whether directions are orthogonal inside blocks of d_head.
    """

    template: ClassVar = Template(
        matrix="φ(Q)φ(K)ᵀ, E φ(q)·φ(k) = e^{q·k/√d}",
        depends="input",
        structure="rank ≤ m",
        cost="n·m·d",
        normalised="row sum",
        low_rank="m",
    )

    n_features: int = 64
    features: Literal["positive", "relu"] = "positive"
    orthogonal: bool = True

    def build(self, shape: Shape) -> PerformerMixer:
        if self.features not in KINDS or self.n_features < 1:
            raise ValueError(
                f"features are one of {', '.join(KINDS)}, at least 1 of them, not {self.n_features} {self.features!r}."
            )
        return PerformerMixer(self, shape)
