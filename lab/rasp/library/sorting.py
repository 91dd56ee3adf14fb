"""Sorting in several ways, and the questions of order: ranks, extremes, medians, records, neighbours in size."""

from itertools import pairwise

from microtome.lab.rasp.language import (
    Aggregate,
    Comparison,
    Map,
    Select,
    SelectorWidth,
    SequenceMap,
    SOp,
    indices,
    tokens,
)
from microtome.lab.rasp.library.counting import make_hist
from microtome.lab.rasp.library.example import LETTERS, NUMBERS, Example, at_each_prefix, everywhere, example
from microtome.lab.rasp.library.parts import (
    EARLIER,
    EVERYWHERE,
    LATER,
    SAME_TOKEN,
    any_of,
    at,
    has,
    holding,
    in_order,
    make_length,
    shift_by,
    stable_rank,
)
from microtome.lab.rasp.values import Value

FOUR = (1, 2, 3, 4)
LESS = Select(tokens, tokens, Comparison.LT).named("less")
GREATER = Select(tokens, tokens, Comparison.GT).named("greater")


def make_sort(vals: SOp, keys: SOp) -> SOp:
    """The values in the order of their keys, equal keys in the order of the input."""
    keyed = SequenceMap(lambda key, i: (key, i), keys, indices).named("keyed")
    rank = SelectorWidth(Select(keyed, keyed, Comparison.LT).named("smaller")).named("rank")
    return Aggregate(Select(rank, indices, Comparison.EQ), vals).named("sort")


def make_sort_unique(vals: SOp, keys: SOp) -> SOp:
    """The values in the order of their keys; where keys are equal, the first of their places is used and the rest None.

    Equal keys must have equal values or values with a mean.
    """
    return in_order(vals, SelectorWidth(Select(keys, keys, Comparison.LT)).named("rank")).named("sort_unique")


def make_sort_min_key(vals: SOp, keys: SOp, max_seq_len: int, min_key: int | float) -> SOp:
    """The values in the order of their keys, which are made unique by adding less than their smallest difference.

    For inputs up to max_seq_len and keys that differ by min_key at least.
    """
    distinct = SequenceMap(lambda key, i: key + min_key * i / max_seq_len, keys, indices).named("distinct")
    return make_sort_unique(vals, distinct).named("sort_min_key")


def make_sort_freq() -> SOp:
    """The tokens by frequency, the most frequent first, equally frequent ones in the order of the input."""
    return in_order(tokens, stable_rank(make_hist(), Comparison.GT)).named("sort_freq")


def make_sort_descending() -> SOp:
    """The tokens from the greatest to the least."""
    return in_order(tokens, stable_rank(tokens, Comparison.GT)).named("sort_descending")


def make_argsort() -> SOp:
    """The position in the input of each token of the sorted sequence."""
    return in_order(indices, stable_rank(tokens, Comparison.LT)).named("argsort")


def make_evens_first() -> SOp:
    """The even numbers, then the odd ones, both in the order of the input."""
    return in_order(tokens, stable_rank(Map(lambda x: x % 2, tokens), Comparison.LT)).named("evens_first")


def make_group_equal() -> SOp:
    """Equal tokens moved together, the groups in the order in which they begin."""
    first = Aggregate(SAME_TOKEN, indices, reduction="min").named("first")
    return in_order(tokens, stable_rank(first, Comparison.LT)).named("group_equal")


def make_pivot() -> SOp:
    """What is less than the first token, then the rest: one step of quicksort."""
    pivot = Aggregate(Select(indices, indices, lambda key, query: key == 0), tokens).named("pivot")
    return in_order(tokens, stable_rank(tokens >= pivot, Comparison.LT)).named("pivot_step")


def make_rank() -> SOp:
    """How many tokens are less than this one."""
    return SelectorWidth(LESS).named("rank")


def make_dense_rank() -> SOp:
    """How many different tokens are less than this one."""
    return SelectorWidth(LESS & holding(~has(SAME_TOKEN & EARLIER))).named("dense_rank")


