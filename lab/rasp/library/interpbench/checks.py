"""Whole inputs put to a test or a computation: sortedness, equality, divisibility, a polynomial.

Answers are 0 and 1, save in 17. 17 is titled palindrome detection; what is published compares each token with its
mirror image, and so does ours. 109 and 117 need two tokens, and 119 four, and answer None on shorter inputs; 119 reads
no more than four. 125: one token alone alternates. (Published, it compares None and fails in the interpreter.)
116 answers 0 where the first token is 0, and 127 leaves the tokens alone where one of the first two is.
"""

from fractions import Fraction
from itertools import pairwise

from microtome.lab.rasp.language import Full, Map, SequenceMap, SOp, indices, length, tokens
from microtome.lab.rasp.library.example import Example, everywhere
from microtome.lab.rasp.library.interpbench.numbered import ALPHABET, NUMBERS, UP_TO_29, numbered
from microtome.lab.rasp.library.interpbench.pieces import (
    OPPOSITE,
    clamped_at,
    first,
    greatest,
    last,
    least,
    previous,
    token_at,
)
from microtome.lab.rasp.library.parts import at
from microtome.lab.rasp.values import Value


def make_equals_mirror_image() -> SOp:
    """Whether each token equals the one as far from the other end."""
    return (tokens == at(OPPOSITE, tokens)).named("equals_mirror_image")


def make_never_decreasing() -> SOp:
    """1 if no token is less than the one before it, else 0."""
    return least(Map(int, previous() <= tokens)).named("never_decreasing")


def make_never_increasing() -> SOp:
    """1 if no token is greater than the one before it, else 0."""
    return least(Map(int, previous() >= tokens)).named("never_increasing")


def make_last_two_equal() -> SOp:
    """1 if the last two tokens are equal, else 0; None for one token alone."""
    return Map(int, last() == at(length - 2, tokens)).named("last_two_equal")


def make_multiple_of_first() -> SOp:
    """1 for multiples of the first token, else 0; 0 where the first token is 0."""
    return SequenceMap(lambda x, divisor: int(divisor != 0 and x % divisor == 0), tokens, first()).named(
        "multiple_of_first"
    )


def make_sum_of_last_two() -> SOp:
    """The sum of the last two tokens, everywhere; None for one token alone."""
    return (last() + at(length - 2, tokens)).named("sum_of_last_two")


def make_polynomial() -> SOp:
    """ax² + bx + c, where the input begins with x, a, b, c; None if it is shorter."""
    return SequenceMap(lambda x, a, b, c: (a * x + b) * x + c, *map(token_at, range(4))).named("polynomial")


def make_all_equal() -> SOp:
    """1 if all tokens are equal, else 0."""
    return Map(int, least(tokens) == greatest(tokens)).named("all_equal")


def make_alternating_parity() -> SOp:
    """1 if even and odd tokens take turns, else 0."""
    shifted = ((tokens + indices) % 2).named("parity_with_position")
    return Map(int, least(shifted) == greatest(shifted)).named("alternating_parity")


def make_over_first_ratio() -> SOp:
    """Each token divided by the second over the first; the token itself where one of those is 0."""
    return SequenceMap(lambda x, a, b: x * a / b if a * b else x, tokens, first(), clamped_at(Full(1))).named(
        "over_first_ratio"
    )


def make_all_even() -> SOp:
    """1 if every token is even, else 0."""
    return least(Map(lambda x: int(x % 2 == 0), tokens)).named("all_even")


def _multiples_of_first(xs: list[Value]) -> list[Value]:
    multiples = set(range(0, 100, xs[0])) if xs[0] else set()
    return [int(x in multiples) for x in xs]


def _polynomial(xs: list[Value]) -> Value:
    if len(xs) < 4:
        return None
    x, *factors = xs[:4]
    return sum(factor * x**power for factor, power in zip(factors, (2, 1, 0), strict=True))


def _over_first_ratio(xs: list[Value]) -> list[Value]:
    if len(xs) < 2 or 0 in xs[:2]:
        return xs
    ratio = Fraction(xs[1], xs[0])
    return [float(x / ratio) for x in xs]


def examples() -> tuple[Example, ...]:
    """The programs on whole inputs."""
    return (
        numbered(
            17,
            make_equals_mirror_image,
            specification=lambda xs: [x == y for x, y in zip(xs, xs[::-1], strict=True)],
            vocab=ALPHABET[:10],
        ),
        numbered(89, make_never_decreasing, specification=everywhere(lambda xs: int(xs == sorted(xs)))),
        numbered(94, make_never_increasing, specification=everywhere(lambda xs: int(xs[::-1] == sorted(xs)))),
        numbered(
            109,
            make_last_two_equal,
            specification=everywhere(lambda xs: int(len({*xs[-2:]}) == 1) if len(xs) > 1 else None),
        ),
        numbered(116, make_multiple_of_first, specification=_multiples_of_first),
        numbered(
            117,
            make_sum_of_last_two,
            specification=everywhere(lambda xs: sum(xs[-2:]) if len(xs) > 1 else None),
        ),
        numbered(119, make_polynomial, specification=everywhere(_polynomial), vocab=NUMBERS[:6]),
        numbered(124, make_all_equal, specification=everywhere(lambda xs: int(xs.count(xs[0]) == len(xs)))),
        numbered(
            125,
            make_alternating_parity,
            specification=everywhere(lambda xs: int(all((x + y) % 2 for x, y in pairwise(xs)))),
        ),
        numbered(127, make_over_first_ratio, specification=_over_first_ratio),
        numbered(
            129, make_all_even, specification=everywhere(lambda xs: int(not any(x & 1 for x in xs))), vocab=UP_TO_29
        ),
    )
