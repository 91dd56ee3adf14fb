"""Moving tokens about: shifts, rotations, reversals, interleavings, and where in the input a position is."""

from itertools import chain, zip_longest

from microtome.lab.rasp.language import Map, SequenceMap, SOp, indices, tokens
from microtome.lab.rasp.library.example import LETTERS, Example, everywhere, example
from microtome.lab.rasp.library.parts import ALWAYS, at, make_length, make_reverse, shift_by
from microtome.lab.rasp.values import Value


def make_prefix_length() -> SOp:
    """How many tokens there are up to each position."""
    return (indices + 1).named("prefix_length")


def make_distance_to_end() -> SOp:
    """How many tokens come after each position."""
    return (make_length() - 1 - indices).named("distance_to_end")


def make_first_half() -> SOp:
    """Whether a position is in the first half of the input, its middle included."""
    return SequenceMap(lambda i, n: 2 * i < n, indices, make_length()).named("first_half")


def make_first_token() -> SOp:
    """The first token, at every position."""
    return at(Map(lambda always: 0, ALWAYS), tokens).named("first_token")


def make_last_token() -> SOp:
    """The last token, at every position."""
    return at(make_length() - 1, tokens).named("last_token")


def make_middle_token() -> SOp:
    """The token in the middle, at every position; the one before the middle where the length is even."""
    return at(Map(lambda n: (n - 1) // 2, make_length()), tokens).named("middle_token")


def make_next_token() -> SOp:
    """The token after each position; None at the last."""
    return at(indices + 1, tokens).named("next_token")


def make_rotate(offset: int) -> SOp:
    """The sequence rotated to the right, what leaves at the end coming in at the beginning."""
    source = SequenceMap(lambda i, n: (i - offset) % n, indices, make_length()).named("source")
    return at(source, tokens).named(f"rotate({offset})")


def make_swap_neighbours() -> SOp:
    """The first token changes places with the second, the third with the fourth; an odd one out stays."""
    source = SequenceMap(lambda i, n: i ^ 1 if i ^ 1 < n else i, indices, make_length()).named("source")
    return at(source, tokens).named("swap_neighbours")


def make_repeat_each() -> SOp:
    """Each token twice, cut off at the length of the input."""
    return at(Map(lambda i: i // 2, indices), tokens).named("repeat_each")


def make_every_other() -> SOp:
    """The first, third, fifth token and so on, together at the front; None behind them."""
    return at(indices * 2, tokens).named("every_other")


def make_mirror() -> SOp:
    """The first half, then its mirror image: the palindrome that begins like the input."""
    source = SequenceMap(min, indices, make_distance_to_end()).named("source")
    return at(source, tokens).named("mirror")


def make_riffle() -> SOp:
    """The two halves interleaved, card by card, beginning with the first half, which has the odd card."""
    source = SequenceMap(lambda i, n: i // 2 + (i % 2) * ((n + 1) // 2), indices, make_length()).named("source")
    return at(source, tokens).named("riffle")


def make_unriffle() -> SOp:
    """The tokens at even positions, then those at odd positions."""

    def source(i: int, n: int) -> int:
        evens = (n + 1) // 2
        return 2 * i if i < evens else 2 * (i - evens) + 1

    return at(SequenceMap(source, indices, make_length()).named("source"), tokens).named("unriffle")


def make_swap_halves() -> SOp:
    """The second half, then the first; the middle token of an odd length goes with the second half."""
    source = SequenceMap(lambda i, n: (i + n // 2) % n, indices, make_length()).named("source")
    return at(source, tokens).named("swap_halves")


def examples() -> tuple[Example, ...]:
    """The programs above, on letters."""

    def on_letters(make, specification, *arguments, **more):
        return example(make, *arguments, specification=specification, vocab=LETTERS, **more)

    return (
        on_letters(make_length, everywhere(len), origin="tracr"),
        on_letters(make_reverse, lambda xs: xs[::-1], tokens, origin="tracr"),
        on_letters(shift_by, lambda xs: [None, *xs][:-1], 1, tokens, origin="tracr", name="shift_by_one", causal=True),
        on_letters(shift_by, lambda xs: [None, None, *xs][: len(xs)], 2, tokens, origin="tracr"),
        on_letters(make_prefix_length, lambda xs: list(range(1, len(xs) + 1)), causal=True),
        on_letters(make_distance_to_end, lambda xs: list(range(len(xs)))[::-1]),
        on_letters(make_first_half, lambda xs: [True] * ((len(xs) + 1) // 2) + [False] * (len(xs) // 2)),
        on_letters(make_first_token, everywhere(lambda xs: xs[0]), causal=True),
        on_letters(make_last_token, everywhere(lambda xs: xs[-1])),
        on_letters(make_middle_token, everywhere(lambda xs: xs[(len(xs) - 1) // 2])),
        on_letters(make_next_token, lambda xs: [*xs[1:], None]),
        on_letters(make_rotate, lambda xs: [xs[-1], *xs[:-1]], 1),
        on_letters(make_swap_neighbours, _swap_neighbours),
        on_letters(make_repeat_each, lambda xs: [x for x in xs for _ in "12"][: len(xs)], causal=True),
        on_letters(make_every_other, lambda xs: xs[::2] + [None] * (len(xs) // 2)),
        on_letters(make_mirror, lambda xs: xs[: (len(xs) + 1) // 2] + xs[: len(xs) // 2][::-1]),
        on_letters(make_riffle, _riffle),
        on_letters(make_unriffle, lambda xs: xs[::2] + xs[1::2]),
        on_letters(make_swap_halves, lambda xs: xs[len(xs) // 2 :] + xs[: len(xs) // 2]),
    )


def _swap_neighbours(xs: list[Value]) -> list[Value]:
    return [x for i in range(0, len(xs), 2) for x in reversed(xs[i : i + 2])]


def _riffle(xs: list[Value]) -> list[Value]:
    middle = (len(xs) + 1) // 2
    pairs = zip_longest(xs[:middle], xs[middle:])
    return list(chain.from_iterable(pairs))[: len(xs)]
