"""The share of attention that a width leaves on the sink, and grids on which raw numbers are held."""

import math
from collections.abc import Sequence
from itertools import pairwise

from microtome.lab.rasp.compiler.facts import FLOAT_UNIT
from microtome.lab.rasp.values import Value


def sink_weight(widths: Sequence[Value]) -> float:
    """β: how many selected keys the sink outweighs."""
    return float(max((1, *widths)))


def sink_share(width: Value, widths: Sequence[Value]) -> float:
    """The attention that the sink receives beside `width` selected keys."""
    beta = sink_weight(widths)
    return beta / (beta + width)


def rounding_grid(gap: float) -> float:
    """The grid for a raw number whose values are `gap` apart: a power of two, gap/32 to gap/16."""
    return 2.0 ** math.floor(math.log2(gap / 16))


def rounding_offset(grid: float) -> float:
    """What is added to a raw number so that float32 rounds it to the grid.

    Steps then work on few bits: all their sums are exact, in whatever order a processor adds the neurons.
    """
    return grid * 2.0**23


def share_grid(widths: Sequence[Value]) -> float:
    """The grid of a width's share."""
    shares = sorted(sink_share(w, widths) for w in widths)
    return rounding_grid(min((b - a for a, b in pairwise(shares)), default=1.0))


def share_error(widths: Sequence[Value]) -> float:
    """Bound on its float32 error: a rounding a key in the softmax's sum, and four for ln β and its exponential;
    and half a step of the grid."""
    rounding = (max((1, *widths)) + 4 + 4 * math.log(sink_weight(widths))) * FLOAT_UNIT
    return rounding + share_grid(widths) / 2
