"""What depends on where a token stands: taking, zeroing and changing tokens by position.

57 asks for the second token: an input of one token has none, and the answer is None.
"""

from collections.abc import Callable
from fractions import Fraction

from microtome.lab.rasp.language import Aggregate, Comparison, Map, Select, SequenceMap, SOp, indices, length, tokens
from microtome.lab.rasp.library.example import Example, Specification, everywhere
from microtome.lab.rasp.library.interpbench.numbered import ABC, ALPHABET, DIGITS, numbered
from microtome.lab.rasp.library.interpbench.pieces import OPPOSITE, first, token_at
from microtome.lab.rasp.library.parts import at, where
from microtome.lab.rasp.values import Value


def make_leading_token() -> SOp:
    """Each token as it is, by way of attention to its own position."""
    return Aggregate(Select(indices, indices, Comparison.EQ), tokens).named("leading_token")


def make_first_token() -> SOp:
    """The first token, everywhere."""
    return first()


def make_second_token() -> SOp:
    """The second token, everywhere; None where there is none."""
    return token_at(1)


def make_keep_second() -> SOp:
    """The second token in its place, 0 everywhere else."""
    second = Select(indices, indices, lambda key, query: key == query == 1)
    return Aggregate(second, tokens, default=0).named("keep_second")


def make_zero_every_third() -> SOp:
    """Each token, 0 at every third position."""
    kept = Select(indices, indices, lambda key, query: key == query and query % 3 != 2)
    return Aggregate(kept, tokens, default=0).named("zero_every_third")


def make_zero_even_positions() -> SOp:
    """Each token, 0 at positions 0, 2, 4, …."""
    kept = Select(indices, indices, lambda key, query: key == query and query % 2 == 1)
    return Aggregate(kept, tokens, default=0).named("zero_even_positions")


def make_spread_with_zeros() -> SOp:
    """The first half of the tokens with a zero after each."""
    halved = Map(lambda i: i // 2 if i % 2 == 0 else None, indices).named("halved")
    return at(halved, tokens, default=0).named("spread_with_zeros")


def make_last_token_in_front() -> SOp:
    """The last token at the first position, 0 everywhere else."""
    front = Select(indices, indices, lambda key, query: query == 0).named("front")
    return Aggregate(front, tokens, default=0, reduction="last").named("last_token_in_front")


def make_add_position() -> SOp:
    """Each token plus its position."""
    return (tokens + indices).named("add_position")


def make_double_less_position() -> SOp:
    """Twice each token, less its position."""
    return SequenceMap(lambda x, y, i: x + y - i, tokens, tokens, indices).named("double_less_position")


def make_increment_odd_positions() -> SOp:
    """Each token, one more at positions 1, 3, 5, …."""
    return (tokens + indices % 2).named("increment_odd_positions")


def make_cascade() -> SOp:
    """Each letter as often as its position says, counted from one."""
    return SequenceMap(lambda letter, i: letter * (i + 1), tokens, indices).named("cascade")


def make_double_first_half() -> SOp:
    """Each token, doubled in the first half and in the middle."""
    in_first_half = (indices <= OPPOSITE).named("in_first_half")
    return where(in_first_half, tokens * 2, tokens).named("double_first_half")


def make_halve_second_half() -> SOp:
    """Each token, halved in the second half and in the middle."""
    in_second_half = (indices >= OPPOSITE).named("in_second_half")
    return where(in_second_half, tokens / 2, tokens).named("halve_second_half")


def make_times_length() -> SOp:
    """Each token times the length of the input."""
    return (tokens * length).named("times_length")


def make_over_length() -> SOp:
    """Each token divided by the length of the input."""
    return (tokens / length).named("over_length")


def _when(condition: Callable[[int, int], bool], change: Callable[[Value], Value]) -> Specification:
    """Tokens changed where the condition holds on the position, counted from one, and the length."""
    return lambda xs: [change(x) if condition(i, len(xs)) else x for i, x in enumerate(xs, start=1)]


def _zero(x: Value) -> int:
    return 0


def _spread(xs: list[Value]) -> list[Value]:
    return [y for x in xs for y in (x, 0)][: len(xs)]


def _double_less_position(xs: list[Value]) -> list[Value]:
    return [2 * x - i for i, x in enumerate(xs)]


def _second(xs: list[Value]) -> Value:
    return xs[1] if len(xs) > 1 else None


def examples() -> tuple[Example, ...]:
    """The programs on positions."""
    letters = ALPHABET[:10]
    return (
        numbered(15, make_double_less_position, specification=_double_less_position, vocab=DIGITS[:5], causal=True),
        numbered(24, make_leading_token, specification=list, vocab=ABC, causal=True),
        numbered(
            26, make_cascade, specification=lambda xs: [i * x for i, x in enumerate(xs, 1)], vocab=ABC, causal=True
        ),
        numbered(42, make_first_token, specification=everywhere(lambda xs: xs[0]), vocab=letters, causal=True),
        numbered(45, make_double_first_half, specification=_when(lambda i, n: i <= -(-n // 2), lambda x: x + x)),
        numbered(48, make_add_position, specification=lambda xs: list(map(sum, enumerate(xs))), causal=True),
        numbered(
            53, make_increment_odd_positions, specification=_when(lambda i, n: i % 2 == 0, lambda x: x + 1), causal=True
        ),
        numbered(56, make_zero_every_third, specification=_when(lambda i, n: i % 3 == 0, _zero), causal=True),
        numbered(57, make_second_token, specification=everywhere(_second), vocab=letters),
        numbered(67, make_times_length, specification=lambda xs: [sum([x] * len(xs)) for x in xs]),
        numbered(71, make_over_length, specification=lambda xs: [float(Fraction(x, len(xs))) for x in xs]),
        numbered(76, make_zero_even_positions, specification=_when(lambda i, n: i % 2 == 1, _zero), causal=True),
        numbered(82, make_halve_second_half, specification=_when(lambda i, n: i > n // 2, lambda x: x * 0.5)),
        numbered(106, make_keep_second, specification=_when(lambda i, n: i != 2, _zero), causal=True),
        numbered(110, make_spread_with_zeros, specification=_spread),
        numbered(111, make_last_token_in_front, specification=lambda xs: [xs[-1], *[0] * (len(xs) - 1)]),
    )
