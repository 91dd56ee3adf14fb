"""Longformer (Beltagy et al. 2020, "Longformer: the long-document transformer", section 3): a sliding window, and
global tokens.

A query sees the `window` positions around it, ⌊(window − 1)/2⌋ of them before and ⌊window/2⌋ after; in a causal model
all of them lie before it. The first `n_global` tokens are seen by all and see all, and when they look, queries, keys
and values come from maps of their own. These are heads of their own here, behind the others: silent at all other rows,
as the first heads are at theirs, and written by the same W_O. ("Long Range Arena", Tay et al. 2020, slug
`long_range_arena`, has a window of 512 and no global token.)
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from microtome.kernels import softmax as kernel
from microtome.kernels.local_attention import SHORTEST_TILE, window_attention
from microtome.lab.zoo.mixers import softmax
from microtome.lab.zoo.mixers._heads import softmax_or_zero
from microtome.lab.zoo.mixers._visible import VisibleMixer
from microtome.lab.zoo.parts import Context, Shape
from microtome.lab.zoo.streaming import Moment, State
from microtome.lab.zoo.template import Template


class SharedOutput(nn.Linear):
    """One output map for both kinds of heads, given side by side."""

    def forward(self, z: Float[Tensor, "*axes both_kinds"]) -> Float[Tensor, "*axes d_model"]:
        return super().forward(z.unflatten(-1, (2, -1)).sum(-2))


class LongformerMixer(VisibleMixer):
    """Softmax attention to a window, and of and to global tokens, whose heads follow the others if there are any."""

    def __init__(self, options: "Part", shape: Shape):
        kinds, d_head = 2 if options.n_global else 1, options.head_width(shape)
        super().__init__(replace(options, d_head=d_head), replace(shape, n_heads=kinds * shape.n_heads))
        self.n_global = options.n_global
        self.left = options.window - 1 if self.causal else (options.window - 1) // 2
        self.right = 0 if self.causal else options.window // 2
        if self.n_global:
            self.o = SharedOutput(shape.n_heads * d_head, shape.d_model, bias=self.o.bias is not None)

    @property
    def W_O(self) -> Float[Tensor, "head d_head d_model"]:
        each = self.o.weight.T.unflatten(0, (-1, self.d_head))
        return each.repeat(2, 1, 1) if self.n_global else each

    def sees(self, queries: Int[Tensor, " query"], keys: Int[Tensor, " key"], n: int) -> Bool[Tensor, "query key"]:
        """Of whichever heads speak at a query."""
        ahead = keys - queries[:, None]
        near = (ahead >= -self.left) & (ahead <= self.right)
        return near | (keys < self.n_global) | (queries < self.n_global)[:, None]

    def _adjusted(self, scores: Tensor, queries: Tensor) -> Tensor:
        scores = super()._adjusted(scores, queries)
        if not self.n_global:
            return scores
        theirs = (queries < self.n_global)[:, None]
        local, of_global = scores.chunk(2, dim=1)
        return torch.cat([local.masked_fill(theirs, -torch.inf), of_global.masked_fill(~theirs, -torch.inf)], dim=1)

    def _pattern(self, scores: Tensor, context: Context) -> Float[Tensor, "batch head query key"]:
        return softmax_or_zero(scores) if self.n_global else super()._pattern(scores, context)

    def _tiles(self, n: int, device: torch.device) -> list[tuple[slice, Int[Tensor, " column"]]]:
        """Of the rows behind the global tokens."""
        at, found, size = torch.arange(n, device=device), [], max(SHORTEST_TILE, self.left + self.right)
        for first in range(self.n_global, n, size):
            rows = slice(first, min(first + size, n))
            start, stop = max(0, first - self.left), min(n, rows.stop + self.right)
            found.append((rows, torch.cat([at[: min(self.n_global, start)], at[start:stop]])))
        return found

    def _fused(self, q: Tensor, k: Tensor, v: Tensor, context: Context) -> Float[Tensor, "batch head pos d_head"]:
        if not self.n_global:
            sides = (self.left, self.right)
            return window_attention(q, k, v, *sides, mask=context.mask, bias=context.bias, scale=self.scale)
        (q, q_global), (k, k_global), (v, v_global) = (x.chunk(2, dim=1) for x in (q, k, v))
        first = min(self.n_global, context.n)
        terms = {"mask": context.mask, "scale": self.scale}
        if self.causal:
            terms |= {"causal": True, "positions": torch.arange(first, device=q.device)}
        theirs = kernel.attention(q_global[:, :, :first], k_global, v_global, **terms)
        local = super()._fused(q, k, v, context) if context.n > first else q[:, :, first:]
        return torch.cat([F.pad(local, (0, 0, first, 0)), F.pad(theirs, (0, 0, 0, context.n - first))], dim=1)

    def _heads(self, x: Tensor, context: Context) -> tuple[Tensor, Tensor, Tensor]:
        self._refuse(context.bias)
        return super()._heads(x, context)

    def step(
        self, x: Float[Tensor, "batch d_model"], state: State, moment: Moment
    ) -> tuple[Float[Tensor, "batch d_model"], State]:
        """As softmax attention's; the heads that do not speak at this position give zero."""
        self._refuse(moment.bias(x.device))
        return super().step(x, state, moment)

    def _refuse(self, bias: Tensor | None) -> None:
        if self.n_global and bias is not None:
            raise ValueError(
                "a position's bias has no rows for the heads of global tokens; take a position that embeds or rotates, "
                "or n_global=0."
            )


@dataclass(frozen=True)
class Part(softmax.Part):
    """The options of softmax attention.

    Attributes:
        window: how many positions a query sees, itself included.
        n_global: how many tokens at the beginning are global.
    """

    template: ClassVar = Template(
        matrix="softmax(QKᵀ/√d + B) inside a window, and global tokens",
        depends="input",
        structure="banded",
        cost="n·window·d",
        normalised="softmax over keys",
        local="window positions around the query",
    )

    window: int = 512
    n_global: int = 0

    def build(self, shape: Shape) -> LongformerMixer:
        if self.window < 1 or self.n_global < 0:
            raise ValueError(
                f"window must be at least 1 and n_global at least 0, not {self.window} and {self.n_global}."
            )
        return LongformerMixer(self, shape)
