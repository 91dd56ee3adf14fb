"""Normalised ReLU attention: the average of values with the positive part of the scores as weights.

    z_i = (1/i) Σ_{j≤i} ReLU(⟨q_i, k_j⟩·scale) v_j,   output = concat_h(z) W_O + b_O

over the i keys that query i may see (n, all of them, without a causal mask). Rows need not sum to one, and two heads
with opposite queries make any linear function of the score, ReLU(u) − ReLU(−u) = u: that is what in-context gradient
descent is built of. (Bai et al. 2023, "Transformers as statisticians"; Guo et al. 2024, slug `icl_representations`;
Wortsman et al. 2023, "Replacing softmax with ReLU in vision transformers", for training with it.)

`hook_pattern` is the matrix of weights, 1/i included; `hook_row_entropy` is the entropy of each row divided by its sum,
zero where the row is.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from microtome.lab.zoo.mixers import softmax
from microtome.lab.zoo.mixers._heads import row_entropy
from microtome.lab.zoo.parts import Context, Shape
from microtome.lab.zoo.template import Template


class ReluMixer(softmax.SoftmaxMixer):
    """Attention with ReLU over the number of visible keys in softmax's place."""

    def _pattern(self, scores: Tensor, context: Context) -> Float[Tensor, "batch head query key"]:
        return scores.relu() / self._visible(context, scores.device)

    def _visible(self, context: Context, device: torch.device) -> Float[Tensor, "#batch 1 query 1"]:
        """How many keys each query may see, at least 1."""
        keys = (
            torch.ones(1, context.n, dtype=torch.long, device=device) if context.mask is None else context.mask.long()
        )
        count = keys.cumsum(1) if self.causal else keys.sum(1, keepdim=True).expand(-1, context.n)
        return count[:, None, context.queries(device), None].clamp(min=1).to(self.o.weight.dtype)

    def _fused(self, q: Tensor, k: Tensor, v: Tensor, context: Context) -> Tensor:
        return self._pattern(self._scores(q, k, context), context) @ v

    def _row_entropy(self, q: Tensor, k: Tensor, context: Context) -> Float[Tensor, "batch head query"]:
        return row_entropy(self._effective(q, k, context))


@dataclass(frozen=True)
class Part(softmax.Part):
    """The options of softmax attention; `scale` is 1, as the papers have it, and None gives 1/√d_head."""

    template: ClassVar = Template(
        matrix="ReLU(QKᵀ·scale)/n",
        depends="input",
        structure="dense",
        cost="n²·d",
        normalised="number of visible keys",
    )

    scale: float | None = 1.0

    def build(self, shape: Shape) -> ReluMixer:
        return ReluMixer(self, shape)
