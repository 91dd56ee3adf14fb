"""Finding the next tile among problems of unequal sizes, as the grouped GEMM's persistent thread blocks do.

CTA c works on tiles c, c + G, c + 2G, … of all problems' tiles laid end to end. A warp looks at 32 problems at a time:
each lane counts the tiles of one, a scan adds them up, and a ballot finds the one that holds the tile, so that there is
one look-up for 32 problems (Zhai et al. 2022, section III-D, warp prefetch).
"""

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

LANES = 32
SCORE_TILE = 128
"""Rows and columns of a tile of scores."""


class Visit(NamedTuple):
    """Tile number `tile` of problem number `problem`."""

    problem: int
    tile: int


def score_tiles(lengths: Sequence[int], heads: int, size: int = SCORE_TILE) -> list[int]:
    """Tiles of each problem: ⌈n_b/size⌉² for each head of each sequence, heads of a sequence side by side."""
    return [(-(-n // size)) ** 2 for n in lengths for _ in range(heads)]


def visit(cta: int, grid: int, counts: Sequence[int]) -> Iterator[Visit]:
    """What one of `grid` CTAs does, in its order; problems may have no tiles."""
    window, before = 0, 0
    ends = _scan(counts, window)
    tile = cta
    while window < len(counts):
        if tile - before >= ends[-1]:
            window, before = window + LANES, before + ends[-1]
            ends = _scan(counts, window)
            continue
        local = tile - before
        lane = sum(end <= local for end in ends)
        yield Visit(window + lane, local - (ends[lane - 1] if lane else 0))
        tile += grid


def _scan(counts: Sequence[int], window: int) -> list[int]:
    """Where the tiles of each of the window's problems end, counted from the window's first."""
    return list(accumulate(counts[window : window + LANES])) or [0]
