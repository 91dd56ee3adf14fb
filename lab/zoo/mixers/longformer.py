"""Longformer (Beltagy et al. 2020, "Longformer: the long-document transformer", section 3): a sliding window, and
global tokens.

A query sees the `window` positions around it, ⌊(window − 1)/2⌋ of them before and ⌊window/2⌋ after; in a causal model
all of them lie before it. The first `n_global` tokens are seen by all and see all, and project queries, keys and
values with maps of their own when they look. ("Long Range Arena", Tay et al. 2020, slug `long_range_arena`, has a
window of 512 and no global token.)
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from microtome.kernels import softmax as kernel
from microtome.kernels.local_attention import SHORTEST_TILE, window_attention
from microtome.lab.zoo.mixers import softmax
from microtome.lab.zoo.mixers._visible import VisibleMixer
from microtome.lab.zoo.parts import Context, Effective, Shape
from microtome.lab.zoo.template import Template


class LongformerMixer(VisibleMixer):
    """Softmax attention to a window, and of and to global tokens."""

    def __init__(self, options: "Part", shape: Shape):
        super().__init__(options, shape)
        self.n_global = options.n_global
        self.left = options.window - 1 if self.causal else (options.window - 1) // 2
        self.right = 0 if self.causal else options.window // 2
        if self.n_global:
            width = self.n_heads * self.d_head
            self.q_global, self.k_global, self.v_global = (
                nn.Linear(shape.d_model, width, bias=options.bias) for _ in range(3)
            )

    def sees(self, queries: Int[Tensor, " query"], keys: Int[Tensor, " key"], n: int) -> Bool[Tensor, "query key"]:
        ahead = keys - queries[:, None]
        near = (ahead >= -self.left) & (ahead <= self.right)
        return near | (keys < self.n_global) | (queries < self.n_global)[:, None]

    def _tiles(self, n: int, device: torch.device) -> list[tuple[slice, Int[Tensor, " column"]]]:
        at, found, size = torch.arange(n, device=device), [], max(SHORTEST_TILE, self.left + self.right)
        starts = [0, *range(self.n_global, n, size)] if 0 < self.n_global < n else range(0, n, size)
        for first, after in zip(starts, [*starts[1:], n], strict=True):
            rows = slice(first, after)
            start, stop = max(0, first - self.left), min(n, rows.stop + self.right)
            if first < self.n_global:
                start, stop = 0, n
            found.append((rows, torch.cat([at[: min(self.n_global, start)], at[start:stop]])))
        return found

    def _fused(self, q: Tensor, k: Tensor, v: Tensor, context: Context) -> Float[Tensor, "batch head pos d_head"]:
        if self.n_global:
            return super()._fused(q, k, v, context)
        return window_attention(q, k, v, self.left, self.right, mask=context.mask, bias=context.bias, scale=self.scale)

    def forward(self, x: Float[Tensor, "batch pos d_model"], context: Context) -> Float[Tensor, "batch pos d_model"]:
        written = super().forward(x, context)
        if not self.n_global:
            return written
        return torch.cat([self._of_global_tokens(x, context), written[:, self.n_global :]], dim=1)

    def _of_global_tokens(self, x: Tensor, context: Context) -> Float[Tensor, "batch global d_model"]:
        """What the global tokens write: attention to all positions through maps of their own."""
        heads = (self.n_heads, self.d_head)
        q = self.q_global(x[:, : self.n_global]).unflatten(-1, heads).transpose(1, 2)
        k, v = (each(x).unflatten(-1, heads).transpose(1, 2) for each in (self.k_global, self.v_global))
        terms = {"mask": context.mask, "scale": self.scale}
        if self.causal:
            terms |= {"causal": True, "positions": torch.arange(q.shape[2], device=x.device)}
        return self.o(kernel.attention(q, k, v, **terms).transpose(1, 2).flatten(-2))

    def effective_attention(self, x: Float[Tensor, "batch pos d_model"], context: Context) -> Effective:
        """The pattern; exact without global tokens, whose own maps the pattern does not show."""
        return super().effective_attention(x, context)._replace(exact=not self.n_global)


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
        if self.n_global and (shape.rotary or self.fused_qkv):
            raise ValueError("global tokens have maps of their own: no rotary positions, and fused_qkv=False.")
        return LongformerMixer(self, shape)
