"""The width of a selector over pairs, as a sum of two widths that each look at less.

A selector may compare (a, b) at the key with (a, b) at the query by a first and by b only where the a's leave it open,
as sorting with ties does. Then it selects, without overlap, the keys that a alone decides, and those that a leaves
open and b decides. Counting both apart needs as many dims as a and b have values, and not as their pairs.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from microtome.lab.rasp.compiler.facts import same
from microtome.lab.rasp.compiler.truth import distinct_rows
from microtome.lab.rasp.functions import Infix
from microtome.lab.rasp.language import Select, Selector, SelectorAnd, SelectorOr, SelectorWidth, SequenceMap, SOp
from microtome.lab.rasp.values import Value, key

if TYPE_CHECKING:
    from microtome.lab.rasp.compiler.facts import Inference
    from microtome.lab.rasp.compiler.simplify import Simplifier


@dataclass(frozen=True)
class Table:
    """The predicate that a table [query][key] over listed values says."""

    queries: tuple[Value, ...]
    keys: tuple[Value, ...]
    rows: tuple[tuple[bool, ...], ...]

    def __post_init__(self):
        object.__setattr__(self, "_query", {key(v): i for i, v in enumerate(self.queries)})
        object.__setattr__(self, "_key", {key(v): i for i, v in enumerate(self.keys)})

    def __call__(self, k: Value, q: Value) -> bool:
        return self.rows[self._query[key(q)]][self._key[key(k)]]


def split_width(simplifier: "Simplifier", node: SelectorWidth) -> SOp:
    """The sum, or the node itself where there is nothing to split or to gain."""
    inference = simplifier.inference
    if isinstance(node.selector, SelectorOr) and _disjoint(inference, node.selector):
        parts = (node.selector.fst, node.selector.snd)
        return _sum(simplifier, node, parts)
    clauses = inference.truths[node.selector].clauses
    if len(clauses) != 1 or len(clauses[0].keys) != 1 or len(clauses[0].queries) != 1:
        return node
    (sop,) = clauses[0].keys
    if clauses[0].queries[0] is not sop or not isinstance(sop, SequenceMap) or len(sop.sops) != 2:
        return node
    image, flat = inference.images[sop], clauses[0].flat
    if (image < 0).any():
        return node
    for first in (0, 1):
        oriented = image if first == 0 else image.T
        found = _split(flat, oriented)
        if found is None:
            continue
        decided, open_, rest = found
        dims = distinct_rows(flat)
        if dims <= sum(map(distinct_rows, found)):
            continue
        a, b = sop.sops[first], sop.sops[1 - first]
        alone = simplifier.add(_select(inference, a, decided, f"{node.selector.label} by {a.label}"))
        ties = simplifier.add(_select(inference, a, open_, f"{node.selector.label}: tie of {a.label}"))
        broken = simplifier.add(_select(inference, b, rest, f"{node.selector.label}: tie broken by {b.label}"))
        both = simplifier.add(SelectorAnd(ties, broken))
        return _sum(simplifier, node, (alone, both))
    return node


def _sum(simplifier: "Simplifier", node: SelectorWidth, parts: Sequence[Selector]) -> SOp:
    """The sum of the widths of its parts, of which all is known that was known of the width."""
    made = [SelectorWidth(part, name=f"width of {part.label}", where=node.where) for part in parts]
    total = simplifier.add(SequenceMap(Infix("+"), *map(simplifier.add, made), name=node.label, where=node.where))
    if isinstance(total, SequenceMap):
        known, facts = simplifier.inference.facts[node], simplifier.inference.facts
        facts[total] = replace(facts[total], distinct=known.distinct, uniform=known.uniform, ranks=known.ranks)
    return total


def _disjoint(inference: "Inference", selector: SelectorOr) -> bool:
    """Whether no key is ever selected by both sides, as a pair of their clauses shows."""
    sides = [inference.truths[side].clauses for side in (selector.fst, selector.snd)]
    return any(
        same(a.queries, b.queries) and same(a.keys, b.keys) and not (a.table & b.table).any()
        for a, b in itertools.product(*sides)
    )


def _select(inference: "Inference", sop: SOp, table: np.ndarray, name: str) -> Select:
    values = inference.facts[sop].values
    return Select(sop, sop, Table(values, values, tuple(map(tuple, table.tolist()))), name=name)


def _split(flat: np.ndarray, image: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """(where a alone selects [a query, a key], where it leaves b to decide, how b decides [b query, b key])."""
    blocks = flat[image[:, :, None, None], image[None, None, :, :]].transpose(0, 2, 1, 3)
    full, empty = blocks.all((2, 3)), ~blocks.any((2, 3))
    open_ = ~full & ~empty
    if not open_.any():
        return None
    rest = blocks[tuple(np.argwhere(open_)[0])]
    if not (blocks[open_] == rest).all():
        return None
    return full, open_, rest
