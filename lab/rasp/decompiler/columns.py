"""Coordinates of the residual stream as tables over finitely many values of s-ops.

A table lists every combination of the s-ops' values, also those that never meet in an input: whatever is shown for all
combinations holds for all inputs.
"""

from bisect import bisect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np

from microtome.lab.rasp.errors import RaspError
from microtome.lab.rasp.language import Full, SequenceMap, SOp
from microtome.lab.rasp.values import Value

MAX_COMBINATIONS = 2**17
DIGITS = 8
"""Decimals to which coordinates are told apart."""


class DecompileError(RaspError):
    """Weights that cannot be read as a RASP program."""


@dataclass(frozen=True, eq=False)
class Atom:
    """An s-op of the program, and the values it can have, ascending where they are numbers."""

    sop: SOp
    values: tuple[Value, ...]


@dataclass(frozen=True, eq=False)
class Column:
    """A number for each combination of the atoms' values; `table` has one axis for each atom."""

    atoms: tuple[Atom, ...]
    table: np.ndarray

    def on(self, atoms: Sequence[Atom]) -> np.ndarray:
        """The table with one axis for each of `atoms`, of size 1 where it does not matter."""
        order = [self.atoms.index(a) for a in atoms if a in self.atoms]
        shape = [len(a.values) if a in self.atoms else 1 for a in atoms]
        return self.table.transpose(order).reshape(shape)


@dataclass(frozen=True)
class Lookup:
    """A function given by its values; an argument that is a number is taken for the nearest one listed."""

    arguments: tuple[tuple[Value, ...], ...]
    results: tuple[Value, ...]

    def __call__(self, *values: Value) -> Value:
        place = 0
        for value, known in zip(values, self.arguments, strict=True):
            place = place * len(known) + _place(value, known)
        return self.results[place]


@dataclass(frozen=True)
class Selects:
    """A predicate on a number of a key and a number of a query."""

    table: tuple[tuple[bool, ...], ...]

    def __call__(self, key: int, query: int) -> bool:
        return self.table[query][key]


def _place(value: Value, known: tuple[Value, ...]) -> int:
    if value in known:
        return known.index(value)
    return bisect([(a + b) / 2 for a, b in pairwise(known)], value)


def union(columns: Iterable[Column], what: str) -> tuple[Atom, ...]:
    """All atoms of the columns.

    Raises:
        DecompileError: if they have too many combinations of values.
    """
    atoms = tuple(dict.fromkeys(a for column in columns for a in column.atoms))
    size = int(np.prod([float(len(a.values)) for a in atoms]))
    if size > MAX_COMBINATIONS:
        raise DecompileError(f"{what} reads {size:,} combinations of values, more than {MAX_COMBINATIONS:,}")
    return atoms


def linear(columns: Sequence[Column], weights: np.ndarray, bias: float, what: str) -> Column:
    """The bias and the weighted sum of the columns."""
    used = [(columns[i], weights[i]) for i in np.flatnonzero(weights)]
    atoms = union((c for c, _ in used), what)
    table = np.full([len(a.values) for a in atoms], float(bias))
    for column, weight in used:
        table = table + weight * column.on(atoms)
    return reduced(atoms, np.asarray(table))


def reduced(atoms: tuple[Atom, ...], table: np.ndarray) -> Column:
    """Without the atoms on which the number does not depend."""
    kept = []
    for axis, atom in reversed(list(enumerate(atoms))):
        if np.ptp(table, axis=axis).max() < 10.0**-DIGITS:
            table = table.take(0, axis=axis)
        else:
            kept.append(atom)
    return Column(tuple(reversed(kept)), np.asarray(table))


def classes(columns: Sequence[Column], what: str) -> tuple[Column, np.ndarray]:
    """A number for each different vector that the columns make, and these vectors [number, column]."""
    atoms = union(columns, what)
    shape = [len(a.values) for a in atoms]
    stacked = [np.broadcast_to(c.on(atoms), shape).ravel() for c in columns]
    rows = np.stack(stacked, 1) if stacked else np.zeros((int(np.prod(shape)), 0))
    if not stacked:
        return Column((), np.zeros(())), np.zeros((1, 0))
    _, first, inverse = np.unique(np.round(rows, DIGITS), axis=0, return_index=True, return_inverse=True)
    return Column(atoms, np.asarray(inverse.reshape(shape))), rows[first]


def as_sop(column: Column, name: str, *, whole: bool = False) -> SOp:
    """The s-op whose value is the column's number."""
    convert = int if whole else float
    results = tuple(convert(x) for x in column.table.ravel())
    if not column.atoms:
        return Full(results[0]).named(name)
    arguments = tuple(a.values for a in column.atoms)
    if len(arguments) == 1 and arguments[0] == results:
        return column.atoms[0].sop
    assert len(results) == len(list(product(*map(range, map(len, arguments)))))
    return SequenceMap(Lookup(arguments, results), *(a.sop for a in column.atoms)).named(name)
