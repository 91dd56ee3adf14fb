"""Who does which tiles: the stream-K split of a ragged batch's keys over the thread blocks of a GPU.

An output tile is the result for one sequence and one group of rows; it needs the LeanTiles of its sequence, ⌈N/tile⌉
of them. All tiles of all outputs lie on one line of length T. With G CTAs, mx = ⌈T/G⌉ and hi = T − (mx − 1)·G, the
first hi CTAs take mx consecutive tiles each and the others mx − 1 (Sanovar et al. 2024, section 4; grid as in
onnxruntime's `lean_attention`).
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import NamedTuple

ROWS = 64
"""Query rows of an output tile, at most."""
MULTIPROCESSORS = 108
"""Of an A100, the GPU of the paper's examples."""


def tile_keys(d_head: int) -> int:
    """Keys of a LeanTile: 256 for heads of up to 64, 128 up to 128, else 64."""
    return 256 if d_head <= 64 else 128 if d_head <= 128 else 64


class Segment(NamedTuple):
    """Tiles `start` … `stop − 1` of one output tile, done by one CTA; `tiles` is how many the output has."""

    output: int
    start: int
    stop: int
    tiles: int

    @property
    def host(self) -> bool:
        """Whether it holds the output's first tile: its CTA writes the result."""
        return self.start == 0

    @property
    def finishing(self) -> bool:
        """Whether it holds the output's last tile."""
        return self.stop == self.tiles


@dataclass(frozen=True)
class Schedule:
    """A deal of tiles.

    Attributes:
        tiles: LeanTiles of each output tile, in the order in which they lie on the line; an empty sequence has 0.
        grid: number of CTAs, G; 0 if there is no tile at all.
    """

    tiles: tuple[int, ...]
    grid: int

    def __post_init__(self):
        if any(t < 0 for t in self.tiles):
            raise ValueError(f"an output tile has {min(self.tiles)} LeanTiles; allowed is 0 or more")
        if not (0 < self.grid <= self.total or self.grid == self.total == 0):
            raise ValueError(f"grid must lie between 1 and the {self.total} LeanTiles there are, got {self.grid}")

    @cached_property
    def total(self) -> int:
        """T, the tiles of all outputs."""
        return sum(self.tiles)

    @property
    def longest(self) -> int:
        """mx, the most tiles that a CTA has: the makespan in tiles."""
        return -(-self.total // self.grid) if self.grid else 0

    @property
    def heavy(self) -> int:
        """hi, how many CTAs have mx tiles; the others have one less."""
        return self.total - (self.longest - 1) * self.grid

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """Where each output tile begins on the line, and T at the end: [outputs + 1]."""
        return tuple(accumulate(self.tiles, initial=0))

    def span(self, cta: int) -> range:
        """The tiles of one CTA on the line of all tiles."""
        begin = cta * self.longest - max(0, cta - self.heavy)
        return range(begin, begin + self.longest - (cta >= self.heavy))

    def first_output(self, cta: int) -> int:
        """The output tile in which the CTA's tiles begin."""
        return bisect_right(self.starts, self.span(cta).start) - 1

    def segments(self, cta: int) -> Iterator[Segment]:
        """The CTA's tiles, output by output; only the first segment can lack its output's first tile."""
        span, output = self.span(cta), self.first_output(cta)
        at = span.start
        while at < span.stop:
            begin, end = self.starts[output], self.starts[output + 1]
            if end > begin:
                yield Segment(output, at - begin, min(span.stop, end) - begin, end - begin)
            at, output = min(span.stop, end), output + 1


def grid_size(total: int, outputs: int, multiprocessors: int = MULTIPROCESSORS) -> int:
    """G: two CTAs a multiprocessor if each gets more than two tiles, else one for two tiles; 32 an output at most."""
    wanted = -(-total // 2) if total <= 4 * multiprocessors else 2 * multiprocessors
    return min(wanted, 32 * outputs)


def schedule(lengths: Sequence[int], heads: int, tile: int, multiprocessors: int = MULTIPROCESSORS) -> Schedule:
    """The deal for sequences of `lengths` keys, each read by `heads` groups of rows, in tiles of `tile` keys.

    Output tile number head·len(lengths) + sequence is that of the head's rows and the sequence.

    Raises:
        ValueError: for a negative length, or a number of heads, keys a tile or multiprocessors below 1.
    """
    for name, value in {"heads": heads, "tile": tile, "multiprocessors": multiprocessors}.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if any(n < 0 for n in lengths):
        raise ValueError(f"lengths must be 0 or more, got {min(lengths)}")
    tiles = tuple(-(-n // tile) for n in lengths) * heads
    return Schedule(tiles, grid_size(sum(tiles), sum(t > 0 for t in tiles), multiprocessors))
