"""All averages that numbers out of a finite set can have."""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from functools import reduce
from math import lcm
from operator import or_

from microtome.lab.rasp.values import Value, fraction, is_numeric, plain, unique

MAX_SUM = 2**22
"""Largest sum, in steps of the common denominator, that is enumerated."""


def means(values: Iterable[Value], most: int, limit: int) -> tuple[Value, ...] | None:
    """The means of one to `most` of the numbers among `values`, with repetition, or None if they are over `limit`.

    Sums of m numbers are kept as the bits of one integer, so that adding a number to all of them is one shift. A
    boolean stands for its own mean; means between booleans are numbers.
    """
    given = [v for v in values if is_numeric(v)]
    exact = [fraction(v) for v in given]
    unit = Fraction(1, lcm(*(f.denominator for f in exact)))
    low = min(exact)
    shifts = [int((f - low) / unit) for f in exact]
    if max(shifts) * most > MAX_SUM:
        return None
    found: set[Fraction] = set()
    sums = 1
    for m in range(1, most + 1):
        sums = reduce(or_, (sums << shift for shift in shifts))
        if sums.bit_count() > limit:
            return None
        found.update(low + Fraction(total, m) * unit for total in _bits(sums))
        if len(found) > limit:
            return None
    booleans = [v for v in given if isinstance(v, bool)]
    return unique((*given, *(v for v in map(plain, found) if v not in booleans)))


def _bits(number: int) -> Iterator[int]:
    return (place for place, bit in enumerate(reversed(f"{number:b}")) if bit == "1")
