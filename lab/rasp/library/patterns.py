"""String matching: patterns, prefixes and suffixes, palindromes, periods, replacements."""

from collections.abc import Sequence
from functools import reduce
from itertools import groupby
from operator import and_

from microtome.lab.rasp.language import (
    Aggregate,
    Map,
    Select,
    SequenceMap,
    SOp,
    indices,
    tokens,
)
from microtome.lab.rasp.library.example import LETTERS, Example, at_each_prefix, everywhere, example
from microtome.lab.rasp.library.parts import (
    ALWAYS,
    EVERYWHERE,
    any_of,
    at,
    count_of,
    has,
    holding,
    keep_only,
    make_length,
    make_reverse,
    shift_by,
)
from microtome.lab.rasp.values import Value


def make_double_letters() -> SOp:
    """Whether a token repeats the one before it; None at the first."""
    return (tokens == shift_by(1, tokens)).named("double_letters")


def detect_pattern(sop: SOp, pattern: Sequence[Value]) -> SOp:
    """Whether the pattern ends at each position; None at the first len(pattern) − 1."""
    if not pattern:
        raise ValueError("a pattern must hold at least one value.")
    *before, last = pattern
    found = sop == last
    for distance, value in enumerate(reversed(before), start=1):
        found = shift_by(distance, sop == value) & found
    return found.named("detect_pattern")


def make_detect_wildcard(first: Value, last: Value) -> SOp:
    """Whether a pattern of three ends at each position, whose middle may be anything; None at the first two."""
    return (shift_by(2, tokens == first) & (tokens == last)).named("detect_wildcard")


def make_contains(pattern: Sequence[Value]) -> SOp:
    """Whether the pattern occurs in the input."""
    return any_of(detect_pattern(tokens, pattern)).named("contains")


def make_count_pattern(pattern: Sequence[Value]) -> SOp:
    """How often the pattern occurs in the input, overlaps included."""
    return count_of(detect_pattern(tokens, pattern)).named("count_pattern")


def make_find(pattern: Sequence[Value]) -> SOp:
    """Where the pattern first begins, None if it does not occur."""
    ends = Aggregate(holding(detect_pattern(tokens, pattern)), indices, reduction="first")
    return (ends - (len(pattern) - 1)).named("find")


def make_starts_with(pattern: Sequence[Value]) -> SOp:
    """Whether the input begins with the pattern."""
    return reduce(and_, [any_of((tokens == x) & (indices == i)) for i, x in enumerate(pattern)]).named("starts_with")


def make_ends_with(pattern: Sequence[Value]) -> SOp:
    """Whether the input ends with the pattern."""
    is_last = (make_length() - 1 - indices == 0).named("is_last")
    return any_of(is_last & detect_pattern(tokens, pattern)).named("ends_with")


def make_mask_pattern(pattern: Sequence[Value]) -> SOp:
    """Whether each position is part of an occurrence of the pattern."""
    length = len(pattern)
    found = Select(detect_pattern(tokens, pattern), ALWAYS, lambda key, query: key)
    near = Select(indices, indices, lambda key, query: query <= key < query + length)
    return has(found & near).named("mask_pattern")


def make_palindrome() -> SOp:
    """Whether the input reads the same from both ends, at every position."""
    mirrored = Aggregate(EVERYWHERE, tokens == make_reverse(tokens)).named("mirrored")
    return (mirrored == 1).named("palindrome")


def make_mirror_errors() -> SOp:
    """How many positions differ from their mirror image."""
    return count_of(tokens != make_reverse(tokens)).named("mirror_errors")


def make_has_period(period: int) -> SOp:
    """Whether each token equals the one a period before it."""
    return (~any_of(tokens != shift_by(period, tokens))).named("has_period")


def make_alternating() -> SOp:
    """Whether no token repeats the one before it."""
    return (~any_of(make_double_letters())).named("alternating")


