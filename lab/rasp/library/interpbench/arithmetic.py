"""Whole-number arithmetic on each token.

66 rounds halves upwards, as published. The published 69 meets no negative token; ours does.
"""

import itertools
import math
from collections.abc import Callable
from decimal import ROUND_HALF_UP, Decimal

from microtome.lab.rasp.language import tokens
from microtome.lab.rasp.library.example import Example
from microtome.lab.rasp.library.interpbench.numbered import (
    NUMBERS,
    SIGNED,
    UP_TO_29,
    at_each,
    name_of,
    token_by_token,
)

QUARTERS = tuple(n / 4 for n in range(20))
THRESHOLD = 3

LINEAR = (
    (46, "decrement", "Each token less one.", tokens - 1, (1, -1), NUMBERS),
    (60, "increment", "Each token plus one.", tokens + 1, (1, 1), NUMBERS),
    (72, "negate", "Each token with the other sign.", 0 - tokens, (-1, 0), SIGNED),
    (75, "double", "Twice each token.", tokens * 2, (2, 0), NUMBERS),
    (80, "subtract_two", "Each token less two.", tokens - 2, (1, -2), NUMBERS),
    (83, "triple", "Three times each token.", tokens * 3, (3, 0), NUMBERS),
)
"""Number, title, summary, program, its factor and constant, vocabulary."""


def fibonacci(n: int) -> int:
    """The n-th Fibonacci number, the zeroth being 0."""
    here, following = 0, 1
    for _ in range(n):
        here, following = following, here + following
    return here


def binet(n: int) -> int:
    """The same in closed form, which floating point carries well past the vocabulary."""
    return round(((1 + math.sqrt(5)) / 2) ** n / math.sqrt(5))


def sum_of_written_digits(x: int) -> int:
    """The sum of the digits of x as it is written."""
    return sum(map(int, str(x)))


def rounded_half_up(x: float) -> int:
    """The nearest integer, by decimal arithmetic."""
    return int(Decimal(x).quantize(Decimal(1), ROUND_HALF_UP))


def walk_to_three(step: int) -> Callable[[int], int]:
    """From x in steps of `step` to the first multiple of three."""
    return lambda x: next(m for m in itertools.count(x, step) if m % 3 == 0)


UNARY = (
    (8, "identity", "Each token as it is.", lambda x: x, int, NUMBERS),
    (40, "digit_sum", "The sum of a token's digits.", lambda x: sum(divmod(x, 10)), sum_of_written_digits, UP_TO_29),
    (41, "absolute", "The absolute value of each token.", abs, lambda x: max(x, -x), SIGNED),
    (43, "fibonacci", "The Fibonacci number that a token numbers.", fibonacci, binet, UP_TO_29[:20]),
    (49, "three_before", "The last multiple of 3 up to a token.", lambda x: x - x % 3, walk_to_three(-1), NUMBERS),
    (62, "factorial", "The factorial of a token.", math.factorial, lambda x: math.prod(range(1, x + 1)), NUMBERS),
    (64, "cube", "The cube of each token.", lambda x: x**3, lambda x: x * x * x, NUMBERS),
    (66, "round", "The integer nearest to a token.", lambda x: math.floor(x + 0.5), rounded_half_up, QUARTERS),
    (68, "three_after", "The first multiple of 3 from a token on.", lambda x: x + -x % 3, walk_to_three(1), NUMBERS),
    (69, "sign", "The sign of each token.", lambda x: (x > 0) - (x < 0), lambda x: x and x // abs(x), SIGNED),
    (85, "square", "The square of each token.", lambda x: x**2, lambda x: x * x, NUMBERS),
    (87, "binarize", "1 from 3 on, else 0.", lambda x: int(x >= THRESHOLD), lambda x: int(x not in (0, 1, 2)), NUMBERS),
    (91, "threshold", "Each token, 0 below 3.", lambda x: x * (x >= THRESHOLD), lambda x: x if x > 2 else 0, NUMBERS),
)
"""Number, title, summary, function, the specification's function, vocabulary."""


def examples() -> tuple[Example, ...]:
    """Arithmetic on each token."""
    linear = (
        Example(
            name_of(number, title),
            program.named(title),
            at_each(lambda x, line=line: line[0] * x + line[1]),
            vocab,
            True,
            "interpbench",
            summary,
        )
        for number, title, summary, program, line, vocab in LINEAR
    )
    return (*linear, *(token_by_token(*row) for row in UNARY))
