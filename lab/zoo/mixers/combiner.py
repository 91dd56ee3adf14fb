"""Combiner: full attention at sparse cost ("Combiner: Full Attention Transformer with Sparse Computation Cost", Ren et
al. 2021, slug `combiner`).

Every key is reached, directly or through one of a few regions whose inner weights do not depend on the query (equations
and patterns in `_combiner`). Patterns: `fixed` segments of about √n, `logsparse` dyadic ones, `axial` rows with
a summary at every place, `mixture` of rows and columns. A region's logit carries no log of its size, so that a segment
of equal keys weighs less than under full attention.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from microtome.lab.zoo.mixers import _combiner
from microtome.lab.zoo.mixers._combiner import Input, Pool
from microtome.lab.zoo.mixers._pattern import Features, Heads, Pattern, PatternMixer
from microtome.lab.zoo.parts import Context, MixerPart, Shape
from microtome.lab.zoo.template import Template

Kind = Literal["fixed", "logsparse", "axial", "mixture"]


class CombinerMixer(PatternMixer):
    """Multi-head Combiner of one layer. A row's weights are non-negative and sum to one."""

    def __init__(self, options: "Part", shape: Shape):
        super().__init__(shape, bias=options.bias)
        self.kind, self.pool = options.pattern, options.pool
        self.w = options.segment or max(1, round(math.sqrt(shape.n_ctx)))
        if self.kind == "axial":
            self.summary_in = nn.Linear(shape.d_model, shape.d_model)
            self.summary_norm = nn.LayerNorm(shape.d_model)
            self.summary_out = nn.Linear(shape.d_model, shape.d_model)

    def _heads(self, x: Tensor, context: Context) -> tuple[Features, Features, Heads]:
        """Scaled queries, keys and values; of the axial pattern queries twice, and beside each key its summary's."""
        q, k, v = super()._heads(x, context)
        q = q * self.d_head**-0.5
        if self.kind != "axial":
            return q, k, v
        seen = _combiner.row_outputs(self._input(q, k, v, context), self.w).transpose(1, 2).flatten(-2)
        keys = self.summary_out(self.summary_norm(x + self.summary_in(seen)))
        keys = keys.unflatten(-1, (self.n_heads, self.d_head)).transpose(1, 2)
        return torch.cat([q, q], dim=-1), torch.cat([k, keys], dim=-1), v

    def _pattern(self, q: Features, k: Features, context: Context) -> Pattern:
        """The output for values that are the unit matrix."""
        unit = torch.eye(context.n, dtype=q.dtype, device=q.device).expand(*q.shape[:2], -1, -1)
        return self._combined(q, k, unit, context)

    def _fast(self, q: Features, k: Features, v: Heads, context: Context) -> Heads:
        return self._combined(q, k, v, context)

    def _combined(
        self, q: Features, k: Features, v: Float[Tensor, "batch head pos width"], context: Context
    ) -> Float[Tensor, "batch head pos width"]:
        if self.kind == "axial":
            (q, _), (k, keys) = q.chunk(2, dim=-1), k.chunk(2, dim=-1)
            return _combiner.axial(self._input(q, k, v, context), self.w, keys)
        given = self._input(q, k, v, context)
        if self.kind == "logsparse":
            return _combiner.logsparse(given)
        return (_combiner.fixed if self.kind == "fixed" else _combiner.mixture)(given, self.w)

    def _input(self, q: Tensor, k: Tensor, v: Tensor, context: Context) -> Input:
        return Input(q, k, v, context.real(q), self.causal, self.pool)


@dataclass(frozen=True)
class Part(MixerPart):
    """Options of Combiner.

    Attributes:
        pattern: "fixed", "logsparse", "axial" or "mixture".
        segment: w, positions of a segment or of a row; None gives √n_ctx, rounded.
        pool: how a region's queries and keys are pooled, "max" or "mean".
        bias: whether the four projections have biases (the TensorFlow code's do, the JAX code's do not).
    """

    template: ClassVar = Template(
        matrix="p(j|i) directly + Σ_r p(Ω_r|i) p(j|Ω_r)",
        depends="input",
        structure="block-diagonal, plus rank one a region",
        cost="n·(w + n/w)·d (fixed); n·log n·d (logsparse)",
        normalised="one softmax over keys and regions",
    )

    pattern: Kind = "fixed"
    segment: int | None = None
    pool: Pool = "max"
    bias: bool = True

    def build(self, shape: Shape) -> CombinerMixer:
        for name, value, allowed in (("pattern", self.pattern, get_args(Kind)), ("pool", self.pool, get_args(Pool))):
            if value not in allowed:
                raise ValueError(f"{name} is one of {', '.join(allowed)}, not {value!r}.")
        if self.segment is not None and self.segment < 1:
            raise ValueError(f"a segment has at least 1 position, not {self.segment}.")
        return CombinerMixer(self, shape)