def make_square() -> SOp:
    """Whether the input is a word twice over: the copy language."""
    half_on = SequenceMap(lambda i, n: (i + n // 2) % n, indices, make_length()).named("half_on")
    broken = any_of(tokens != at(half_on, tokens))
    even = Map(lambda n: n % 2 == 0, make_length())
    return (even & ~broken).named("square")


def make_replace(old: Value, new: Value) -> SOp:
    """The input with one token in place of another."""
    return Map(lambda x: new if x == old else x, tokens).named("replace")


def make_remove(value: Value) -> SOp:
    """The input without a token, what remains moved together to the front, None behind it."""
    return keep_only(tokens, tokens != value).named("remove")


def make_squeeze() -> SOp:
    """Each run of equal tokens reduced to one, moved together to the front, None behind them."""
    starts = (tokens != shift_by(1, tokens, default="-")).named("starts")
    return keep_only(tokens, starts).named("squeeze")


def examples() -> tuple[Example, ...]:
    """The programs above."""

    def on(vocab, make, specification, *arguments, **more):
        return example(make, *arguments, specification=specification, vocab=tuple(vocab), **more)

    def detected(word):
        return at_each_prefix(lambda xs: None if len(xs) < len(word) else "".join(xs).endswith(word))

    def asked(question):
        return everywhere(lambda xs: question("".join(xs)))

    return (
        on(LETTERS, make_double_letters, at_each_prefix(lambda xs: xs[-2] == xs[-1] if xs[1:] else None)),
        on(LETTERS, detect_pattern, detected("a"), tokens, "a", name="detect_pattern_a", causal=True, origin="tracr"),
        on("ab", detect_pattern, detected("ab"), tokens, "ab", name="detect_pattern_ab", causal=True, origin="tracr"),
        on(LETTERS, detect_pattern, detected("abc"), tokens, "abc", origin="tracr"),
        on(LETTERS, make_detect_wildcard, _wildcard, "a", "b"),
        on("ab", make_contains, asked(lambda text: "aba" in text), "aba"),
        on("ab", make_count_pattern, asked(_count_aba), "aba"),
        on(LETTERS, make_find, asked(lambda text: text.index("ab") if "ab" in text else None), "ab"),
        on(LETTERS, make_starts_with, asked(lambda text: text.startswith("ab")), "ab"),
        on(LETTERS, make_ends_with, asked(lambda text: text.endswith("ab")), "ab"),
        on("ab", make_mask_pattern, lambda xs: _mask("".join(xs), "aba"), "aba"),
        on(LETTERS, make_palindrome, everywhere(lambda xs: xs == xs[::-1])),
        on(LETTERS, make_mirror_errors, everywhere(_mirror_errors)),
        on("ab", make_has_period, everywhere(lambda xs: xs[3:] == xs[:-3]), 3),
        on(LETTERS, make_alternating, everywhere(lambda xs: all(x + x not in "".join(xs) for x in xs))),
        on("ab", make_square, everywhere(lambda xs: xs[: len(xs) // 2] * 2 == xs)),
        on(LETTERS, make_replace, lambda xs: list("".join(xs).replace("a", "b")), "a", "b"),
        on(LETTERS, make_remove, lambda xs: _padded([x for x in xs if x != "b"], len(xs)), "b"),
        on(LETTERS, make_squeeze, lambda xs: _padded([x for x, _ in groupby(xs)], len(xs))),
    )


def _padded(xs: list[Value], length: int) -> list[Value]:
    return xs + [None] * (length - len(xs))


def _wildcard(xs: list[Value]) -> list[Value]:
    return [None, None, *(a == "a" and c == "b" for a, c in zip(xs, xs[2:], strict=False))][: len(xs)]


def _count_aba(text: str) -> int:
    return sum(text.startswith("aba", i) for i in range(len(text)))


def _mask(text: str, word: str) -> list[Value]:
    inside: set[int] = set()
    for start in range(len(text)):
        if text.startswith(word, start):
            inside |= set(range(start, start + len(word)))
    return [i in inside for i in range(len(text))]


def _mirror_errors(xs: list[Value]) -> int:
    return 2 * sum(xs[i] != xs[-1 - i] for i in range(len(xs) // 2))
