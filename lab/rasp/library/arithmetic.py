"""Arithmetic on digits: sums, carries, binary numbers, remainders. Carries are looked up, not passed on.

A column of an addition makes a carry whatever comes in (2), hands on what comes in (1), or swallows it (0); so the
carry into a column is decided by the nearest lower column that is not a 1.
"""

from collections.abc import Sequence

from microtome.lab.rasp.language import (
    Aggregate,
    Map,
    Select,
    SequenceMap,
    SOp,
    indices,
    tokens,
)
from microtome.lab.rasp.library.example import BITS, NUMBERS, Example, at_each_prefix, everywhere, example
from microtome.lab.rasp.library.parts import (
    EARLIER,
    EVERYWHERE,
    LATER,
    at,
    count_of,
    count_so_far,
    has,
    holding,
    make_length,
    shift_by,
)
from microtome.lab.rasp.values import Value


def make_prefix_sum(numbers: Sequence[int]) -> SOp:
    """The sum of the tokens up to each position."""
    total = None
    for number in filter(None, numbers):
        part = count_so_far(tokens == number) * number
        total = part if total is None else total + part
    return total.named("prefix_sum")


def make_sum_mod(modulus: int) -> SOp:
    """The sum of the tokens, modulo a number that is greater than any of them."""
    parts = [Map(lambda n, r=r: r * n % modulus, count_of(tokens == r)) for r in range(1, modulus)]
    return SequenceMap(lambda *terms: sum(terms) % modulus, *parts).named("sum_mod")


def make_alternating_sum() -> SOp:
    """The ones at even positions less those at odd positions, up to each position."""
    is_even = Map(lambda i: i % 2 == 0, indices)
    even = count_so_far(is_even & (tokens == 1)).named("even")
    odd = count_so_far(~is_even & (tokens == 1)).named("odd")
    return (even - odd).named("alternating_sum")


def make_drawdown() -> SOp:
    """How far a walk is below its highest point so far, the start included. For causal models."""
    height = make_prefix_sum((-1, 1))
    highest = Map(lambda h: max(h, 0), Aggregate(EVERYWHERE, height, reduction="max")).named("highest")
    return (highest - height).named("drawdown")


def make_increment_binary() -> SOp:
    """The binary number plus one, the highest bit first; an overflow is lost."""
    all_ones_below = ~has(holding(tokens == 0) & LATER)
    return SequenceMap(lambda bit, flips: bit ^ flips, tokens, _as_bit(all_ones_below)).named("increment_binary")


def make_decrement_binary() -> SOp:
    """The binary number less one, the highest bit first; zero becomes all ones."""
    all_zeros_below = ~has(holding(tokens == 1) & LATER)
    return SequenceMap(lambda bit, flips: bit ^ flips, tokens, _as_bit(all_zeros_below)).named("decrement_binary")


def make_negate_binary() -> SOp:
    """The two's complement, the highest bit first: every bit above the lowest one is flipped."""
    above_lowest_one = has(holding(tokens == 1) & LATER)
    return SequenceMap(lambda bit, flips: bit ^ flips, tokens, _as_bit(above_lowest_one)).named("negate_binary")


def make_carry() -> SOp:
    """The binary digits of a number given as a sum column by column (0, 1 or 2 in each), the lowest first."""
    return _resolved(tokens).named("carry")


def make_times_three() -> SOp:
    """Three times the binary number, the lowest bit first; what overflows is lost."""
    return _resolved(shift_by(1, tokens, default=0) + tokens).named("times_three")


def make_halve() -> SOp:
    """Half of the binary number, rounded down, the highest bit first."""
    return shift_by(1, tokens, default=0).named("halve")


def make_gray() -> SOp:
    """The Gray code of the binary number, the highest bit first."""
    return SequenceMap(lambda x, y: x ^ y, tokens, shift_by(1, tokens, default=0)).named("gray")


def make_from_gray() -> SOp:
    """The binary number of a Gray code, the highest bit first: each bit is the parity up to there."""
    return Map(lambda n: n % 2, count_so_far(tokens == 1)).named("from_gray")


def make_population_count() -> SOp:
    """The number of ones in binary, the lowest bit first."""
    return SequenceMap(lambda n, i: n >> i & 1, count_of(tokens == 1), indices).named("population_count")


def make_is_power_of_two() -> SOp:
    """Whether the binary number is a power of two."""
    return (count_of(tokens == 1) == 1).named("is_power_of_two")


def make_binary_mod_three() -> SOp:
    """The binary number up to each position, highest bit first, modulo three; a bit's weight is 1 or −1 in turn."""
    sign = Map(lambda i: 1 if i % 2 == 0 else -1, indices)
    return SequenceMap(lambda total, sign: total * sign % 3, make_alternating_sum(), sign).named("binary_mod_three")


