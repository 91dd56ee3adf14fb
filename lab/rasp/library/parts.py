"""Selectors and small s-ops that many of the programs are put together from."""

from microtome.lab.rasp.language import (
    Aggregate,
    Comparison,
    Full,
    Map,
    Select,
    Selector,
    SelectorWidth,
    SequenceMap,
    SOp,
    indices,
    tokens,
)
from microtome.lab.rasp.values import Value

EVERYWHERE = Select(tokens, tokens, Comparison.TRUE).named("everywhere")
SO_FAR = Select(indices, indices, Comparison.LEQ).named("so_far")
EARLIER = Select(indices, indices, Comparison.LT).named("earlier")
LATER = Select(indices, indices, Comparison.GT).named("later")
SAME_TOKEN = Select(tokens, tokens, Comparison.EQ).named("same_token")
ALWAYS = Full(True).named("always")


def holding(bools: SOp) -> Selector:
    """Selects the positions at which `bools` holds, for every query. Its queries are ALWAYS, as none may be None."""
    return Select(bools, ALWAYS, lambda key, query: key)


def asked_by(bools: SOp) -> Selector:
    """Selects everything for the queries at which `bools` holds, nothing for the others."""
    return Select(ALWAYS, bools, lambda key, query: query)


def has(selector: Selector) -> SOp:
    """Whether anything is selected."""
    return Aggregate(selector, ALWAYS, default=False)


def any_of(bools: SOp) -> SOp:
    """Whether `bools` holds anywhere; in a causal model, anywhere so far."""
    return has(holding(bools))


def count_of(bools: SOp) -> SOp:
    """At how many positions `bools` holds; in a causal model, how many so far."""
    return SelectorWidth(holding(bools))


def count_so_far(bools: SOp) -> SOp:
    """At how many positions up to each one `bools` holds."""
    return SelectorWidth(holding(bools) & SO_FAR)


def at(position: SOp, sop: SOp, default: Value = None) -> SOp:
    """The value of `sop` at another position, `default` where there is no such position."""
    return Aggregate(Select(indices, position, Comparison.EQ), sop, default=default)


def shift_by(offset: int, sop: SOp, default: Value = None) -> SOp:
    """The value `offset` positions before, `default` where there is none."""
    behind = Select(indices, indices, lambda key, query: key + offset == query).named(f"behind_{offset}")
    return Aggregate(behind, sop, default=default).named(f"shift_by({offset})")


def where(condition: SOp, yes: SOp, no: SOp) -> SOp:
    """`yes` where the condition holds, else `no`; None where any of the three is None."""
    return SequenceMap(lambda c, x, y: x if c else y, condition, yes, no)


def only_where(condition: SOp, sop: SOp) -> SOp:
    """The value where the condition holds, None elsewhere."""
    return SequenceMap(lambda c, x: x if c else None, condition, sop)


def make_length() -> SOp:
    """The length of the input, at every position. Needs to see all of it: not for causal models."""
    return SelectorWidth(EVERYWHERE).named("length")


def make_reverse(sop: SOp) -> SOp:
    """The sequence from its end to its beginning."""
    opposite = (make_length() - 1 - indices).named("opposite")
    return Aggregate(Select(indices, opposite, Comparison.EQ), sop).named("reverse")


def keep_only(sop: SOp, keep: SOp) -> SOp:
    """The values at which `keep` holds, moved together to the front; None behind them."""
    kept_before = SelectorWidth(holding(keep) & EARLIER).named("kept_before")
    destination = SequenceMap(lambda kept, n: n if kept else -1, keep, kept_before).named("destination")
    return Aggregate(Select(destination, indices, Comparison.EQ), sop)


def stable_rank(keys: SOp, order: Comparison) -> SOp:
    """How many positions come before each when sorting by `keys`, equal keys in the order of the input.

    A sum of two widths, as neither selector then has to tell apart all pairs of a key and a position.
    """
    ties_before = SelectorWidth(Select(keys, keys, Comparison.EQ) & EARLIER).named("ties_before")
    return (SelectorWidth(Select(keys, keys, order)) + ties_before).named("rank")


def in_order(sop: SOp, rank: SOp) -> SOp:
    """`sop` with each value moved to the position that is its rank."""
    return Aggregate(Select(rank, indices, Comparison.EQ), sop)


def is_one_of(sop: SOp, values: tuple[Value, ...]) -> SOp:
    """Whether the value is one of `values`."""
    return Map(lambda value: value in values, sop)
