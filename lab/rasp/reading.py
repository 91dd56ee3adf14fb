"""Between values and coordinates of the residual stream: what a value should look like there, and what is there."""

from bisect import bisect
from collections.abc import Callable, Sequence
from itertools import pairwise

from microtome.lab.rasp.compiler.heads import sink_share
from microtome.lab.rasp.compiler.infer import Facts
from microtome.lab.rasp.compiler.layout import Basis
from microtome.lab.rasp.values import Value, key

CODE_TOLERANCE = 0.25
"""How far a direction that stands for a value may be from 0 or 1 and still be taken for it by any neuron."""


def coordinates(basis: Basis, facts: Facts, value: Value) -> tuple[float, ...]:
    """Where the stream should be along `basis.directions` when the variable has the value.

    Raises:
        KeyError: if the variable cannot have the value.
    """
    row = dict.fromkeys(basis.directions, 0.0)
    stray = any(key(value) == key(v) for v in facts.strays)
    if facts.averaged and not stray:
        row[basis.number] = float(value)
    if basis.share is not None:
        row[basis.share] = sink_share(value, basis.values)
    if stray or not facts.averaged or len(basis.values) > len(facts.strays):
        row[basis.code(value)] = 1.0
    return tuple(row.values())


def tolerances(basis: Basis, facts: Facts) -> tuple[float, ...]:
    """How far each of these coordinates may be off, for the value to be certain."""
    shares = sorted(sink_share(w, basis.values) for w in basis.values) if basis.share is not None else []
    gap = min((b - a for a, b in pairwise(shares)), default=1.0)
    special = {basis.number: facts.error, basis.share: gap / 4}
    return tuple(special.get(direction, CODE_TOLERANCE) for direction in basis.directions)


def value_at(basis: Basis, facts: Facts, vector: Sequence[float]) -> Value:
    """The value that coordinates along `basis.directions` come nearest to."""
    row = dict(zip(basis.directions, vector, strict=True))
    if not facts.averaged:
        return max(basis.values, key=lambda value: row[basis.code(value)])
    return average_reader(facts)(row[basis.number], [row[basis.code(v)] for v in facts.strays])


def average_reader(facts: Facts) -> Callable[[float, Sequence[float]], Value]:
    """The function from an average's number, and how strongly each stray is on, to its value.

    That is the stray that is on, else the listed number nearest to the number, else (none being listed) the number.
    """
    strays = {key(v) for v in facts.strays}
    levels = [v for v in facts.values or () if key(v) not in strays]
    midpoints = [(a + b) / 2 for a, b in pairwise(levels)]

    def read(number: float, flags: Sequence[float]) -> Value:
        for value, flag in zip(facts.strays, flags, strict=True):
            if flag > 0.5:
                return value
        return levels[bisect(midpoints, number)] if levels else number

    return read
