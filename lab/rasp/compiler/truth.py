"""What a selector can do on the values that its keys and queries may take: clauses, and laws that follow from them.

A selector is brought into clauses that must all hold. A clause is a table over the values of some s-ops at the query
and some at the key. `&` puts the clauses of both sides together; `|` and `~` multiply them out, so that a clause may
read several s-ops at once.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from microtome.lab.rasp.compiler.facts import FactsOf, Inference, Setting, same
from microtome.lab.rasp.errors import CompileError, UndefinedError
from microtome.lab.rasp.functions import Comparison
from microtome.lab.rasp.interpreter import holds
from microtome.lab.rasp.language import Select, Selector, SelectorAnd, SelectorNot, SelectorOr, SOp

MAX_TABLE = 2**24
"""Most entries of a truth table."""
MAX_QUESTIONS = 2**22
"""Most times that one predicate is called."""

_COMPARE: dict[Comparison, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    Comparison.EQ: np.equal,
    Comparison.NEQ: np.not_equal,
    Comparison.LT: np.less,
    Comparison.LEQ: np.less_equal,
    Comparison.GT: np.greater,
    Comparison.GEQ: np.greater_equal,
    Comparison.TRUE: lambda keys, queries: np.ones(np.broadcast_shapes(keys.shape, queries.shape), dtype=bool),
    Comparison.FALSE: lambda keys, queries: np.zeros(np.broadcast_shapes(keys.shape, queries.shape), dtype=bool),
}


@dataclass(frozen=True, eq=False)
class Clause:
    """`table[*queries, *keys]`: one axis for each s-op read at the query, then one for each read at the key."""

    queries: tuple[SOp, ...]
    keys: tuple[SOp, ...]
    table: np.ndarray | np.bool_

    def __post_init__(self):
        # numpy makes a scalar of a table without axes.
        object.__setattr__(self, "table", np.asarray(self.table))

    @property
    def flat(self) -> np.ndarray:
        """[query value, key value], combinations of values in the order of `itertools.product`."""
        rows = int(np.prod(self.table.shape[: len(self.queries)], dtype=int))
        return self.table.reshape(rows, -1)


@dataclass(frozen=True, eq=False)
class Truth:
    """A selector on all values.

    Attributes:
        clauses: those that can fail; all must hold for a key to be selected.
        never_empty: every query selects at least one key, on every input.
        one_position: no query selects more than one position.
        one_value_of: the s-ops of which no query selects two different values.
        same_rows: every query value selects the same keys.
        ranks: the s-op of which this is the strict order of all values, or None.
        at: for selectors that depend on nothing but places, [place, key] whether the key is selected; else None.
    """

    clauses: tuple[Clause, ...]
    never_empty: bool
    one_position: bool
    one_value_of: tuple[SOp, ...]
    same_rows: bool
    ranks: SOp | None
    at: np.ndarray | None


def truth(selector: Selector, clauses: Sequence[Clause], inference: Inference) -> Truth:
    """The laws that the clauses obey."""
    facts, setting = inference.facts, inference.setting
    at = _at_places(clauses, facts, setting)
    one_position = any(_keys_distinct(c, facts) and c.flat.sum(1).max(initial=0) <= 1 for c in clauses)
    always = not clauses or all(c.flat.all() for c in clauses)
    selects_itself = all(_reflexive(c) for c in clauses)
    never_empty = always or selects_itself
    if at is not None:
        counts = at.sum(1)
        never_empty, one_position = bool(counts.min() > 0), bool(counts.max() <= 1)
    one_value_of = tuple(c.keys[0] for c in clauses if len(c.keys) == 1 and c.flat.sum(1).max(initial=0) <= 1)
    return Truth(
        clauses=tuple(clauses),
        never_empty=never_empty,
        one_position=one_position,
        one_value_of=one_value_of,
        same_rows=all((c.flat == c.flat[:1]).all() for c in clauses),
        ranks=_ranked(clauses, facts),
        at=at,
    )


def clauses_of(selector: Selector, inference: Inference) -> tuple[Clause, ...]:
    """The clauses of a selector whose parts have theirs in `inference.truths`.

    Raises:
        CompileError: if a table would be too large. UndefinedError: if a predicate fails other than by arithmetic.
    """
    parts = [inference.truths[child].clauses for child in selector.children if isinstance(child, Selector)]
    match selector:
        case Select():
            clauses = [_tabulate(selector, inference)]
        case SelectorAnd():
            clauses = [*parts[0], *parts[1]]
        case SelectorOr():
            clauses = [_joined(a, b, np.logical_or, selector) for a, b in itertools.product(*parts)]
        case SelectorNot():
            clauses = []
            for i, clause in enumerate(parts[0]):
                negated = Clause(clause.queries, clause.keys, ~clause.table)
                clauses = [negated] if i == 0 else [_joined(clauses[0], negated, np.logical_or, selector)]
            if not parts[0]:
                clauses = [Clause((), (), np.zeros((), dtype=bool))]
        case _:
            raise CompileError(f"the compiler does not know {type(selector).__name__}", selector)
    return tuple(_merged([_trimmed(c) for c in clauses if not c.table.all()], selector))


def _tabulate(node: Select, inference: Inference) -> Clause:
    keys, queries = (inference.facts[s].values for s in (node.keys, node.queries))
    for s_op, values in ((node.keys, keys), (node.queries, queries)):
        if values is None:
            raise CompileError(
                f"{s_op.label} is an average with too many possible values for a selector to read; compile for a "
                "smaller max_len or average fewer values",
                node,
            )
    table = _compared(node, inference)
    if table is None:
        table = _asked(node, keys, queries, inference)
    return Clause((node.queries,), (node.keys,), table)


def _compared(node: Select, inference: Inference) -> np.ndarray | None:
    """The table of a comparison between numbers, all at once."""
    compare = _COMPARE.get(node.predicate) if isinstance(node.predicate, Comparison) else None
    keys, queries = inference.facts[node.keys], inference.facts[node.queries]
    numeric = keys.all_numeric and queries.all_numeric
    if compare is None or not numeric or len(keys.values) * len(queries.values) > MAX_TABLE:
        return None
    return compare(keys.numbers[None, :], queries.numbers[:, None])


def _asked(node: Select, keys: tuple, queries: tuple, inference: Inference) -> np.ndarray:
    """The table, one question an entry."""
    if len(keys) * len(queries) > MAX_QUESTIONS:
        raise CompileError(
            f"its arguments have {len(keys)} and {len(queries)} values, so more than {MAX_QUESTIONS} pairs; compile "
            "for a smaller max_len or give it fewer values",
            node,
        )
    table = np.zeros((len(queries), len(keys)), dtype=bool)
    for q, query in enumerate(queries):
        for k, key_value in enumerate(keys):
            try:
                table[q, k] = holds(node, key_value, query)
            except UndefinedError as error:
                if not isinstance(error.__cause__, ArithmeticError):
                    raise
                inference.assume(f"{node!r} is never asked about key {key_value!r} and query {query!r}")
    return table


def distinct_rows(table: np.ndarray) -> int:
    """How many different rows there are."""
    return len({row.tobytes() for row in table})


def _joined(a: Clause, b: Clause, combine: np.ufunc, selector: Selector) -> Clause:
    """Both tables over the s-ops of both, combined."""
    queries, keys = (tuple(dict.fromkeys((*x, *y))) for x, y in ((a.queries, b.queries), (a.keys, b.keys)))
    axes = (*((0, s) for s in queries), *((1, s) for s in keys))
    spread = [_spread(clause, axes) for clause in (a, b)]
    size = int(np.prod(np.broadcast_shapes(*(s.shape for s in spread)), dtype=np.int64))
    if size > MAX_TABLE:
        raise CompileError(f"its truth table would have {size:,} entries, more than {MAX_TABLE:,}", selector)
    return Clause(queries, keys, combine(*spread))


def _spread(clause: Clause, axes: Sequence[tuple[int, SOp]]) -> np.ndarray:
    """The table with its axes in the order of `axes`, and of length 1 where it does not read one."""
    own = {axis: i for i, axis in enumerate((*((0, s) for s in clause.queries), *((1, s) for s in clause.keys)))}
    table = clause.table.transpose([own[axis] for axis in axes if axis in own])
    shape = iter(table.shape)
    return table.reshape([next(shape) if axis in own else 1 for axis in axes])


def _trimmed(clause: Clause) -> Clause:
    """Without the s-ops that make no difference."""
    table, queries, keys = clause.table, list(clause.queries), list(clause.keys)
    for side, offset in ((keys, len(queries)), (queries, 0)):
        for i in reversed(range(len(side))):
            axis = offset + i
            if table.shape[axis] == 1 or (table == table.take([0], axis)).all():
                table = np.asarray(table.take(0, axis))
                del side[i]
    return Clause(tuple(queries), tuple(keys), table)


def _merged(clauses: Sequence[Clause], selector: Selector) -> list[Clause]:
    """Clauses that read the same s-ops, or some of those that another reads, become one."""
    merged: list[Clause] = []
    for clause in sorted(clauses, key=lambda c: -c.table.ndim):
        for i, other in enumerate(merged):
            if set(clause.queries) <= set(other.queries) and set(clause.keys) <= set(other.keys):
                merged[i] = _joined(other, clause, np.logical_and, selector)
                break
        else:
            merged.append(clause)
    return merged


def _keys_distinct(clause: Clause, facts: FactsOf) -> bool:
    return any(facts[k].distinct for k in clause.keys)


def _reflexive(clause: Clause) -> bool:
    """Whether each position selects itself whatever its values."""
    if same(clause.queries, clause.keys):
        return bool(clause.flat.diagonal().all())
    if not clause.queries:
        return bool(clause.flat.all())
    return False


def _ranked(clauses: Sequence[Clause], facts: FactsOf) -> SOp | None:
    """The s-op of which the single clause is a strict order of all values."""
    if len(clauses) != 1 or len(clauses[0].keys) != 1 or not same(clauses[0].queries, clauses[0].keys):
        return None
    table = clauses[0].flat
    before = table.sum(1)
    strict = len(np.unique(before)) == len(before) and bool((table == (before[None, :] < before[:, None])).all())
    return clauses[0].keys[0] if strict else None


def _at_places(clauses: Sequence[Clause], facts: FactsOf, setting: Setting) -> np.ndarray | None:
    """[place, key] for clauses whose queries and keys depend on length and index alone."""
    places = setting.places
    if any(facts[s].at is None for c in clauses for s in (*c.queries, *c.keys)):
        return None
    if len(places) * setting.max_len > MAX_TABLE:
        return None
    lengths, indices = places.T
    keys = np.arange(setting.max_len)
    seen = keys[None, :] <= indices[:, None] if setting.causal else keys[None, :] < lengths[:, None]
    # The place of key k in an input of the query's length.
    key_place = (lengths * (lengths - 1) // 2)[:, None] + np.minimum(keys[None, :], lengths[:, None] - 1)
    for clause in clauses:
        at = [facts[s].at[:, None] for s in clause.queries] + [facts[s].at[key_place] for s in clause.keys]
        seen = seen & clause.table[tuple(at)] if at else seen & bool(clause.table)
    return seen
