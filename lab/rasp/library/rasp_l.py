"""The library of RASP-L, the causal language of Zhou et al. 2023, "What Algorithms Can Transformers Learn?".

Functions of two sequences stand here as s-ops of one input: the tokens in both places, or a changed copy in one. They
keep RASP-L's defaults: zero, or −1 for a position that is not there. Its tasks are in `rasp_l_tasks`.
"""

from microtome.lab.rasp.language import (
    Aggregate,
    Comparison,
    Full,
    Map,
    Select,
    SelectorWidth,
    SOp,
    indices,
    tokens,
)
from microtome.lab.rasp.library.example import BITS, NUMBERS, Example, at_each_prefix, example
from microtome.lab.rasp.library.parts import EVERYWHERE, SAME_TOKEN, any_of, at, count_of, holding, shift_by, where
from microtome.lab.rasp.values import Value


def make_shift_right(offset: int) -> SOp:
    """The tokens moved to the right, zeros coming in."""
    return shift_by(offset, tokens, default=0).named("shift_right")


def make_cumsum(bools: SOp) -> SOp:
    """At how many positions so far `bools` holds."""
    return count_of(bools).named("cumsum")


def make_where() -> SOp:
    """The token where it is greater than the one before it, elsewhere its position."""
    return where(tokens > shift_by(1, tokens, default=0), tokens, indices).named("where")


def make_mask(value: Value) -> SOp:
    """The tokens, with zero for all that come after the value has been seen."""
    seen = shift_by(1, any_of(tokens == value), default=False)
    return where(seen, Full(0), tokens).named("mask")


def make_maximum() -> SOp:
    """The greatest token so far."""
    return Aggregate(EVERYWHERE, tokens, reduction="max").named("maximum")


def make_minimum() -> SOp:
    """The least token so far."""
    return Aggregate(EVERYWHERE, tokens, reduction="min").named("minimum")


def make_argmax() -> SOp:
    """Where the greatest token so far has occurred last."""
    return Aggregate(Select(tokens, make_maximum(), Comparison.EQ), indices, reduction="max").named("argmax")


def make_argmin() -> SOp:
    """Where the least token so far has occurred last."""
    return Aggregate(Select(tokens, make_minimum(), Comparison.EQ), indices, reduction="max").named("argmin")


def make_num_prev() -> SOp:
    """How often the token before this one has occurred up to here; at the first position, how often zero."""
    return SelectorWidth(Select(tokens, shift_by(1, tokens, default=0), Comparison.EQ)).named("num_prev")


def make_has_seen(value: Value) -> SOp:
    """Whether the value has occurred up to here."""
    return any_of(tokens == value).named("has_seen")


def make_firsts() -> SOp:
    """Where the token that is one less than this one has occurred first, −1 if it has not."""
    wanted = Select(tokens, tokens - 1, Comparison.EQ)
    return Aggregate(wanted, indices, default=-1, reduction="min").named("firsts")


def make_lasts() -> SOp:
    """Where the token that is one less than this one has occurred last, −1 if it has not."""
    wanted = Select(tokens, tokens - 1, Comparison.EQ)
    return Aggregate(wanted, indices, default=-1, reduction="max").named("lasts")


def make_index_select() -> SOp:
    """The token at the position that this token names, zero if that is yet to come."""
    return at(tokens, tokens, default=0).named("index_select")


def make_first_true(bools: SOp) -> SOp:
    """The first position at which `bools` holds, −1 while there is none."""
    return Aggregate(holding(bools), indices, default=-1, reduction="min").named("first_true")


def make_mode() -> SOp:
    """The most frequent token so far; of several, the one that reached its number last."""
    occurrence = SelectorWidth(SAME_TOKEN).named("occurrence")
    highest = Aggregate(EVERYWHERE, occurrence, reduction="max").named("highest")
    where_reached = Aggregate(Select(occurrence, highest, Comparison.EQ), indices, reduction="max")
    return at(where_reached.named("where_reached"), tokens).named("mode")


def make_binary_mode() -> SOp:
    """Whether there have been more ones than zeros, as 1 or 0."""
    ones, zeros = count_of(tokens == 1), count_of(tokens == 0)
    return Map(lambda surplus: int(surplus > 0), ones - zeros).named("binary_mode")


def make_induct_first() -> SOp:
    """The token that followed the first earlier occurrence of this one, zero if there is none."""
    follows = Select(shift_by(1, tokens), tokens, Comparison.EQ)
    position = Aggregate(follows, indices, default=-1, reduction="min").named("position")
    return at(position, tokens, default=0).named("induct_first")


def make_induct_prev() -> SOp:
    """The token before the first occurrence of this one, zero if there is none."""
    first = Aggregate(SAME_TOKEN, indices, reduction="min").named("first")
    return at(first - 1, tokens, default=0).named("induct_prev")


def examples() -> tuple[Example, ...]:
    """The programs above, all for causal models."""

    def on(vocab, make, answer, *arguments, **more):
        more = {"causal": True, "origin": "rasp-l", **more}
        return example(make, *arguments, specification=at_each_prefix(answer), vocab=vocab, **more)

    return (
        on(NUMBERS, make_shift_right, lambda xs: [0, *xs][-2], 1),
        on(NUMBERS, make_cumsum, lambda xs: sum(x > 1 for x in xs), tokens > 1),
        on(NUMBERS, make_where, lambda xs: xs[-1] if xs[-1] > [0, *xs][-2] else len(xs) - 1),
        on(NUMBERS, make_mask, lambda xs: 0 if 3 in xs[:-1] else xs[-1], 3),
        on(NUMBERS, make_maximum, max),
        on(NUMBERS, make_minimum, min),
        on(NUMBERS, make_argmax, lambda xs: len(xs) - 1 - xs[::-1].index(max(xs))),
        on(NUMBERS, make_argmin, lambda xs: len(xs) - 1 - xs[::-1].index(min(xs))),
        on(NUMBERS, make_num_prev, lambda xs: xs.count([0, *xs][-2])),
        on(NUMBERS, make_has_seen, lambda xs: 2 in xs, 2),
        on(NUMBERS, make_firsts, lambda xs: xs.index(xs[-1] - 1) if xs[-1] - 1 in xs else -1),
        on(NUMBERS, make_lasts, lambda xs: max((i for i, x in enumerate(xs) if x + 1 == xs[-1]), default=-1)),
        on(NUMBERS, make_index_select, lambda xs: xs[xs[-1]] if xs[-1] < len(xs) else 0),
        on(NUMBERS, make_first_true, lambda xs: next((i for i, x in enumerate(xs) if x > 1), -1), tokens > 1),
        on(NUMBERS, make_mode, lambda xs: max(xs[::-1], key=xs.count)),
        on(BITS, make_binary_mode, lambda xs: int(2 * sum(xs) > len(xs))),
        on(NUMBERS, make_induct_first, lambda xs: xs[xs.index(xs[-1]) + 1] if xs[-1] in xs[:-1] else 0),
        on(NUMBERS, make_induct_prev, lambda xs: [0, *xs][xs.index(xs[-1])]),
    )
