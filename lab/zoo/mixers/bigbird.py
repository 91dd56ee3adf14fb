"""BigBird (Zaheer et al. 2020, "Big Bird: Transformers for longer sequences", section 2): blocks of keys, near, global
and random ones.

A block of queries sees itself and the blocks beside it, the first and the last block, and `random` others, no two of
them alike, that are drawn once for each layer; the first and the last block see everything. In a causal model a query
sees of these what lies before it, and the last block, which nobody before it could see, is one like any other. An input
shorter than n_ctx draws by the same priorities among the blocks that it has. ("Long Range Arena", Tay et al. 2020, slug
`long_range_arena`, has blocks of 64.)
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from microtome.lab.zoo.mixers import softmax
from microtome.lab.zoo.mixers._visible import VisibleMixer
from microtome.lab.zoo.parts import Shape
from microtome.lab.zoo.template import Template


class BigBirdMixer(VisibleMixer):
    """Softmax attention to near, global and random blocks."""

    def __init__(self, options: "Part", shape: Shape):
        super().__init__(options, shape)
        self.block, self.random, self.longest = options.block, options.random, shape.n_ctx
        blocks = -(-shape.n_ctx // self.block)
        self.register_buffer("priority", torch.rand(blocks, blocks))

    def blocks_seen(self, blocks: int) -> Bool[Tensor, "block other_block"]:
        """Which blocks each block of an input of so many sees, of later ones those that causality will hide as well."""
        at = torch.arange(blocks, device=self.priority.device)
        seen = ((at[:, None] - at).abs() <= 1) | (at == 0)
        if not self.causal:
            seen = seen | (at == blocks - 1) | (at == 0)[:, None] | (at == blocks - 1)[:, None]
        others = ~seen & (at < at[:, None]) if self.causal else ~seen
        first = self.priority[:blocks, :blocks].masked_fill(~others, -1.0).topk(min(self.random, blocks)).indices
        return seen | (torch.zeros_like(seen).scatter_(1, first, True) & others)

    def sees(self, queries: Int[Tensor, " query"], keys: Int[Tensor, " key"], n: int) -> Bool[Tensor, "query key"]:
        return self.blocks_seen(-(-n // self.block))[queries // self.block][:, keys // self.block]

    def _tiles(self, n: int, device: torch.device) -> list[tuple[slice, Int[Tensor, " column"]]]:
        place, found = torch.arange(n, device=device), []
        for i, seen in enumerate(self.blocks_seen(-(-n // self.block))):
            rows = slice(i * self.block, min((i + 1) * self.block, n))
            columns = place[seen[place // self.block]]
            found.append((rows, columns[columns < rows.stop] if self.causal else columns))
        return found


@dataclass(frozen=True)
class Part(softmax.Part):
    """The options of softmax attention, `block` positions a block, and `random` blocks beside the near and global."""

    template: ClassVar = Template(
        matrix="softmax(QKᵀ/√d + B) at near, global and random blocks",
        depends="input",
        structure="block-sparse",
        cost="n·(5 + random)·block·d",
        normalised="softmax over keys",
        local="three near blocks, global and random ones",
        lengths="at most n_ctx",
    )

    block: int = 64
    random: int = 3

    def build(self, shape: Shape) -> BigBirdMixer:
        if self.block < 1 or self.random < 0:
            raise ValueError(f"block must be at least 1 and random at least 0, not {self.block} and {self.random}.")
        return BigBirdMixer(self, shape)
