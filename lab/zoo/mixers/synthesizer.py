"""Synthesizer (Tay et al. 2021, "Synthesizer: rethinking self-attention for transformer models", sections 3.2 and 3.4):
learned scores for every pair of places, beside those of queries and keys.

    A = softmax(R + QKᵀ/√d),   R [head pos pos] learned, or R = A Bᵀ with A, B [head pos rank]

("Long Range Arena", Tay et al. 2020, slug `long_range_arena`, has rank 32 where R is factorised.)
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from microtome.kernels import softmax as kernel
from microtome.lab.zoo.mixers import softmax
from microtome.lab.zoo.parts import Context, Shape
from microtome.lab.zoo.template import Template


class SynthesizerMixer(softmax.SoftmaxMixer):
    """Softmax attention with a learned score for every pair of places."""

    skips_rows = False

    def __init__(self, options: "Part", shape: Shape):
        super().__init__(options, shape)
        self.longest, self.rank = shape.n_ctx, options.rank
        if self.rank is None:
            self.r = nn.Parameter(torch.randn(shape.n_heads, shape.n_ctx, shape.n_ctx))
        else:
            # Products of these have variance one, as the entries of a full R.
            size = (2, shape.n_heads, shape.n_ctx, self.rank)
            self.r = nn.Parameter(torch.randn(size) * self.rank**-0.25)

    def scores_of_places(self, n: int) -> Float[Tensor, "head query key"]:
        """R of n positions."""
        if self.rank is None:
            return self.r[:, :n, :n]
        a, b = self.r[:, :, :n]
        return a @ b.mT

    def _adjusted(self, scores: Tensor, queries: Tensor) -> Tensor:
        return scores + self.scores_of_places(scores.shape[-1])[:, queries]

    def _fused(self, q: Tensor, k: Tensor, v: Tensor, context: Context) -> Tensor:
        return kernel.attention(q, k, v, **self._terms(context))

    def _terms(self, context: Context) -> dict:
        r = self.scores_of_places(context.n)
        return {**super()._terms(context), "bias": r if context.bias is None else r + context.bias}


@dataclass(frozen=True)
class Part(softmax.Part):
    """The options of softmax attention, and `rank` of R; None for a full R."""

    template: ClassVar = Template(
        matrix="softmax(R + QKᵀ/√d + B)",
        depends="input",
        structure="dense",
        cost="n²·d",
        normalised="softmax over keys",
        lengths="at most n_ctx",
    )

    rank: int | None = 32

    def build(self, shape: Shape) -> SynthesizerMixer:
        if self.rank is not None and self.rank < 1:
            raise ValueError(f"rank must be at least 1, not {self.rank}.")
        return SynthesizerMixer(self, shape)
