"""What a `Select` can do on the values that its keys and queries may take: its truth table, and laws that follow."""

from dataclasses import dataclass

from microtome.lab.rasp.interpreter import holds
from microtome.lab.rasp.language import Select
from microtome.lab.rasp.values import Value


@dataclass(frozen=True)
class Truth:
    """The predicate of a `Select` on all pairs of values.

    Attributes:
        keys, queries: the values, None among them where it can occur.
        table: `table[q][k]`, the predicate on key k and query q; False where either is None.
        never_empty: every query selects at least one key, on every input.
        one_position: no query selects more than one position.
        one_key: no query value selects more than one key value.
        same_rows: every query value selects the same key values.
        ranks: a strict order of all values of one s-op, so that equally many are selected by equal values only.
    """

    keys: tuple[Value, ...]
    queries: tuple[Value, ...]
    table: tuple[tuple[bool, ...], ...]
    never_empty: bool
    one_position: bool
    one_key: bool
    same_rows: bool
    ranks: bool


def truth(node: Select, keys: tuple[Value, ...], queries: tuple[Value, ...], *, keys_distinct: bool) -> Truth:
    """Evaluates the predicate on all pairs; `keys_distinct` says that no two positions share a key."""
    table = tuple(tuple(holds(node, k, q) for k in keys) for q in queries)
    # A position always sees itself, so a predicate that holds between equal values selects at least that.
    selects_itself = node.keys is node.queries and all(table[i][i] for i in range(len(keys)))
    one_key = all(sum(row) <= 1 for row in table)
    return Truth(
        keys=keys,
        queries=queries,
        table=table,
        never_empty=selects_itself or all(all(row) for row in table),
        one_position=one_key and keys_distinct,
        one_key=one_key,
        same_rows=len(set(table)) == 1,
        ranks=node.keys is node.queries and _is_strict_order(table),
    )


def _is_strict_order(table: tuple[tuple[bool, ...], ...]) -> bool:
    """Whether `table[q][k]` says that k comes before q, in some order of all values."""
    before = [sum(row) for row in table]
    order_known = len(set(before)) == len(before)
    return order_known and all(row == tuple(n < before[q] for n in before) for q, row in enumerate(table))
