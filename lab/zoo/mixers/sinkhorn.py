"""Sparse Sinkhorn attention (Tay et al. 2020, "Sparse Sinkhorn attention"): attention to the own block, and to a block
of keys that a relaxed permutation brings.

    K̃_I = Σ_J R_IJ K_J,  Ṽ_I = Σ_J R_IJ V_J,   z_I = softmax(Q_I K_Iᵀ/√d) V_I + softmax(Q_I K̃_Iᵀ/√d) Ṽ_I

Blocks are runs of contiguous positions. R [block block] is doubly stochastic, made by Sinkhorn's iteration from the
products of the blocks' mean queries and mean keys, as "Long Range Arena" (Tay et al. 2020, slug `long_range_arena`) has
the sum of both attentions. (Its published code sums over both block indices, so that the sorting has no effect.) Rows
of the n × n matrix sum to two. Balancing columns needs later rows, so that this form is bidirectional.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from microtome.lab.zoo.mixers._pattern import Heads, Pattern, PatternMixer
from microtome.lab.zoo.parts import Context, MixerPart, Shape
from microtome.lab.zoo.template import Template

Padded = Float[Tensor, "batch head padded d_head"]
"""Filled up to whole blocks."""
HIDDEN = -1e4
"""In place of −∞: its exponential is zero, and a row that holds nothing else stays defined."""


class SinkhornMixer(PatternMixer):
    """Multi-head Sinkhorn attention of one layer; masked positions are zeros among keys and values."""

    def __init__(self, options: "Part", shape: Shape):
        super().__init__(shape)
        self.block, self.iterations = options.block, options.iterations

    def sort(
        self, q: Padded, k: Padded, real: Bool[Tensor, "batch padded"]
    ) -> Float[Tensor, "batch head block other_block"]:
        """R of padded inputs. Blocks without a real position take no part."""
        count = real.unflatten(1, (-1, self.block)).sum(-1)
        mean_q, mean_k = (
            (x * real[:, None, :, None]).unflatten(2, (-1, self.block)).sum(3) / count.clamp(min=1)[:, None, :, None]
            for x in (q, k)
        )
        there = (count > 0)[:, None]
        both = there[..., :, None] & there[..., None, :]
        log_r = (mean_q @ mean_k.mT * self.d_head**-0.5).masked_fill(~both, HIDDEN)
        for _ in range(self.iterations):
            log_r = (log_r - log_r.logsumexp(-1, keepdim=True)).masked_fill(~both, HIDDEN)
            log_r = (log_r - log_r.logsumexp(-2, keepdim=True)).masked_fill(~both, HIDDEN)
        return (log_r - log_r.logsumexp(-1, keepdim=True)).exp() * both

    def _pattern(self, q: Heads, k: Heads, context: Context) -> Pattern:
        q, k, real = self._padded(q, k, context)
        r = self.sort(q, k, real)
        own, brought = self._weights(q, k, r, real)
        blocks = r.shape[-1]
        eye = torch.eye(blocks, dtype=q.dtype, device=q.device)
        whole = torch.einsum("bhiqk,ij->bhiqjk", own, eye) + torch.einsum("bhiqk,bhij->bhiqjk", brought, r)
        n = context.n
        return (whole.flatten(-2).flatten(2, 3) * real[:, None, None])[:, :, :n, :n]

    def _fast(self, q: Heads, k: Heads, v: Heads, context: Context) -> Heads:
        n = context.n
        q, k, real = self._padded(q, k, context)
        v = self._pad(v) * real[:, None, :, None]
        r = self.sort(q, k, real)
        own, brought = self._weights(q, k, r, real)
        blocks = v.unflatten(2, (-1, self.block))
        sorted_v = torch.einsum("bhij,bhjkd->bhikd", r, blocks)
        return (own @ blocks + brought @ sorted_v).flatten(2, 3)[:, :, :n]

    def _weights(
        self, q: Padded, k: Padded, r: Float[Tensor, "batch head block other_block"], real: Bool[Tensor, "batch padded"]
    ) -> tuple[Tensor, Tensor]:
        """Softmax weights [batch head block query key] within each block, and to the block that R brings."""
        own_real = real.unflatten(1, (-1, self.block))[:, None, :, None]
        q_blocks, k_blocks = (x.unflatten(2, (-1, self.block)) * self.d_head**-0.25 for x in (q, k))
        own = (q_blocks @ k_blocks.mT).masked_fill(~own_real, HIDDEN).softmax(-1) * own_real
        brought_real = torch.einsum("bhij,bjk->bhik", r, real.unflatten(1, (-1, self.block)).to(r.dtype)) > 0
        k_blocks = k_blocks * real.unflatten(1, (-1, self.block))[:, None, ..., None]
        brought = q_blocks @ torch.einsum("bhij,bhjkd->bhikd", r, k_blocks).mT
        return own, brought.masked_fill(~brought_real[:, :, :, None], HIDDEN).softmax(-1)

    def _padded(self, q: Heads, k: Heads, context: Context) -> tuple[Padded, Padded, Tensor]:
        return self._pad(q), self._pad(k), F.pad(context.real(q), (0, -context.n % self.block))

    def _pad(self, x: Heads) -> Padded:
        return F.pad(x, (0, 0, 0, -x.shape[2] % self.block))


@dataclass(frozen=True)
class Part(MixerPart):
    """`block`: positions a block has; `iterations` of Sinkhorn's row and column normalisation."""

    bidirectional_only: ClassVar = True
    template: ClassVar = Template(
        matrix="softmax in blocks, plus softmax to R-mixed blocks",
        depends="input",
        structure="block-diagonal, plus rank ≤ block a block",
        cost="n·block·d + (n/block)²·block·d",
        normalised="two softmaxes: rows sum to two",
    )

    block: int = 50
    iterations: int = 8

    def build(self, shape: Shape) -> SinkhornMixer:
        if self.block < 1 or self.iterations < 1:
            raise ValueError(f"block and iterations must be at least 1, not {self.block} and {self.iterations}.")
        return SinkhornMixer(self, shape)
