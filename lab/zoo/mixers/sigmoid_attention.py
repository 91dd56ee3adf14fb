"""Sigmoid attention: "Theory, Analysis, and Best Practices for Sigmoid Self-Attention" (Ramapuram et al. 2025, slug
`sigmoid_attention`).

    z_i = Σ_j σ(⟨q_i, k_j⟩·scale + B_ij + b) v_j,   output = concat_h(z) W_O

Every weight is decided by its own score: no row is normalised, and a row may weigh next to nothing. b = −log n_ctx is
fixed, not learned, and stays what it is on shorter inputs and earlier rows; it makes a row of small scores weigh about
one, where b = 0 makes it weigh n/2 and attention outputs too large to train. Optionally queries and keys pass a
LayerNorm per head before they are rotated (QK-norm). The paper's LayerScale is the norm part `layer_scale`.

`hook_attn_scores` is before b, `hook_pattern` the weights; `hook_row_entropy` is of each row divided by its sum.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from microtome.kernels import sigmoid_attention as kernel
from microtome.lab.zoo.mixers import softmax
from microtome.lab.zoo.parts import Context, Shape
from microtome.lab.zoo.template import Template


class SigmoidMixer(softmax.SoftmaxMixer):
    """Multi-head attention with a sigmoid of each score."""

    def __init__(self, options: "Part", shape: Shape):
        super().__init__(options, shape)
        self.b = -math.log(shape.n_ctx) if options.b is None else options.b
        self.q_norm = nn.LayerNorm(self.d_head) if options.qk_norm else nn.Identity()
        self.k_norm = nn.LayerNorm(self.d_head) if options.qk_norm else nn.Identity()

    def _pattern(self, scores: Tensor, context: Context) -> Float[Tensor, "batch head query key"]:
        return kernel.weights(scores, self.b)

    def _fused(self, q: Tensor, k: Tensor, v: Tensor, context: Context) -> Tensor:
        return kernel.attention(q, k, v, b=self.b, **self._terms(context))

    def _row_entropy(self, q: Tensor, k: Tensor, context: Context) -> Float[Tensor, "batch head query"]:
        return kernel.row_entropy(q, k, b=self.b, **self._terms(context))

    def _project(self, x: Tensor, context: Context) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = super()._project(x, context)
        return self._normed(self.q_norm, q), self._normed(self.k_norm, k), v

    def _row(self, x: Float[Tensor, "batch d_model"]) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = super()._row(x)
        return self._normed(self.q_norm, q), self._normed(self.k_norm, k), v

    def _normed(self, norm: nn.Module, x: Tensor) -> Tensor:
        """Queries or keys of all heads side by side, each head through the norm."""
        return norm(x.unflatten(-1, (self.n_heads, self.d_head))).flatten(-2)


@dataclass(frozen=True)
class Part(softmax.Part):
    """The options of softmax attention, and two more.

    Attributes:
        b: what is added to every logit; None gives −log n_ctx.
        qk_norm: whether queries and keys pass a LayerNorm per head, with gain and bias shared by the heads.
    """

    template: ClassVar = Template(
        matrix="σ(QKᵀ/√d + B + b)",
        depends="input",
        structure="dense",
        cost="n²·d",
    )

    b: float | None = None
    qk_norm: bool = False

    def build(self, shape: Shape) -> SigmoidMixer:
        if self.b is not None and not math.isfinite(self.b):
            raise ValueError(f"b must be a finite number, or None for −log n_ctx, not {self.b}.")
        return SigmoidMixer(self, shape)
