"""The fixed sparse pattern (Child et al. 2019, "Generating long sequences with sparse transformers", section 4.3, as
"Long Range Arena", Tay et al. 2020, slug `long_range_arena`, has it).

A query sees its own block of `block` positions and, of every other block, the first position and the last `summary`
ones: k mod block = 0 or ≥ block − summary. One pattern serves all heads. In a bidirectional model position 0, where a
class token stands, sees all and is seen by all; the benchmark hides later keys from all others even there (`one_way`).
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

ROWS = 512
"""About how many rows a tile has."""


class SparseMixer(VisibleMixer):
    """Softmax attention to a block and to the summary positions of all others."""

    def __init__(self, options: "Part", shape: Shape):
        super().__init__(options, shape)
        self.block, self.summary = options.block, options.summary
        self.one_way = options.one_way or shape.causal

    def sees(self, queries: Int[Tensor, " query"], keys: Int[Tensor, " key"], n: int) -> Bool[Tensor, "query key"]:
        own = (queries // self.block)[:, None] == keys // self.block
        seen = own | self._sums_up(keys)
        if self.one_way:
            seen = seen & (keys <= queries[:, None])
        return seen if self.causal else seen | (queries == 0)[:, None] | (keys == 0)

    def _sums_up(self, keys: Tensor) -> Tensor:
        place = keys % self.block
        return (place == 0) | (place >= self.block - self.summary)

    def _tiles(self, n: int, device: torch.device) -> list[tuple[slice, Int[Tensor, " column"]]]:
        at = torch.arange(n, device=device)
        sums_up, found = self._sums_up(at), []
        size = max(1, ROWS // self.block) * self.block
        for first in range(0, n, size):
            rows = slice(first, min(first + size, n))
            wanted = sums_up.clone()
            wanted[rows] = True
            if self.one_way:
                wanted[rows.stop :] = False
            found.append((rows, wanted.nonzero()[:, 0]))
        # Position 0 of a bidirectional model looks everywhere: a tile of its own.
        return found if self.causal else [(slice(0, 1), at), *_without_first(found)]


def _without_first(tiles: list[tuple[slice, Tensor]]) -> list[tuple[slice, Tensor]]:
    (rows, columns), *others = tiles
    return others if rows.stop == 1 else [(slice(1, rows.stop), columns), *others]


@dataclass(frozen=True)
class Part(softmax.Part):
    """Options of the fixed sparse pattern, beside those of softmax attention.

    Attributes:
        block: positions a block has.
        summary: how many last positions of each block all others see.
        one_way: whether a bidirectional model hides later keys from all queries but position 0.
    """

    template: ClassVar = Template(
        matrix="softmax(QKᵀ/√d + B) at fixed places",
        depends="input",
        structure="block-diagonal and columns",
        cost="n²·(summary + 1)/block·d",
        normalised="softmax over keys",
    )

    block: int = 50
    summary: int = 10
    one_way: bool = False

    def build(self, shape: Shape) -> SparseMixer:
        if self.block < 1 or not 0 <= self.summary <= self.block:
            raise ValueError(
                f"block must be at least 1 and summary between 0 and block, not {self.block} and {self.summary}."
            )
        return SparseMixer(self, shape)
