"""What heads leave in the stream before any neuron has read it: shares, means, flags, and rounded numbers."""

from typing import TYPE_CHECKING

import numpy as np

from microtome.lab.rasp.compiler import grid as grids
from microtome.lab.rasp.compiler.operations import Direction, Form
from microtome.lab.rasp.compiler.wishes import Variable, Wish
from microtome.lab.rasp.language import Length, Map, SelectorWidth, SOp, operand
from microtome.lab.rasp.values import Value, key

if TYPE_CHECKING:
    from microtome.lab.rasp.compiler.lower import Lowering


def share(lowering: "Lowering", sop: SOp) -> Direction:
    """The raw direction of a width: the sink's share of attention."""
    return held(lowering, sop, "sink share", lambda title: share_direction(lowering, sop, title))


def share_direction(lowering: "Lowering", sop: SOp, title: str) -> Direction:
    """The direction of a share, whose coordinate has an offset that rounds it."""
    widths = lowering.facts(sop).values
    offset = grids.rounding_offset(grids.share_grid(widths))
    table = {(key(w),): grids.sink_share(w, widths) + offset for w in widths}
    return Direction(title, (sop,), table, error=grids.share_error(widths), offset=offset)


def mean(lowering: "Lowering", sop: SOp) -> Form:
    """An average's number, as its head writes it."""
    facts = lowering.facts(sop)
    direction = held(
        lowering, sop, "", lambda title: Direction(title, (sop,), None, strays=facts.is_stray, error=facts.error)
    )
    return Form({direction: 1.0})


def rounded(lowering: "Lowering", sop: SOp, numbers: np.ndarray, kind: str) -> Form:
    """A raw number of an aggregate, rounded to a grid for steps to read.

    Args:
        numbers: one for each value of the s-op, or for each that an average holds as a number.
        kind: what tells these numbers from others of the same s-op.
    """
    facts = lowering.facts(sop)
    error, grid = raw_error(lowering, sop, numbers), raw_grid(lowering, sop, numbers)
    offset = grids.rounding_offset(grid)
    values = [v for v in facts.values if not facts.averaged or key(v) not in facts.is_stray]
    table = {(key(v),): float(x) + offset for v, x in zip(values, numbers, strict=True)}
    table |= {(key(v),): offset for v in facts.strays if facts.averaged}
    function = np.zeros(0) if facts.averaged else np.asarray(numbers, dtype=float)
    direction = held(
        lowering,
        sop,
        f"{kind} rounded",
        lambda title: Direction(title, (sop,), table, error=error + grid / 2, offset=offset),
        function=function,
        offset=offset,
    )
    return Form({direction: 1.0}, -offset)


def raw_grid(lowering: "Lowering", sop: SOp, numbers: np.ndarray) -> float:
    """The grid that an aggregate's raw number is rounded to."""
    distinct = np.unique(numbers)
    gap = float(np.diff(distinct).min()) if len(distinct) > 1 else 1.0
    return grids.rounding_grid(max(gap, 4 * raw_error(lowering, sop, numbers)))


def raw_error(lowering: "Lowering", sop: SOp, numbers: np.ndarray) -> float:
    """Bound on the float32 error of an aggregate's raw number."""
    facts = lowering.facts(sop)
    if facts.averaged:
        return facts.error
    return 2 * (lowering.inference.setting.max_len + 4) * 2.0**-24 * float(np.abs(numbers).max(initial=0.0))


def flag(lowering: "Lowering", sop: SOp, value: Value) -> Direction:
    """The raw direction of an average that says that it is this value, which is no number."""
    facts = lowering.facts(sop)
    table = FlagTable(key(value))
    return held(lowering, sop, f"={value!r}", lambda title: Direction(title, (sop,), table, error=facts.error))


def flags(lowering: "Lowering", sop: SOp) -> dict[Value, Direction]:
    """The raw directions of an average that say that it is no number, by value."""
    return {v: flag(lowering, sop, v) for v in lowering.facts(sop).strays}


def held(
    lowering: "Lowering", sop: SOp, kind: str, make, *, function: np.ndarray | None = None, offset: float = 0.0
) -> Direction:
    """The direction of a kind, made when it is first asked for.

    Args:
        make: makes it, given its name.
        function: its coordinate for each value, if later wishes may be forms of it.
        offset: what is in its coordinate only to round it.
    """
    wishes = lowering.open(Variable((sop,), False))
    mark = f"raw {kind}".encode()
    if mark not in wishes:
        join = "" if not kind or kind.startswith("=") else ": "
        made = make(lowering.unique(f"{operand(sop)}{join}{kind}"))
        wishes[mark] = Wish(made, np.zeros(0) if function is None else function, offset)
    return wishes[mark].direction


def rounding(lowering: "Lowering", sop: SOp, function: np.ndarray) -> float:
    """Bound on the error of a function of whole numbers that steps read off a raw number."""
    while isinstance(sop, Map):
        image = lowering.inference.images[sop]
        function = np.asarray(function)[np.maximum(image, 0)]
        sop = sop.inner
    facts = lowering.facts(sop)
    if not facts.averaged and facts.exact:
        return 0.0
    if isinstance(sop, SelectorWidth | Length):
        spread, grid = 0.5, grids.share_grid(facts.values)
    else:
        numbers = facts.numbers if facts.averaged else np.arange(len(facts.values), dtype=float)
        spread, grid = float(np.ptp(numbers)), raw_grid(lowering, sop, numbers)
    units = 2 * float(np.abs(np.diff(function)).sum()) * spread / grid
    return 0.0 if units < 2**23 else 2.0**-23 * units


class FlagTable(dict):
    """The table of a flag, which is 0 for all values but one, listed or not."""

    def __init__(self, on):
        super().__init__({(on,): 1.0})

    def __missing__(self, _) -> float:
        return 0.0
