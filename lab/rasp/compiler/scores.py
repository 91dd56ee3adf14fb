"""The score of a selector: zero for selected keys, at least `levels` tiers below for the others.

A clause adds to the score nothing where it holds and at least `levels` below zero where it fails, so that clauses add
up. It has one of two forms, whichever needs fewer dims:

- marks: one dim for each different row (or column) of its table, which a query (or key) of that row turns on and where
  the keys (queries) that the row does not select are negative;
- classes, where two rows are equal or select nothing in common: −levels·(c_q − c_k)² = levels·(2·c_q·c_k − c_q² − c_k²)
  with a whole number c for each class, exactly 0 for equal classes and at most −levels for others.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from microtome.lab.rasp.compiler import raw
from microtome.lab.rasp.compiler.operations import Form
from microtome.lab.rasp.compiler.truth import Clause, Truth
from microtome.lab.rasp.language import SOp

if TYPE_CHECKING:
    from microtome.lab.rasp.compiler.lower import Lowering

MAX_CLASS = 2.0**20
"""Largest levels·c² in tiers: products of TIER with it are exact in float32."""
MAX_CLASS_ERROR = 0.04
"""Largest error of a square, in tiers, where attention need not be even: a key that is not selected then still lies
over 104 nats below those that are."""


@dataclass(frozen=True, eq=False)
class Score:
    """The parts of a score that a `Head` has."""

    products: tuple[tuple[Form, Form], ...] = ()
    by_query: Form = field(default_factory=Form)
    by_key: Form = field(default_factory=Form)

    def __add__(self, other: "Score") -> "Score":
        return Score((*self.products, *other.products), self.by_query + other.by_query, self.by_key + other.by_key)


def scores(lowering: "Lowering", truth: Truth | None, levels: int, *, label: str, absolute: bool, even: bool) -> Score:
    """The score of all clauses together.

    Args:
        absolute: whether selected keys must score 0; else all selected keys of one query must score alike.
        even: whether it matters how attention is divided among selected keys.
    """
    total = Score()
    for i, clause in enumerate(() if truth is None else truth.clauses):
        name = label if len(truth.clauses) == 1 else f"{label} ({i + 1})"
        classes = None if lowering.plain else _classes(lowering, clause)
        rows, columns = _different(clause.flat), _different(clause.flat.T)
        fewest = min(len(rows), len(columns))
        if fewest > 2 and _classes_hold(lowering, clause, classes, levels, even=even):
            total = total + _class_score(lowering, clause, classes, levels, name, absolute)
        elif len(rows) <= len(columns):
            total = total + _mark_score(lowering, clause, rows, levels, name, by_query=True)
        else:
            total = total + _mark_score(lowering, clause, columns, levels, name, by_query=False)
    return total


def _classes_hold(lowering: "Lowering", clause: Clause, classes, levels: int, *, even: bool) -> bool:
    """Whether squares of classes can be held: exactly, or well enough where all selected keys write the same."""
    if classes is None or levels * max(float(np.square(c).max()) for c in classes) > MAX_CLASS:
        return False
    for sops, numbers in ((clause.queries, classes[0]), (clause.keys, classes[1])):
        error = raw.rounding(lowering, sops[0], levels * numbers**2) if len(sops) == 1 else 0.0
        if error > (0.0 if even else MAX_CLASS_ERROR):
            return False
    return True


def _different(table: np.ndarray) -> np.ndarray:
    """The different rows that do not select everything."""
    rows = np.unique(table, axis=0)
    return rows[~rows.all(1)]


def _mark_score(
    lowering: "Lowering", clause: Clause, rows: np.ndarray, levels: int, name: str, *, by_query: bool
) -> Score:
    table = clause.flat if by_query else clause.flat.T
    marking, other = (clause.queries, clause.keys) if by_query else (clause.keys, clause.queries)
    total = Score()
    for i, row in enumerate(rows):
        on = (table == row).all(1).astype(float)
        mark = _view(lowering, marking, on, f"{name}: {'query' if by_query else 'key'} mark {i}")
        penalty = _view(lowering, other, -levels * (~row).astype(float), f"{name}: not in {i}")
        if not mark.weights:
            part = penalty.times(mark.bias)
            total = total + (Score(by_key=part) if by_query else Score(by_query=part))
        elif not penalty.weights:
            part = mark.times(penalty.bias)
            total = total + (Score(by_query=part) if by_query else Score(by_key=part))
        else:
            total = total + Score(products=((mark, penalty) if by_query else (penalty, mark),))
    return total


def _view(lowering: "Lowering", sops: Sequence[SOp], flat: np.ndarray, name: str) -> Form:
    shape = tuple(len(lowering.facts(s).values) for s in sops)
    return lowering.view(sops, np.asarray(flat, dtype=float).reshape(shape), name=name, exact=True)


def _classes(lowering: "Lowering", clause: Clause) -> tuple[np.ndarray, np.ndarray] | None:
    """A whole number for each query value and each key value, equal where the clause holds; or None."""
    table = clause.flat
    rows, inverse = np.unique(table, axis=0, return_inverse=True)
    if not (rows.sum(0) <= 1).all():
        return None
    numbered = _numbered(lowering, clause)
    if numbered is not None:
        return numbered
    inverse = inverse.ravel()
    filled = rows.any(1)
    # Classes are numbered as their first keys are; what belongs to none lies beyond the others on either side.
    first = np.where(filled, rows.argmax(1), table.shape[1])
    number = np.argsort(np.argsort(first)).astype(float)
    queries = np.where(filled[inverse], number[inverse], -1.0)
    keys = np.full(table.shape[1], float(filled.sum()))
    for row, n in zip(rows[filled], number[filled], strict=True):
        keys[row] = n
    return queries, keys


def _numbered(lowering: "Lowering", clause: Clause) -> tuple[np.ndarray, np.ndarray] | None:
    """Classes by the numbers themselves, where a key is selected just if it is the query plus a constant."""
    if len(clause.queries) != 1 or len(clause.keys) != 1:
        return None
    query, key = (lowering.facts(side[0]) for side in (clause.queries, clause.keys))
    if not (query.whole and key.whole):
        return None
    places = np.argwhere(clause.flat)
    if len(places) == 0:
        return None
    q, k = places[0]
    shifted = query.numbers + (key.numbers[k] - query.numbers[q])
    if not np.array_equal(clause.flat, key.numbers[None, :] == shifted[:, None]):
        return None
    return shifted, key.numbers


def _class_score(
    lowering: "Lowering",
    clause: Clause,
    classes: tuple[np.ndarray, np.ndarray],
    levels: int,
    name: str,
    absolute: bool,
) -> Score:
    queries, keys = classes
    q = _view(lowering, clause.queries, 2.0 * levels * queries, f"{name}: class sought")
    k = _view(lowering, clause.keys, keys, f"{name}: class")
    k_squared = _view(lowering, clause.keys, -levels * keys**2, f"{name}: class²")
    q_squared = Form()
    if absolute:
        q_squared = _view(lowering, clause.queries, -levels * queries**2, f"{name}: class sought²")
    return Score(products=((q, k),), by_query=q_squared, by_key=k_squared)
