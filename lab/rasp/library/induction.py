"""Induction: what came next the last time, by one token or two, and what stands once among names."""

from microtome.lab.rasp.language import (
    Aggregate,
    Comparison,
    Map,
    Select,
    SelectorWidth,
    SequenceMap,
    SOp,
    tokens,
)
from microtome.lab.rasp.library.example import LETTERS, Example, at_each_prefix, everywhere, example
from microtome.lab.rasp.library.parts import EARLIER, SAME_TOKEN, has, holding, shift_by
from microtome.lab.rasp.values import Value


def make_induct() -> SOp:
    """The token that followed the last earlier occurrence of this one; None if there is none. For numbers, causal.

    An occurrence is known by its token and how many there have been of it; each position looks for the position whose
    predecessor was the occurrence one before its own.
    """
    count = SelectorWidth(SAME_TOKEN).named("seen")
    occurrence = SequenceMap(lambda token, n: (token, n), tokens, count).named("occurrence")
    wanted = SequenceMap(lambda token, n: (token, n - 1), tokens, count).named("wanted")
    return Aggregate(Select(shift_by(1, occurrence), wanted, Comparison.EQ), tokens).named("induct")


def make_induct_bigram() -> SOp:
    """The token that followed the last earlier occurrence of this one and its predecessor, None if there is none."""
    pair = SequenceMap(lambda x, y: x + y, shift_by(1, tokens), tokens).named("pair")
    after_same_pair = Select(shift_by(1, pair), pair, Comparison.EQ)
    return Aggregate(after_same_pair, tokens, reduction="last").named("induct_bigram")


def make_skip_trigram(first: Value, second: Value, third: Value) -> SOp:
    """The third token where the second stands somewhere after the first, None elsewhere."""
    applies = has(EARLIER & holding(tokens == first)) & (tokens == second)
    return Map(lambda holds: third if holds else None, applies).named("skip_trigram")


def make_indirect_object() -> SOp:
    """The last name (a token that is not ".") that occurs only once, None if there is none: whom the sentence is about.

    The pattern of "When A and B went to the shop, B gave a drink to …".
    """
    single = SelectorWidth(SAME_TOKEN) == 1
    return Aggregate(holding(single & (tokens != ".")), tokens, reduction="last").named("indirect_object")


def examples() -> tuple[Example, ...]:
    """The programs above."""

    def on(vocab, make, specification, *arguments, **more):
        return example(make, *arguments, specification=specification, vocab=tuple(vocab), **more)

    return (
        on((0, 1, 2), make_induct, at_each_prefix(_induct), causal=True),
        on("ab", make_induct_bigram, at_each_prefix(_induct_bigram), causal=True),
        on(LETTERS, make_skip_trigram, at_each_prefix(_skip_trigram), "a", "b", "c", causal=True),
        on("ABC.", make_indirect_object, everywhere(_indirect_object)),
    )


def _induct(xs: list[Value]) -> Value:
    *before, last = xs
    following = dict(zip(before, xs[1:], strict=True))
    return following.get(last)


def _induct_bigram(xs: list[Value]) -> Value:
    earlier_ends = reversed(range(1, len(xs) - 1))
    return next((xs[end + 1] for end in earlier_ends if xs[end - 1 : end + 1] == xs[-2:]), None)


def _skip_trigram(xs: list[Value]) -> Value:
    return "c" if xs[-1] == "b" and "a" in xs[:-1] else None


def _indirect_object(xs: list[Value]) -> Value:
    once = [x for x in xs if xs.count(x) == 1 and x != "."]
    return once[-1] if once else None
