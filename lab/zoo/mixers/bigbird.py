"""BigBird (Zaheer et al. 2020, "Big Bird: Transformers for longer sequences", section 2): blocks of keys, near, global
and random ones.

A block of queries sees itself and the blocks beside it, the first and the last block, and `random` others that are
drawn once for each layer; the first and the last block see everything. In a causal model a query sees of these what
lies before it, random blocks are earlier ones, and the last block, which nobody before it could see, is one like any
other.
An input shorter than n_ctx reads the draws modulo its number of blocks. ("Long Range Arena", Tay et al. 2020, slug
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
        self.block, self.longest = options.block, shape.n_ctx
        blocks = -(-shape.n_ctx // self.block)
        self.register_buffer("drawn", torch.randint(1 << 31, (blocks, options.random)))

    def random_blocks(self, blocks: int, device: torch.device) -> Int[Tensor, "block random"]:
        """The random blocks of each block of an input of so many."""
        at = torch.arange(blocks, device=device)
        return self.drawn[:blocks] % (at[:, None] + 1 if self.causal else blocks)

    def sees(self, queries: Int[Tensor, " query"], keys: Int[Tensor, " key"], n: int) -> Bool[Tensor, "query key"]:
        q, k, last = queries // self.block, keys // self.block, (n - 1) // self.block
        drawn = self.random_blocks(last + 1, queries.device)[q]
        seen = ((q[:, None] - k).abs() <= 1) | (k == 0) | (drawn[:, :, None] == k).any(1)
        return seen if self.causal else seen | (k == last) | (q == 0)[:, None] | (q == last)[:, None]

    def _tiles(self, n: int, device: torch.device) -> list[tuple[slice, Int[Tensor, " column"]]]:
        blocks, found = -(-n // self.block), []
        places = torch.arange(self.block, device=device)
        for i, drawn in enumerate(self.random_blocks(blocks, device).tolist()):
            wanted = {0, i - 1, i, *drawn} if self.causal else {0, blocks - 1, i - 1, i, i + 1, *drawn}
            if not self.causal and i in (0, blocks - 1):
                wanted = set(range(blocks))
            chosen = torch.tensor(sorted(b for b in wanted if 0 <= b < blocks), device=device)
            columns = (chosen[:, None] * self.block + places).flatten()
            found.append((slice(i * self.block, min((i + 1) * self.block, n)), columns[columns < n]))
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
