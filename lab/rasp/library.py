"""Example programs, each beside a specification of what it computes in plain Python.

Those that tracr has bear tracr's names. `examples()` lists them with a vocabulary; the specifications take a list of
tokens and return a list of values, and are written without looking at how the program works.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from microtome.lab.rasp.language import (
    Aggregate,
    Comparison,
    Map,
    Select,
    SelectorWidth,
    SequenceMap,
    SOp,
    indices,
    tokens,
)
from microtome.lab.rasp.values import Value

EVERYWHERE = Select(tokens, tokens, Comparison.TRUE).named("everywhere")
SO_FAR = Select(indices, indices, Comparison.LEQ).named("so_far")
SAME_TOKEN = Select(tokens, tokens, Comparison.EQ).named("same_token")


@dataclass(frozen=True)
class Example:
    """A program, what it should compute, and the inputs that it is for."""

    name: str
    program: SOp
    specification: Callable[[list[Value]], list[Value]]
    vocab: tuple[Value, ...]
    causal: bool = False


def make_length() -> SOp:
    """The length of the input, at every position. Needs to see all of it: not for causal models."""
    return SelectorWidth(EVERYWHERE).named("length")


def make_reverse(sop: SOp) -> SOp:
    """The sequence from its end to its beginning."""
    opposite = (make_length() - 1 - indices).named("opposite")
    return Aggregate(Select(indices, opposite, Comparison.EQ), sop).named("reverse")


def make_hist() -> SOp:
    """How often each token occurs in the input."""
    return SelectorWidth(SAME_TOKEN).named("hist")


def make_count(sop: SOp, value: Value) -> SOp:
    """How many positions have the value, at every position."""
    return SelectorWidth(Select(sop, sop, lambda key, query: key == value)).named(f"count_{value}")


def make_parity(sop: SOp, value: Value) -> SOp:
    """Whether an odd number of positions has the value, at every position."""
    return Map(lambda n: n % 2 == 1, make_count(sop, value)).named("parity")


def shift_by(offset: int, sop: SOp) -> SOp:
    """The value `offset` positions before, None where there is none."""
    behind = Select(indices, indices, lambda key, query: key + offset == query).named(f"behind_{offset}")
    return Aggregate(behind, sop).named(f"shift_by({offset})")


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


def make_first_occurrence() -> SOp:
    """Whether the token at each position has not occurred before. For causal models."""
    return (SelectorWidth(SAME_TOKEN).named("seen") == 1).named("first_occurrence")


def make_sort(vals: SOp, keys: SOp) -> SOp:
    """The values in the order of their keys, equal keys in the order of the input."""
    keyed = SequenceMap(lambda key, i: (key, i), keys, indices).named("keyed")
    rank = SelectorWidth(Select(keyed, keyed, Comparison.LT).named("smaller")).named("rank")
    return Aggregate(Select(rank, indices, Comparison.EQ), vals).named("sort")


def make_palindrome() -> SOp:
    """Whether the input reads the same from both ends, at every position."""
    mirrored = Aggregate(EVERYWHERE, tokens == make_reverse(tokens)).named("mirrored")
    return (mirrored == 1).named("palindrome")


def make_frac_prevs(bools: SOp) -> SOp:
    """The fraction of positions so far at which `bools` holds."""
    return Aggregate(SO_FAR, bools, default=0).named("frac_prevs")


def make_pair_balance(sop: SOp, open_token: Value, close_token: Value) -> SOp:
    """The fraction of opening tokens so far, less that of closing ones."""
    signs = {open_token: 1, close_token: -1}
    return Aggregate(SO_FAR, Map(lambda t: signs.get(t, 0), sop).named("sign"), default=0).named("pair_balance")


def make_balanced(open_token: Value, close_token: Value) -> SOp:
    """Whether every bracket of the input has its partner, at every position."""
    balance = make_pair_balance(tokens, open_token, close_token)
    below_zero = Aggregate(EVERYWHERE, balance < 0).named("below_zero")
    at_end = Aggregate(Select(indices, make_length() - 1, Comparison.EQ), balance).named("at_end")
    return ((at_end == 0) & (below_zero == 0)).named("balanced")


def make_induct() -> SOp:
    """The token that followed the last earlier occurrence of this one; None if there is none. For numbers, causal.

    An occurrence is known by its token and how many there have been of it; each position looks for the position whose
    predecessor was the occurrence one before its own.
    """
    count = SelectorWidth(SAME_TOKEN).named("seen")
    occurrence = SequenceMap(lambda token, n: (token, n), tokens, count).named("occurrence")
    wanted = SequenceMap(lambda token, n: (token, n - 1), tokens, count).named("wanted")
    return Aggregate(Select(shift_by(1, occurrence), wanted, Comparison.EQ), tokens).named("induct")


def examples() -> tuple[Example, ...]:
    """All programs above."""
    brackets = ("(", ")", ".")
    return (
        Example("length", make_length(), lambda xs: [len(xs)] * len(xs), ("a", "b", "c")),
        Example("reverse", make_reverse(tokens), lambda xs: xs[::-1], ("a", "b", "c")),
        Example("hist", make_hist(), lambda xs: [xs.count(x) for x in xs], ("a", "b", "c")),
        Example("count", make_count(tokens, "a"), lambda xs: [xs.count("a")] * len(xs), ("a", "b", "c")),
        Example("parity", make_parity(tokens, 1), lambda xs: [sum(xs) % 2 == 1] * len(xs), (0, 1)),
        Example("shift_by", shift_by(2, tokens), lambda xs: [None, None, *xs][: len(xs)], ("a", "b", "c")),
        Example("double_letters", make_double_letters(), _double_letters, ("a", "b", "c")),
        Example("detect_pattern", detect_pattern(tokens, "abc"), _detect_abc, ("a", "b", "c")),
        Example("first_occurrence", make_first_occurrence(), _first_occurrence, ("a", "b", "c"), causal=True),
        Example("sort", make_sort(tokens, tokens), sorted, ("a", "b", "c")),
        Example("palindrome", make_palindrome(), lambda xs: [xs == xs[::-1]] * len(xs), ("a", "b", "c")),
        Example("frac_prevs", make_frac_prevs(tokens == "a"), _frac_prevs, ("a", "b", "c"), causal=True),
        Example("pair_balance", make_pair_balance(tokens, "(", ")"), _pair_balance, brackets, causal=True),
        Example("balanced", make_balanced("(", ")"), _balanced, brackets),
        Example("induct", make_induct(), _induct, (0, 1, 2), causal=True),
    )


def _double_letters(xs: list[Value]) -> list[Value]:
    return [None if i == 0 else xs[i] == xs[i - 1] for i in range(len(xs))]


def _detect_abc(xs: list[Value]) -> list[Value]:
    return [None if i < 2 else xs[i - 2 : i + 1] == ["a", "b", "c"] for i in range(len(xs))]


def _first_occurrence(xs: list[Value]) -> list[Value]:
    return [x not in xs[:i] for i, x in enumerate(xs)]


def _frac_prevs(xs: list[Value]) -> list[Value]:
    return [xs[: i + 1].count("a") / (i + 1) for i in range(len(xs))]


def _pair_balance(xs: list[Value]) -> list[Value]:
    return [(xs[: i + 1].count("(") - xs[: i + 1].count(")")) / (i + 1) for i in range(len(xs))]


def _balanced(xs: list[Value]) -> list[Value]:
    brackets = "".join(xs).replace(".", "")
    while "()" in brackets:
        brackets = brackets.replace("()", "")
    return [not brackets] * len(xs)


def _induct(xs: list[Value]) -> list[Value]:
    following: dict[Value, Value] = {}
    answers = []
    for i, x in enumerate(xs):
        if i:
            following[xs[i - 1]] = x
        answers.append(following.get(x) if x in xs[:i] else None)
    return answers
