"""Kernelised attention with relative positions: "Stable, Fast and Accurate: Kernelized Attention with Relative
Positional Encoding" (Luo et al. 2021, slug `nprf`).

    z_i = Σ_j e^{b_{j−i}} φ(q̂_i)·φ(k̂_j) v_j / Σ_j e^{b_{j−i}} φ(q̂_i)·φ(k̂_j),   q̂ = q/‖q‖₂,  k̂ = k/‖k‖₂

φ are positive random features of the exponential kernel, frozen; b has 2·n_ctx − 1 learned scalars a head and starts at
zero. Unit length takes the place of 1/√d and bounds the features' variance; e^b restores the sharpness that it costs.
Long inputs take the Fourier transform, O(n log n), short ones the n × n weights, which are then quicker.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from microtome.kernels.random_features import directions, positive_features
from microtome.kernels.toeplitz_product import relative_linear_attention, relative_linear_pattern
from microtome.lab.zoo.mixers._pattern import Heads, Pattern, PatternMixer
from microtome.lab.zoo.parts import Context, MixerPart, Shape
from microtome.lab.zoo.template import Template

Features = Float[Tensor, "batch head pos feature"]

TRANSFORM_COST = 24
"""An operation of the transform over one of the dense products, on a CPU core."""


class NprfMixer(PatternMixer):
    """Multi-head attention of normalised queries and keys through positive random features, times e^{b_{j−i}}.

    `b` is [head, offset] with offset index j − i + n_ctx − 1; on a grid [head, offset down, offset right].
    """

    def __init__(self, options: "Part", shape: Shape):
        super().__init__(shape)
        self.features, self.grid = options.features, options.grid
        self.longest = shape.n_ctx if self.grid is None else math.prod(self.grid)
        offsets = (2 * shape.n_ctx - 1,) if self.grid is None else tuple(2 * size - 1 for size in self.grid)
        self.b = nn.Parameter(torch.zeros(shape.n_heads, *offsets))
        drawn = torch.Generator().manual_seed(int(torch.randint(2**31, ())))
        w = directions(self.features, self.d_head, drawn, orthogonal=options.orthogonal)
        self.register_buffer("w", w.to(self.b.dtype))

    def _mapped(self, q: Heads, k: Heads, context: Context) -> tuple[Features, Features]:
        """φ(q̂) and φ(k̂); keys that nobody may see have no features."""
        phi_q, phi_k = (positive_features(F.normalize(heads, dim=-1), self.w) for heads in (q, k))
        return phi_q, phi_k if context.mask is None else phi_k * context.mask[:, None, :, None]

    def _pattern(self, q: Heads, k: Heads, context: Context) -> Pattern:
        return relative_linear_pattern(*self._mapped(q, k, context), self._table(context.n), causal=self.causal)

    def _fast(self, q: Heads, k: Heads, v: Heads, context: Context) -> Heads:
        if self._dense_is_cheaper(context.n):
            return self._pattern(q, k, context) @ v
        return relative_linear_attention(*self._mapped(q, k, context), v, self._table(context.n), causal=self.causal)

    def _dense_is_cheaper(self, n: int) -> bool:
        columns = self.features * (self.d_head + 1)
        dense = n * (self.features + self.d_head + 1)
        return dense < TRANSFORM_COST * columns * math.log2(max(n, 2))

    def _table(self, n: int) -> Tensor:
        """b for n positions."""
        if self.grid is None:
            return self.b[:, self.longest - n : self.longest + n - 1]
        if n != self.longest:
            raise ValueError(f"the mixer places {' × '.join(map(str, self.grid))} positions on a grid, not {n}.")
        return self.b


@dataclass(frozen=True)
class Part(MixerPart):
    """Options of kernelised attention with relative positions.

    Attributes:
        features: m, the number of random features.
        orthogonal: whether their directions are orthogonal inside blocks of d_head.
        grid: height and width of a grid of positions, which then have offsets down and right (images without a class
            token, bidirectional); None for a sequence.
    """

    template: ClassVar = Template(
        matrix="(φ(Q̂)φ(K̂)ᵀ) ⊙ e^B, B_ij = b_{j−i}",
        depends="input",
        structure="rank ≤ m, times a Toeplitz factor",
        cost="n log n·m·d",
        normalised="row sum",
        lengths="at most n_ctx",
    )

    features: int = 32
    orthogonal: bool = True
    grid: tuple[int, int] | None = None

    def build(self, shape: Shape) -> NprfMixer:
        if self.grid is not None and (shape.causal or len(self.grid) != 2 or min(self.grid) < 1):
            raise ValueError(f"grid={self.grid!r} must be a height and a width of at least 1, and needs causal=False.")
        return NprfMixer(self, shape)
