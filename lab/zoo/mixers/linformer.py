"""Linformer (Wang et al. 2020, "Linformer: self-attention with linear complexity", equation 7): keys and values of all
positions projected onto a few.

    z = softmax(Q (E K)ᵀ/√d) (F V),   E, F [rank pos] learned

so that the n × n matrix is softmax(…) F. Masked positions are zeros among keys and values. A softmax over mixtures of
all positions cannot be kept from the future. An input shorter than n_ctx reads the first columns of E and F. ("Long
Range Arena", Tay et al. 2020, slug `long_range_arena`, has E = F and rank 16.)
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from microtome.lab.zoo.mixers._pattern import Heads, Pattern, PatternMixer
from microtome.lab.zoo.parts import Context, MixerPart, Shape
from microtome.lab.zoo.template import Template


class LinformerMixer(PatternMixer):
    """Attention to `rank` learned mixtures of positions."""

    def __init__(self, options: "Part", shape: Shape):
        super().__init__(shape)
        self.longest = shape.n_ctx
        # Of variance 1/rank, so that lengths keep (Johnson and Lindenstrauss), as published.
        self.e = nn.Parameter(torch.randn(options.rank, shape.n_ctx) * options.rank**-0.5)
        if not options.tied:
            self.f = nn.Parameter(torch.randn(options.rank, shape.n_ctx) * options.rank**-0.5)
        self.tied = options.tied

    def _heads(self, x: Tensor, context: Context) -> tuple[Heads, Heads, Heads]:
        q, k, v = super()._heads(x, context)
        if context.mask is not None:
            real = context.mask[:, None, :, None]
            k, v = k * real, v * real
        return q, k, v

    def _pattern(self, q: Heads, k: Heads, context: Context) -> Pattern:
        return self._weights(q, k) @ self._for_values(context.n)

    def _fast(self, q: Heads, k: Heads, v: Heads, context: Context) -> Heads:
        return self._weights(q, k) @ (self._for_values(context.n) @ v)

    def _weights(self, q: Heads, k: Heads) -> Float[Tensor, "batch head query rank"]:
        projected = self.e[:, : k.shape[2]] @ k
        return (q @ projected.mT * self.d_head**-0.5).softmax(-1)

    def _for_values(self, n: int) -> Float[Tensor, "rank pos"]:
        return (self.e if self.tied else self.f)[:, :n]


@dataclass(frozen=True)
class Part(MixerPart):
    """`rank`: how many mixtures; `tied`: whether keys and values have one projection, E = F."""

    bidirectional_only: ClassVar = True
    template: ClassVar = Template(
        matrix="softmax(Q(EK)ᵀ/√d) F",
        depends="input",
        structure="rank ≤ rank",
        cost="n·rank·d",
        normalised="softmax over mixtures of keys",
        low_rank="rank",
        lengths="at most n_ctx",
    )

    rank: int = 16
    tied: bool = True

    def build(self, shape: Shape) -> LinformerMixer:
        if self.rank < 1:
            raise ValueError(f"rank must be at least 1, not {self.rank}.")
        return LinformerMixer(self, shape)