def make_median() -> SOp:
    """The token in the middle of the sorted sequence, the lower one of two."""
    rank = stable_rank(tokens, Comparison.LT)
    middle = Map(lambda n: (n - 1) // 2, make_length()).named("middle")
    return Aggregate(Select(rank, middle, Comparison.EQ), tokens).named("median")


def make_kth_largest(k: int) -> SOp:
    """The k-th largest token, equal ones counted singly; None if there are fewer than k."""
    rank = stable_rank(tokens, Comparison.GT)
    return Aggregate(holding(rank == k - 1), tokens).named("kth_largest")


def make_second_largest() -> SOp:
    """The greatest token below the maximum, None if all are equal."""
    maximum = Aggregate(EVERYWHERE, tokens, reduction="max").named("maximum")
    return Aggregate(Select(tokens, maximum, Comparison.LT), tokens, reduction="max").named("second_largest")


def make_range() -> SOp:
    """The greatest token less the least."""
    return (Aggregate(EVERYWHERE, tokens, reduction="max") - Aggregate(EVERYWHERE, tokens, reduction="min")).named(
        "range"
    )


def make_is_sorted() -> SOp:
    """Whether no token is less than the one before it."""
    return (~any_of(shift_by(1, tokens) > tokens)).named("is_sorted")


def make_inversions() -> SOp:
    """How many tokens before this one are greater."""
    return SelectorWidth(GREATER & EARLIER).named("inversions")


def make_record() -> SOp:
    """Whether each token is greater than all before it."""
    return (~has(EARLIER & Select(tokens, tokens, Comparison.GEQ))).named("record")


def make_next_greater() -> SOp:
    """The first later token that is greater than this one, None if there is none."""
    return Aggregate(GREATER & LATER, tokens, reduction="first").named("next_greater")


def make_previous_smaller() -> SOp:
    """The last earlier token that is less than this one, None if there is none."""
    return Aggregate(LESS & EARLIER, tokens, reduction="last").named("previous_smaller")


def make_stock_span() -> SOp:
    """For how many positions up to here no token has been greater than this one."""
    obstacle = Aggregate(GREATER & EARLIER, indices, default=-1, reduction="last").named("obstacle")
    return (indices - obstacle).named("stock_span")


def make_peak() -> SOp:
    """Whether a token is greater than its neighbours; at the ends, than its one neighbour."""
    rise = shift_by(1, tokens, default=-1) < tokens
    fall = at(indices + 1, tokens, default=-1) < tokens
    return (rise & fall).named("peak")


def examples() -> tuple[Example, ...]:
    """The programs above."""

    def on(vocab, make, specification, *arguments, **more):
        return example(make, *arguments, specification=specification, vocab=vocab, **more)

    def tracr(vocab, make, specification, *arguments, name=None):
        return on(vocab, make, specification, *arguments, origin="tracr", name=name)

    def from_the_end(xs):
        return xs[::-1]

    return (
        tracr(LETTERS, make_sort, sorted, tokens, tokens),
        tracr(NUMBERS, make_sort_unique, _sort_unique, tokens, tokens),
        tracr(LETTERS, make_sort_unique, from_the_end, tokens, 1 - indices, name="sort_unique_by_position"),
        tracr(FOUR, make_sort_min_key, sorted, tokens, tokens, 256, 1),
        tracr(LETTERS, make_sort_min_key, from_the_end, tokens, 1 - indices, 256, 1, name="sort_by_position"),
        tracr(FOUR, make_sort_freq, lambda xs: sorted(xs, key=lambda x: -xs.count(x))),
        on(LETTERS, make_sort_descending, lambda xs: sorted(xs)[::-1]),
        on(LETTERS, make_argsort, lambda xs: sorted(range(len(xs)), key=xs.__getitem__)),
        on(NUMBERS, make_evens_first, lambda xs: [x for bit in (0, 1) for x in xs if x % 2 == bit]),
        on(LETTERS, make_group_equal, lambda xs: [x for x in dict.fromkeys(xs) for _ in range(xs.count(x))]),
        on(NUMBERS, make_pivot, lambda xs: [x for x in xs if x < xs[0]] + [x for x in xs if x >= xs[0]]),
        on(NUMBERS, make_rank, lambda xs: [sorted(xs).index(x) for x in xs]),
        on(NUMBERS, make_dense_rank, lambda xs: [sorted(set(xs)).index(x) for x in xs]),
        on(NUMBERS, make_median, everywhere(lambda xs: sorted(xs)[(len(xs) - 1) // 2])),
        on(NUMBERS, make_kth_largest, everywhere(lambda xs: [*sorted(xs)[::-1], None, None][2]), 3),
        on(NUMBERS, make_second_largest, everywhere(lambda xs: [None, *sorted(set(xs))][-2])),
        on(NUMBERS, make_range, everywhere(lambda xs: max(xs) - min(xs))),
        on(NUMBERS, make_is_sorted, everywhere(lambda xs: all(x <= y for x, y in pairwise(xs)))),
        on(NUMBERS, make_inversions, at_each_prefix(lambda xs: sum(x > xs[-1] for x in xs))),
        on(NUMBERS, make_record, at_each_prefix(lambda xs: xs[-1] > max(xs[:-1], default=-1)), causal=True),
        on(NUMBERS, make_next_greater, lambda xs: [_first_greater(x, xs[i:]) for i, x in enumerate(xs)]),
        on(NUMBERS, make_previous_smaller, at_each_prefix(_previous_smaller), causal=True),
        on(NUMBERS, make_stock_span, at_each_prefix(_stock_span), causal=True),
        on(NUMBERS, make_peak, _peak),
    )


def _sort_unique(xs: list[Value]) -> list[Value]:
    ordered = sorted(xs)
    return [x if x not in ordered[:i] else None for i, x in enumerate(ordered)]


def _first_greater(x: Value, xs: list[Value]) -> Value:
    return next((y for y in xs if y > x), None)


def _previous_smaller(xs: list[Value]) -> Value:
    return next((x for x in xs[::-1] if x < xs[-1]), None)


def _stock_span(xs: list[Value]) -> int:
    span = 0
    while span < len(xs) and xs[-1 - span] <= xs[-1]:
        span += 1
    return span


def _peak(xs: list[Value]) -> list[Value]:
    padded = [-1, *xs, -1]
    return [a < x > b for a, x, b in zip(padded, xs, padded[2:], strict=False)]
