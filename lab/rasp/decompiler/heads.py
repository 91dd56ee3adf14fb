"""An attention head as selectors and aggregates.

Between finitely many queries and keys all scores are known. Where those of one query differ either by nothing or by so
much that the softmax of the lower vanishes, the head attends evenly to the highest keys present: its selector.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from microtome.lab.rasp.decompiler.columns import (
    DIGITS,
    Atom,
    Column,
    DecompileError,
    Selects,
    as_sop,
    classes,
    linear,
    reduced,
    union,
)
from microtome.lab.rasp.language import Aggregate, Select, Selector, SelectorWidth, SequenceMap, SOp

HARD = 80.0
"""Nats from which on a lower score counts for nothing: exp(−80) is under 2·10⁻³⁵."""
SAME = 1e-6
"""Nats up to which two scores are alike."""
MAX_TIERS = 64
MAX_MEANS = 3000


@dataclass(frozen=True, eq=False)
class HeadWeights:
    """One head, scores already multiplied by their scale; rows of Q and K are dims, of OV written columns."""

    Q: np.ndarray
    b_Q: np.ndarray
    K: np.ndarray
    b_K: np.ndarray
    OV: np.ndarray
    b_OV: np.ndarray


@dataclass(frozen=True, eq=False)
class Tiers:
    """For each query and key how many different scores lie above the key's, and where the sink lies.

    Attributes:
        rank: [query, key].
        sink: how many tiers lie above the sink; a number beyond all where there is no sink.
        share: the sink's weight where keys of tier `sink` have weight 1, else 0.
    """

    rank: np.ndarray
    sink: np.ndarray
    share: np.ndarray


@dataclass(frozen=True)
class First:
    """The first tier with keys in it."""

    def __call__(self, *widths: int) -> int:
        return next((t for t, w in enumerate(widths) if w), len(widths))


def tiers(scores: np.ndarray, sink: np.ndarray | None, name: str) -> Tiers:
    """Sorts the scores [query, key] of each query into tiers.

    Raises:
        DecompileError: where two scores are neither alike nor far apart.
    """
    rank = np.zeros(scores.shape, dtype=int)
    above, share = np.full(len(scores), scores.shape[1] + 1), np.zeros(len(scores))
    for q, row in enumerate(scores):
        order = np.argsort(-row)
        gaps = -np.diff(row[order])
        if ((gaps > SAME) & (gaps < HARD)).any():
            soft = float(gaps[(gaps > SAME) & (gaps < HARD)][0])
            raise DecompileError(f"{name} is not hard: two of its scores for one query differ by {soft:.3g} nats")
        rank[q, order] = np.concatenate([[0], np.cumsum(gaps >= HARD)])
        if any(np.ptp(row[rank[q] == t]) > SAME for t in range(rank[q].max() + 1)):
            raise DecompileError(f"{name} is not hard: scores of one query drift apart")
        if sink is not None:
            higher = row - sink[q]
            near = np.abs(higher) < HARD
            above[q] = len(np.unique(rank[q][higher >= HARD]))
            if near.any() and np.ptp(higher[near]) > SAME:
                raise DecompileError(f"{name} shares its attention between the sink and keys of two scores")
            if near.any():
                share[q] = math.exp(-float(higher[near].mean()))
    return Tiers(rank, above, share)


def read_head(
    columns: Sequence[Column],
    weights: HeadWeights,
    sink: np.ndarray | None,
    max_len: int,
    index: Atom,
    name: str,
) -> dict[int, Column]:
    """What the head adds to each column that it writes.

    Raises:
        DecompileError: if it is no selector with means, copies or a width.
    """
    used = [i for i in range(len(weights.Q)) if _matters(weights, i)]
    query, Q = classes([linear(columns, weights.Q[i], weights.b_Q[i], name) for i in used], f"the query of {name}")
    key, K = classes([linear(columns, weights.K[i], weights.b_K[i], name) for i in used], f"the key of {name}")
    sink_scores = None if sink is None else Q @ (weights.K @ sink + weights.b_K)[used]
    found = tiers(Q @ K.T, sink_scores, name)
    candidates = _candidates(found, query, key, name)
    targets = np.flatnonzero(weights.OV.any(1) | (weights.b_OV != 0))
    values = {int(t): linear(columns, weights.OV[t], weights.b_OV[t], name) for t in targets}
    default = None if sink is None else weights.OV @ sink + weights.b_OV
    q, k = as_sop(query, f"{name} query", whole=True), as_sop(key, f"{name} key", whole=True)
    if (found.share > 0).any():
        return _width(found, candidates, q, k, values, default, max_len, name)
    selector, chosen = _selector(found.rank, candidates, q, k, name)
    if _single(chosen, key, index, name):
        return _copies(selector, values, default, name)
    return _means(selector, values, default, max_len, name)


def _matters(weights: HeadWeights, i: int) -> bool:
    return bool((weights.Q[i].any() or weights.b_Q[i]) and (weights.K[i].any() or weights.b_K[i]))


def _candidates(found: Tiers, query: Column, key: Column, name: str) -> np.ndarray:
    """Which keys some input may attend to: none below the sink, and none below the query's own position."""
    allowed = found.rank < found.sink[:, None]
    allowed |= (found.share > 0)[:, None] & (found.rank == found.sink[:, None])
    try:
        atoms = union((query, key), name)
    except DecompileError:
        return allowed
    q, k = np.broadcast_arrays(query.on(atoms), key.on(atoms))
    own = np.zeros(len(found.rank), dtype=int)
    np.maximum.at(own, q.ravel().astype(int), found.rank[q.astype(int), k.astype(int)].ravel())
    return allowed & (found.rank <= own[:, None])


