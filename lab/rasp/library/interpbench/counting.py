"""How often tokens occur, and how many are larger, smaller or the same.

96 is titled "remove duplicates, keep the first"; what is published keeps only tokens that occur once, and so does ours.
"""

from collections import Counter

from microtome.lab.rasp.language import Comparison, Full, Map, Select, SelectorWidth, SequenceMap, SOp, length, tokens
from microtome.lab.rasp.library.example import Example, everywhere
from microtome.lab.rasp.library.interpbench.numbered import ABC, ALPHABET, NUMBERS, numbered
from microtome.lab.rasp.library.interpbench.pieces import HIST, greatest
from microtome.lab.rasp.library.parts import EARLIER, SAME_TOKEN, where
from microtome.lab.rasp.values import Value


def make_hist() -> SOp:
    """How often each token occurs in the input."""
    return HIST


def make_count(token: Value) -> SOp:
    """How often one token occurs in the input, at every position."""
    return SelectorWidth(Select(tokens, tokens, lambda key, query: key == token)).named(f"count_{token}")


def make_commonness() -> SOp:
    """Tokens of more than half the input are frequent, of more than a quarter common, all others rare."""
    over_half = SequenceMap(lambda n, total: 2 * n > total, HIST, length).named("over_half")
    over_quarter = SequenceMap(lambda n, total: 4 * n > total, HIST, length).named("over_quarter")
    return SequenceMap(
        lambda half, quarter: "frequent" if half else "common" if quarter else "rare", over_half, over_quarter
    ).named("commonness")


def make_first_occurrences() -> SOp:
    """The token where it has not occurred before, else None."""
    seen = SelectorWidth(SAME_TOKEN & EARLIER).named("seen")
    return SequenceMap(lambda x, n: x if n == 0 else None, tokens, seen).named("first_occurrences")


def make_relative_frequency() -> SOp:
    """The fraction of the input that equals each token."""
    return (HIST / length).named("relative_frequency")


def make_count_greater() -> SOp:
    """How many tokens are greater than each one."""
    return SelectorWidth(Select(tokens, tokens, Comparison.GT)).named("count_greater")


def make_count_less() -> SOp:
    """How many tokens are less than each one."""
    return SelectorWidth(Select(tokens, tokens, Comparison.LT)).named("count_less")


def make_rank() -> SOp:
    """One more than the number of smaller tokens."""
    return (make_count_less() + 1).named("rank")


def make_zero_repeated() -> SOp:
    """The token where it occurs once in the input, else 0."""
    return where(HIST == 1, tokens, Full(0)).named("zero_repeated")


def make_any_two_equal() -> SOp:
    """1 if some token occurs twice, else 0."""
    return greatest(Map(lambda n: int(n >= 2), HIST)).named("any_two_equal")


def _counts(xs: list[Value]) -> list[Value]:
    return [xs.count(x) for x in xs]


def _commonness(xs: list[Value]) -> list[Value]:
    shares = [xs.count(x) / len(xs) for x in xs]
    return [("rare", "common", "frequent")[(share > 0.25) + (share > 0.5)] for share in shares]


def _greater(xs: list[Value]) -> list[Value]:
    return [len([y for y in xs if y > x]) for x in xs]


def _less(xs: list[Value]) -> list[Value]:
    return [sorted(xs).index(x) for x in xs]


def examples() -> tuple[Example, ...]:
    """The programs that count."""
    letters = ALPHABET[:10]
    return (
        numbered(7, make_hist, specification=_counts, vocab=ABC),
        numbered(14, make_count, "a", specification=everywhere(lambda xs: Counter(xs)["a"]), vocab=ABC),
        numbered(18, make_commonness, specification=_commonness, vocab=ALPHABET[:5]),
        numbered(
            21,
            make_first_occurrences,
            specification=lambda xs: [None if x in xs[:i] else x for i, x in enumerate(xs)],
            vocab=ABC,
            causal=True,
        ),
        numbered(
            25,
            make_relative_frequency,
            specification=lambda xs: [sum(y == x for y in xs) / len(xs) for x in xs],
            vocab=ABC,
        ),
        numbered(44, make_count_greater, specification=_greater),
        numbered(47, make_hist, specification=_counts, vocab=letters),
        numbered(61, make_rank, specification=lambda xs: [1 + n for n in _less(xs)]),
        numbered(63, make_count_less, specification=_less),
        numbered(78, make_hist, specification=_counts, vocab=letters),
        numbered(
            96,
            make_zero_repeated,
            specification=lambda xs: [x if Counter(xs)[x] == 1 else 0 for x in xs],
            vocab=NUMBERS[1:],
        ),
        numbered(108, make_any_two_equal, specification=everywhere(lambda xs: int(len(set(xs)) < len(xs)))),
    )