def make_inner_product() -> SOp:
    """The inner product, modulo two, of the first half of the bits with the second, a middle bit left out."""
    second = at(SequenceMap(lambda i, n: i + (n + 1) // 2, indices, make_length()), tokens, default=0)
    products = (tokens == 1) & (second == 1)
    return Map(lambda n: n % 2, count_of(products)).named("inner_product")


def make_pairs_to_base_four() -> SOp:
    """Each two bits as one digit in base four, None behind them; a single last bit counts double."""
    high, low = at(indices * 2, tokens), at(indices * 2 + 1, tokens, default=0)
    return (high * 2 + low).named("pairs_to_base_four")


def make_base_four_to_pairs() -> SOp:
    """Each digit in base four as two bits, cut off at the length of the input."""
    digit = at(Map(lambda i: i // 2, indices), tokens)
    return SequenceMap(lambda d, i: d >> 1 - i % 2 & 1, digit, indices).named("base_four_to_pairs")


def make_length_is_prime() -> SOp:
    """Whether the length of the input is a prime number."""
    return Map(lambda n: n > 1 and all(n % d for d in range(2, n)), make_length()).named("length_is_prime")


def _as_bit(bools: SOp) -> SOp:
    return Map(int, bools)


def _resolved(columns: SOp) -> SOp:
    undecided = Select(columns, columns, lambda key, query: key != 1)
    carry = Aggregate(undecided & EARLIER, columns, default=0, reduction="last").named("decides_carry")
    return SequenceMap(lambda column, lower: (column + lower // 2) % 2, columns, carry)


def examples() -> tuple[Example, ...]:
    """The programs above."""

    def on(vocab, make, specification, *arguments, **more):
        return example(make, *arguments, specification=specification, vocab=vocab, **more)

    def on_binary(make, function):
        return on(BITS, make, lambda xs: _bits(function(_number(xs)), len(xs)))

    return (
        on((-1, 0, 2), make_prefix_sum, at_each_prefix(sum), (-1, 0, 2)),
        on((0, 1, 2), make_sum_mod, everywhere(lambda xs: sum(xs) % 3), 3),
        on(BITS, make_alternating_sum, at_each_prefix(lambda xs: sum(xs[::2]) - sum(xs[1::2]))),
        on((-1, 1), make_drawdown, at_each_prefix(_drawdown), causal=True),
        on_binary(make_increment_binary, lambda n: n + 1),
        on_binary(make_decrement_binary, lambda n: n - 1),
        on_binary(make_negate_binary, lambda n: -n),
        on((0, 1, 2), make_carry, lambda xs: _bits(_number(xs[::-1]), len(xs))[::-1], causal=True),
        on(BITS, make_times_three, lambda xs: _bits(3 * _number(xs[::-1]), len(xs))[::-1], causal=True),
        on_binary(make_halve, lambda n: n // 2),
        on_binary(make_gray, lambda n: n ^ n // 2),
        on(BITS, make_from_gray, _from_gray),
        on(BITS, make_population_count, lambda xs: _bits(sum(xs), len(xs))[::-1]),
        on(BITS, make_is_power_of_two, everywhere(lambda xs: f"{_number(xs):b}".rstrip("0") == "1")),
        on(BITS, make_binary_mod_three, at_each_prefix(lambda xs: _number(xs) % 3)),
        on(BITS, make_inner_product, everywhere(_inner_product)),
        on(BITS, make_pairs_to_base_four, _pairs_to_base_four),
        on(NUMBERS, make_base_four_to_pairs, _base_four_to_pairs, causal=True),
        on(("a", "b"), make_length_is_prime, everywhere(lambda xs: _divisors(len(xs)) == 2)),
    )


def _number(digits: list[Value]) -> int:
    return sum(digit << place for place, digit in enumerate(reversed(digits)))


def _bits(number: int, length: int) -> list[Value]:
    return [number >> place & 1 for place in reversed(range(length))]


def _drawdown(xs: list[Value]) -> int:
    return max(sum(xs[i:]) * -1 for i in range(len(xs) + 1))


def _from_gray(xs: list[Value]) -> list[Value]:
    number = code = _number(xs)
    while code := code >> 1:
        number ^= code
    return _bits(number, len(xs))


def _inner_product(xs: list[Value]) -> int:
    half = len(xs) // 2
    return sum(x * y for x, y in zip(xs[:half], xs[-half:], strict=True)) % 2 if half else 0


def _pairs_to_base_four(xs: list[Value]) -> list[Value]:
    pairs = [_number([*xs, 0][i : i + 2]) for i in range(0, len(xs), 2)]
    return pairs + [None] * (len(xs) - len(pairs))


def _base_four_to_pairs(xs: list[Value]) -> list[Value]:
    return [int(bit) for x in xs for bit in f"{x:02b}"][: len(xs)]


def _divisors(n: int) -> int:
    return sum(n % d == 0 for d in range(1, n + 1))