def _select(table: np.ndarray, q: SOp, k: SOp, name: str) -> Selector:
    return Select(k, q, Selects(tuple(map(tuple, table.tolist())))).named(name)


def _selector(rank: np.ndarray, candidates: np.ndarray, q: SOp, k: SOp, name: str) -> tuple[Selector, list[np.ndarray]]:
    """The selector of the highest keys present, and for each tier the table of what it can select."""
    n = int(rank[candidates].max(initial=0)) + 1
    if n > MAX_TIERS:
        raise DecompileError(f"{name} prefers keys in {n} tiers, more than {MAX_TIERS}")
    tables = [candidates & (rank == t) for t in range(n)]
    if n == 1:
        return _select(tables[0], q, k, f"{name} selects"), tables
    widths = [SelectorWidth(_select(table, q, k, f"{name} tier {t}")) for t, table in enumerate(tables[:-1])]
    best = SequenceMap(First(), *widths).named(f"{name} best tier")
    both = SequenceMap(Pair(n), q, best).named(f"{name} query and tier")
    rows = np.stack(tables, 1).reshape(-1, rank.shape[1])
    return _select(rows, both, k, f"{name} selects"), tables


@dataclass(frozen=True)
class Pair:
    """One number for a query and a tier."""

    tiers: int

    def __call__(self, query: int, tier: int) -> int:
        return query * self.tiers + tier


def _single(tables: Sequence[np.ndarray], key: Column, index: Atom, name: str) -> bool:
    """Whether no query ever selects two positions in one tier."""
    if index not in key.atoms:
        return len(index.values) == 1
    by_index = np.moveaxis(key.table, key.atoms.index(index), 0).reshape(len(index.values), -1).astype(int)
    for table in tables:
        places = sum(table[:, np.unique(row)].any(1).astype(int) for row in by_index)
        if (places > 1).any():
            return False
    return True


def _copies(selector: Selector, values: dict[int, Column], default: np.ndarray | None, name: str) -> dict[int, Column]:
    """Of the one position that is selected, everything that is written, as one number for all."""
    number, rows = classes(list(values.values()), f"the value of {name}")
    sop = as_sop(number, f"{name} value", whole=True)
    missing = None if default is None else len(rows)
    copied = Aggregate(selector, sop, default=missing).named(name)
    if default is not None:
        rows = np.concatenate([rows, default[None, list(values)]])
    atom = Atom(copied, tuple(range(len(rows))))
    return {t: reduced((atom,), rows[:, i]) for i, t in enumerate(values)}


def _means(
    selector: Selector, values: dict[int, Column], default: np.ndarray | None, max_len: int, name: str
) -> dict[int, Column]:
    written = {}
    for target, column in values.items():
        missing = None if default is None else float(default[target])
        numbers = {float(x) for x in np.round(column.table, DIGITS).ravel()}
        if len(numbers) == 1 and missing in (None, *numbers):
            written[target] = Column((), np.array(numbers.pop()))
            continue
        means = _mean_values(numbers, max_len, name) | ({missing} - {None})
        mean = Aggregate(selector, as_sop(column, f"{name} value {target}"), default=missing)
        ordered = tuple(sorted(means))
        written[target] = Column((Atom(mean.named(f"{name} mean {target}"), ordered),), np.array(ordered))
    return written


def _mean_values(numbers: set[float], max_len: int, name: str) -> set[float]:
    sums, means = {0.0}, set()
    for n in range(1, max_len + 1):
        sums = {round(s + x, DIGITS) for s in sums for x in numbers}
        means |= {round(s / n, DIGITS) for s in sums}
        if len(means) > MAX_MEANS:
            raise DecompileError(f"{name} can average to more than {MAX_MEANS} numbers")
    return means


def _width(
    found: Tiers,
    candidates: np.ndarray,
    q: SOp,
    k: SOp,
    values: dict[int, Column],
    default: np.ndarray,
    max_len: int,
    name: str,
) -> dict[int, Column]:
    """Where keys share with the sink: a function of how many they are."""
    shares = found.share[found.share > 0]
    if np.ptp(shares) > 1e-3 * shares.max() or (found.sink > 0).any():
        raise DecompileError(f"{name} shares its attention with the sink unevenly")
    if any(column.atoms for column in values.values()):
        raise DecompileError(f"{name} mixes the sink's value with others that vary")
    width = SelectorWidth(_select(candidates, q, k, f"{name} selects")).named(f"{name} width")
    atom, w = Atom(width, tuple(range(max_len + 1))), np.arange(max_len + 1)
    share = shares[0] / (shares[0] + w)
    return {t: reduced((atom,), share * default[t] + (1 - share) * float(c.table)) for t, c in values.items()}
