"""Moving tokens: reversing, swapping and sorting. And what sorting tells: medians.

The published sorts and medians make keys unique by adding a small multiple of the position to them, which fails on
inputs longer than it was chosen for (10 in 9 and 22, 100 in 81); ours count equal keys that stand before, and so sort
inputs of any length. 100 swaps the first two tokens: an input of one token has no second, and the answer is None.
"""

from statistics import median

from microtome.lab.rasp.language import Aggregate, Comparison, Map, Select, SOp, indices, length, tokens
from microtome.lab.rasp.library.example import Example, Specification, everywhere
from microtome.lab.rasp.library.interpbench.numbered import ALPHABET, DIGITS, WORDS, numbered
from microtome.lab.rasp.library.interpbench.pieces import (
    OPPOSITE,
    clamped_at,
    first,
    last,
    least,
    previous,
    stable_rank,
)
from microtome.lab.rasp.library.parts import at, where
from microtome.lab.rasp.values import Value


def make_reverse() -> SOp:
    """The tokens from the last to the first."""
    return at(OPPOSITE, tokens).named("reverse")


def make_mirror_first_half() -> SOp:
    """The first half of the tokens, and then its mirror image."""
    in_first_half = (indices < OPPOSITE).named("in_first_half")
    return where(in_first_half, tokens, at(OPPOSITE, tokens)).named("mirror_first_half")


def make_interleave_reverse() -> SOp:
    """The tokens, those at positions 1, 3, 5, … in reverse order."""
    opposite_odd = (length - length % 2 - indices).named("opposite_odd")
    return where(indices % 2, clamped_at(opposite_odd), tokens).named("interleave_reverse")


def make_swap_pairs() -> SOp:
    """The tokens with each at 0, 2, 4, … and its next changing places; an odd one out stays."""
    return clamped_at(Map(lambda i: i ^ 1, indices)).named("swap_pairs")


def make_swap_pairs_after_first() -> SOp:
    """The tokens with each at 1, 3, 5, … and its next changing places; the first, and an odd one out, stay."""
    partner = Map(lambda i: max(((i - 1) ^ 1) + 1, 0), indices)
    return clamped_at(partner).named("swap_pairs_after_first")


def make_swap_first_two() -> SOp:
    """The tokens with the first two changing places; None for one token alone."""
    return at(Map(lambda i: {0: 1, 1: 0}.get(i, i), indices), tokens).named("swap_first_two")


def make_swap_ends() -> SOp:
    """The tokens with the first and the last changing places."""
    with_last = where(indices == 0, last(), tokens).named("with_last")
    return where(OPPOSITE == 0, first(), with_last).named("swap_ends")


def make_swap_halves() -> SOp:
    """The second half of the tokens and then the first; a middle one stays."""
    half = ((length + 1) // 2).named("half")
    with_second = where(indices < OPPOSITE, clamped_at(indices + half), tokens).named("with_second")
    return where(indices > OPPOSITE, at(indices - half, tokens, default=0), with_second).named("swap_halves")


def make_reverse_if_sorted() -> SOp:
    """The tokens in reverse if they never decrease, else as they are."""
    never_decreasing = least(Map(int, previous() <= tokens)).named("never_decreasing")
    return where(never_decreasing, at(OPPOSITE, tokens), tokens).named("reverse_if_sorted")


def make_sort(keys: SOp) -> SOp:
    """The tokens in the order of their keys, equal ones in the order of the input."""
    return Aggregate(Select(stable_rank(keys), indices, Comparison.EQ), tokens).named("sort")


def make_sort_by_length() -> SOp:
    """The words from short to long, equally long ones in the order of the input."""
    return make_sort(Map(len, tokens).named("word_length"))


def make_median() -> SOp:
    """The median of the tokens, everywhere: the mean of the one or two that have half of the others below."""
    middle = Select(stable_rank(tokens), length, lambda rank, n: (n - 1) // 2 <= rank <= n // 2)
    return Aggregate(middle.named("middle"), tokens).named("median")


def _with_pairs_swapped(start: int) -> Specification:
    def specification(xs: list[Value]) -> list[Value]:
        pairs = (xs[i : i + 2] for i in range(start, len(xs), 2))
        return xs[:start] + [x for pair in pairs for x in reversed(pair)]

    return specification


def _mirrored(xs: list[Value]) -> list[Value]:
    half = len(xs) // 2
    return xs[: len(xs) - half] + xs[:half][::-1]


def _interleaved(xs: list[Value]) -> list[Value]:
    answer = list(xs)
    answer[1::2] = xs[1::2][::-1]
    return answer


def _first_two_swapped(xs: list[Value]) -> list[Value]:
    return [xs[1], xs[0], *xs[2:]] if len(xs) > 1 else [None]


def _ends_swapped(xs: list[Value]) -> list[Value]:
    return [xs[-1], *xs[1:-1], xs[0]] if len(xs) > 1 else xs


def _halves_swapped(xs: list[Value]) -> list[Value]:
    half = len(xs) // 2
    return xs[len(xs) - half :] + xs[half : len(xs) - half] + xs[:half]


def _reversed_if_sorted(xs: list[Value]) -> list[Value]:
    return xs[::-1] if xs == sorted(xs) else xs


def examples() -> tuple[Example, ...]:
    """The programs that move tokens, and the medians."""
    every_median = everywhere(median)
    return (
        numbered(2, make_reverse, specification=lambda xs: xs[::-1], vocab=ALPHABET[:10]),
        numbered(9, make_sort, tokens, specification=sorted, vocab=DIGITS),
        numbered(22, make_sort_by_length, specification=_by_length, vocab=WORDS),
        numbered(58, make_mirror_first_half, specification=_mirrored),
        numbered(59, make_sort, tokens, specification=sorted),
        numbered(74, make_interleave_reverse, specification=_interleaved),
        numbered(81, make_median, specification=every_median),
        numbered(93, make_swap_pairs_after_first, specification=_with_pairs_swapped(1)),
        numbered(100, make_swap_first_two, specification=_first_two_swapped),
        numbered(103, make_swap_pairs, specification=_with_pairs_swapped(0)),
        numbered(113, make_reverse_if_sorted, specification=_reversed_if_sorted),
        numbered(120, make_swap_halves, specification=_halves_swapped),
        numbered(126, make_median, specification=every_median, title="all_set_to_median"),
        numbered(128, make_swap_ends, specification=_ends_swapped),
    )


def _by_length(xs: list[Value]) -> list[Value]:
    return sorted(xs, key=len)
