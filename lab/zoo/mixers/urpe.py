"""URPE attention: "Your Transformer May Not be as Powerful as You Expect" (Luo et al. 2022, slug `urpe`).

    A_U = softmax(QKᵀ/√d_h + B) ⊙ C,   C_ij = c_{j−i},   output A_U V W_O

C multiplies the probabilities, so rows need not sum to one and entries may be negative: that is what lifts the
negative theorem on relative positions, under which identical rows stay identical. Its 2·n_ctx − 1 scalars a head serve
all layers and start at one, so that the model starts as plain attention with the bias B of its position part
(`relative` is the paper's own). `hook_pattern` is softmax(…), before C; `hook_effective_pattern` is A_U;
`hook_row_entropy` is the entropy of the softmax rows.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from microtome.lab.zoo.mixers import softmax
from microtome.lab.zoo.parts import Context, Shape
from microtome.lab.zoo.positions.relative import toeplitz_rows
from microtome.lab.zoo.template import Template


class ToeplitzFactor(nn.Module):
    """The table `weight` is [head, offset]; offset index j − i + n_ctx − 1."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.n_ctx = shape.n_ctx
        self.weight = nn.Parameter(torch.ones(shape.n_heads, 2 * shape.n_ctx - 1))

    def forward(self, context: Context) -> Float[Tensor, "head query key"]:
        return toeplitz_rows(self.weight, self.n_ctx, context.queries(self.weight.device), context.n)


class UrpeMixer(softmax.SoftmaxMixer):
    """Softmax attention whose probabilities the model's Toeplitz factor multiplies."""

    def __init__(self, options: "Part", shape: Shape):
        super().__init__(options, shape)
        self.longest = shape.n_ctx

    def _weigh(self, pattern: Tensor, context: Context) -> Float[Tensor, "batch head query key"]:
        return pattern * context.shared(context)

    def _fused(self, q: Tensor, k: Tensor, v: Tensor, context: Context) -> Tensor:
        return softmax.kernel.attention(q, k, v, factor=context.shared(context), **self._terms(context))


@dataclass(frozen=True)
class Part(softmax.Part):
    """The options of softmax attention."""

    template: ClassVar = Template(
        matrix="softmax(QKᵀ/√d + B) ⊙ C",
        depends="input",
        structure="dense, times a Toeplitz factor",
        cost="n²·d",
        lengths="at most n_ctx",
    )

    def shared(self, shape: Shape) -> ToeplitzFactor:
        return ToeplitzFactor(shape)

    def build(self, shape: Shape) -> UrpeMixer:
        return UrpeMixer(self, shape)
