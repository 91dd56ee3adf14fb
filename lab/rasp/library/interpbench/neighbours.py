"""Each token against those beside it.

Where a neighbour is missing the answer is None, save where a program counts a token as its own neighbour at the
border (92, and at the other end 99, 112, 115). 118 and 131 are titled as if the first token had an answer; the
published programs say None there, and so do ours.
"""

import math
from collections.abc import Callable
from itertools import pairwise

from microtome.lab.rasp.language import Map, SequenceMap, SOp, tokens
from microtome.lab.rasp.library.example import Example, Specification
from microtome.lab.rasp.library.interpbench.numbered import ABC, ALPHABET, DIGITS, WORDS, numbered
from microtome.lab.rasp.library.interpbench.pieces import following, previous
from microtome.lab.rasp.library.parts import shift_by
from microtome.lab.rasp.values import Value


def make_equals_two_before() -> SOp:
    """Whether each token is that two before it."""
    return (tokens == shift_by(2, tokens)).named("equals_two_before")


def make_turning_points() -> SOp:
    """Whether the sequence rises on exactly one side of each position; None at both ends."""
    rises_after = SequenceMap(lambda x, following: following > x, tokens, shift_by(-1, tokens)).named("rises_after")
    return (shift_by(1, rises_after) != rises_after).named("turning_points")


def make_ends_abc() -> SOp:
    """Whether "abc" ends at each position; None at the first two."""
    return SequenceMap(
        lambda x, y, z: (x, y, z) == ("a", "b", "c"), shift_by(2, tokens), shift_by(1, tokens), tokens
    ).named("ends_abc")


def make_trend() -> SOp:
    """Whether the sequence is increasing, decreasing or constant towards the next token; None at the last."""
    step = (shift_by(-1, tokens) - tokens).named("step")
    return Map(lambda d: "increasing" if d > 0 else "decreasing" if d < 0 else "constant", step).named("trend")


def make_drop_repeats() -> SOp:
    """The token where it differs from the previous one, else None; None at the first."""
    return SequenceMap(lambda x, y: x if x != y else None, tokens, shift_by(1, tokens)).named("drop_repeats")


def make_boundary() -> SOp:
    """Whether each token differs from the previous one; None at the first."""
    return (tokens != shift_by(1, tokens)).named("boundary")


def make_unlike_both_neighbours() -> SOp:
    """Whether each token differs from both beside it; None at both ends."""
    changes_after = (tokens != shift_by(-1, tokens)).named("changes_after")
    return (shift_by(1, changes_after) & changes_after).named("unlike_both_neighbours")


def make_zero_after_larger() -> SOp:
    """Each token, 0 where it is less than the previous one."""
    return SequenceMap(lambda x, y: 0 if x < y else x, tokens, previous()).named("zero_after_larger")


def make_sum_with_next() -> SOp:
    """Each token plus the next one; the last counts twice."""
    return (tokens + following()).named("sum_with_next")


def make_difference_to_next() -> SOp:
    """The next token less each one; 0 at the last."""
    return (following() - tokens).named("difference_to_next")


def make_product_with_next() -> SOp:
    """Each token times the next one; the last is squared."""
    return (tokens * following()).named("product_with_next")


def make_sum_with_previous() -> SOp:
    """Each token plus the previous one; None at the first."""
    return (tokens + shift_by(1, tokens)).named("sum_with_previous")


def make_larger_of_two() -> SOp:
    """The larger of each token and the previous one; None at the first."""
    return SequenceMap(max, tokens, shift_by(1, tokens)).named("larger_of_two")


def _of_previous(f: Callable[[Value, Value], Value]) -> Specification:
    return lambda xs: [None, *(f(x, y) for x, y in pairwise(xs))]


def _of_next(f: Callable[[Value, Value], Value]) -> Specification:
    return lambda xs: [f(x, y) for x, y in zip(xs, [*xs[1:], xs[-1]], strict=True)]


def _inner(answer: Callable[[Value, Value, Value], Value]) -> Specification:
    def specification(xs: list[Value]) -> list[Value]:
        return [answer(*xs[i - 1 : i + 2]) if 0 < i < len(xs) - 1 else None for i in range(len(xs))]

    return specification


def _trend(xs: list[Value]) -> list[Value]:
    names = {(False, False): "constant", (True, False): "increasing", (False, True): "decreasing"}
    return [*(names[x < y, x > y] for x, y in pairwise(xs)), None]


def _ends_abc(xs: list[Value]) -> list[Value]:
    return [None if i < 2 else "".join(xs[: i + 1]).endswith("abc") for i in range(len(xs))]


def _zero_after_larger(xs: list[Value]) -> list[Value]:
    return [0 if i and xs[i - 1] > x else x for i, x in enumerate(xs)]


def examples() -> tuple[Example, ...]:
    """The programs on neighbours."""
    return (
        numbered(
            1,
            make_equals_two_before,
            specification=lambda xs: [xs[i] == xs[i - 2] if i >= 2 else None for i in range(len(xs))],
            vocab=ALPHABET[:5],
            causal=True,
        ),
        numbered(6, make_turning_points, specification=_inner(lambda x, y, z: (x < y) != (y < z)), vocab=DIGITS),
        numbered(12, make_ends_abc, specification=_ends_abc, vocab=ABC, causal=True),
        numbered(13, make_trend, specification=_trend, vocab=DIGITS[:3]),
        numbered(
            19,
            make_drop_repeats,
            specification=_of_previous(lambda x, y: None if x == y else y),
            vocab=ABC,
            causal=True,
        ),
        numbered(32, make_boundary, specification=_of_previous(lambda x, y: x != y), vocab=WORDS, causal=True),
        numbered(38, make_unlike_both_neighbours, specification=_inner(lambda x, y, z: y not in (x, z)), vocab=ABC),
        numbered(92, make_zero_after_larger, specification=_zero_after_larger, causal=True),
        numbered(99, make_sum_with_next, specification=_of_next(lambda x, y: sum((x, y)))),
        numbered(112, make_difference_to_next, specification=_of_next(lambda x, y: -x + y)),
        numbered(115, make_product_with_next, specification=_of_next(lambda x, y: math.prod((x, y)))),
        numbered(118, make_sum_with_previous, specification=_of_previous(lambda x, y: sum((x, y)))),
        numbered(131, make_larger_of_two, specification=_of_previous(lambda x, y: sorted((x, y))[1]), causal=True),
    )
