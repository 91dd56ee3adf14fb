"""Local attention (Tay et al. 2020, "Long Range Arena", slug `long_range_arena`): softmax inside disjoint blocks.

Blocks are runs of contiguous positions, so that nothing ever leaves a block, at any depth. (The benchmark's published
code groups strided positions instead, a slip of its reshape.)
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from microtome.kernels.local_attention import block_attention
from microtome.lab.zoo.mixers import softmax
from microtome.lab.zoo.mixers._visible import VisibleMixer
from microtome.lab.zoo.parts import Context, Shape
from microtome.lab.zoo.template import Template


class LocalMixer(VisibleMixer):
    """Softmax attention of each block to itself."""

    def __init__(self, options: "Part", shape: Shape):
        super().__init__(options, shape)
        self.block = options.block

    def sees(self, queries: Int[Tensor, " query"], keys: Int[Tensor, " key"], n: int) -> Bool[Tensor, "query key"]:
        return (queries // self.block)[:, None] == keys // self.block

    def _tiles(self, n: int, device: torch.device) -> list[tuple[slice, Int[Tensor, " column"]]]:
        starts = range(0, n, self.block)
        return [
            (slice(a, min(a + self.block, n)), torch.arange(a, min(a + self.block, n), device=device)) for a in starts
        ]

    def _fused(self, q: Tensor, k: Tensor, v: Tensor, context: Context) -> Float[Tensor, "batch head pos d_head"]:
        return block_attention(
            q, k, v, self.block, causal=self.causal, mask=context.mask, bias=context.bias, scale=self.scale
        )


@dataclass(frozen=True)
class Part(softmax.Part):
    """The options of softmax attention, and `block`: positions a block has, 50 as published (64 on images)."""

    template: ClassVar = Template(
        matrix="softmax(QKᵀ/√d + B) inside blocks",
        depends="input",
        structure="block-diagonal",
        cost="n·block·d",
        normalised="softmax over keys",
        local="the query's block",
    )

    block: int = 50

    def build(self, shape: Shape) -> LocalMixer:
        if self.block < 1:
            raise ValueError(f"block must be at least 1, not {self.block}.")
        return LocalMixer(self, shape)
