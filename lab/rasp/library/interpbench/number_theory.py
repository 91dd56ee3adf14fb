"""Primes, squares, powers and Fibonacci numbers among the tokens; the answers are 0 and 1.

Two published programs differ from what their titles promise, and ours do as they do: 86 does not count 1 as a power of
two, and 105 leaves a prime as it is.
"""

import itertools
import math

from microtome.lab.rasp.library.example import Example
from microtome.lab.rasp.library.interpbench.arithmetic import fibonacci
from microtome.lab.rasp.library.interpbench.numbered import NUMBERS, UP_TO_29, token_by_token

PRIMES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31)
UP_TO_39 = tuple(range(40))


def is_prime(n: int) -> bool:
    """Whether n has exactly two divisors."""
    return sum(n % d == 0 for d in range(1, n + 1)) == 2


def prime_from(n: int) -> int:
    """The first prime that is at least n."""
    return next(p for p in itertools.count(n) if is_prime(p))


def count_prime_factors(n: int) -> int:
    """How many primes divide n; none for 0."""
    return sum(n % p == 0 for p in range(2, n + 1) if is_prime(p))


def is_square(n: int) -> bool:
    """Whether n is the square of an integer."""
    return math.isqrt(n) ** 2 == n


def is_fibonacci(n: int) -> bool:
    """Whether n is a Fibonacci number: one of 5n² ± 4 is a square exactly then (Gessel 1972)."""
    return is_square(5 * n * n + 4) or is_square(abs(5 * n * n - 4))


def is_power_of_two(n: int) -> bool:
    """Whether n is 2, 4, 8, …: a single bit, and not the lowest."""
    return n > 1 and n & (n - 1) == 0


ROWS = (
    (
        51,
        "is_fibonacci",
        "Whether a token is a Fibonacci number.",
        is_fibonacci,
        set(map(fibonacci, range(11))),
        UP_TO_39,
    ),
    (79, "is_prime", "Whether a token is prime.", is_prime, set(PRIMES), NUMBERS),
    (86, "is_power_of_two", "Whether a token is 2, 4, 8, ….", is_power_of_two, {2**k for k in range(1, 6)}, NUMBERS),
    (101, "is_square", "Whether a token is a square.", is_square, {k * k for k in range(7)}, UP_TO_29),
    (122, "divisible_by_three", "Whether 3 divides a token.", lambda x: x % 3 == 0, set(range(0, 40, 3)), UP_TO_29),
)
"""Number, title, summary, what is asked, the numbers of which it holds, vocabulary."""


def examples() -> tuple[Example, ...]:
    """The programs on kinds of numbers."""
    asked = (
        token_by_token(
            number,
            title,
            summary,
            lambda x, holds=holds: int(holds(x)),
            lambda x, those=those: int(x in those),
            vocab,
        )
        for number, title, summary, holds, those, vocab in ROWS
    )
    return (
        *asked,
        token_by_token(
            95,
            "prime_factors",
            "How many primes divide a token.",
            count_prime_factors,
            lambda x: len([p for p in PRIMES if x and not x % p]),
            UP_TO_29,
        ),
        token_by_token(
            105,
            "prime_from",
            "The first prime that is at least the token.",
            prime_from,
            lambda x: min(p for p in PRIMES if p >= x),
            UP_TO_29,
        ),
    )
