"""Fractions of the input, averages, and the largest token.

The published 3 and 39 average booleans, and the average of one is itself; ours average zeros and ones. The published 4
subtracts rounded fractions; ours rounds once, so that the two may differ in the last place. 97 answers 0 where the
largest token is 0, as published.
"""

from fractions import Fraction

from microtome.lab.rasp.language import Aggregate, Map, Select, SequenceMap, SOp, indices, length, tokens
from microtome.lab.rasp.library.example import Example, at_each_prefix, everywhere
from microtome.lab.rasp.library.interpbench.numbered import ABC, ALPHABET, numbered
from microtome.lab.rasp.library.interpbench.pieces import greatest, least
from microtome.lab.rasp.library.parts import EVERYWHERE, SO_FAR
from microtome.lab.rasp.values import Value

BRACKETS = (*ABC, "(", ")")
TWO_PAIRS = ("()", "{}")


def make_fraction_so_far(token: Value) -> SOp:
    """The fraction of the tokens up to each position that are one token."""
    return Aggregate(SO_FAR, Map(lambda x: int(x == token), tokens)).named("fraction_so_far")


def make_pair_balance(pair: str) -> SOp:
    """The fraction of opening brackets up to each position, less that of closing ones."""
    signs = {pair[0]: 1, pair[1]: -1}
    return Aggregate(SO_FAR, Map(lambda x: signs.get(x, 0), tokens).named("sign")).named(f"balance_{pair}")


def make_shuffle_dyck(pairs: tuple[str, ...]) -> SOp:
    """Whether the brackets of each kind, taken alone, are balanced."""
    ends = []
    for pair in pairs:
        balance = make_pair_balance(pair)
        ahead = Map(lambda x: (x > 0) - (x < 0), balance).named(f"ahead_{pair}")
        ends += [least(ahead), Aggregate(EVERYWHERE, ahead, reduction="last")]
    return SequenceMap(lambda *values: not any(values), *ends).named("shuffle_dyck")


def make_mean_of_ends() -> SOp:
    """The mean of the first and the last token, everywhere."""
    ends = Select(indices, length, lambda key, query: key in (0, query - 1)).named("ends")
    return Aggregate(ends, tokens).named("mean_of_ends")


def make_over_largest() -> SOp:
    """Each token divided by the largest; 0 where that is 0."""
    return SequenceMap(lambda x, top: x / top if top else 0, tokens, greatest(tokens)).named("over_largest")


def make_largest() -> SOp:
    """The largest token, everywhere."""
    return greatest(tokens).named("largest")


def _fraction_of_x(xs: list[Value]) -> Value:
    return xs.count("x") / len(xs)


def _balance(xs: list[Value]) -> Value:
    return float(Fraction(xs.count("("), len(xs)) - Fraction(xs.count(")"), len(xs)))


def _each_kind_balanced(xs: list[Value]) -> Value:
    return all(_balanced([x for x in xs if x in pair]) for pair in TWO_PAIRS)


def _balanced(brackets: list[Value]) -> bool:
    depth = 0
    for bracket in brackets:
        depth += 1 if bracket in "({" else -1
        if depth < 0:
            return False
    return depth == 0


def _over_largest(xs: list[Value]) -> list[Value]:
    return [x / max(xs) for x in xs] if any(xs) else xs


def examples() -> tuple[Example, ...]:
    """The programs on fractions, averages and maxima."""
    fraction = at_each_prefix(_fraction_of_x)
    return (
        numbered(3, make_fraction_so_far, "x", specification=fraction, vocab=(*ABC, "x"), causal=True),
        numbered(4, make_pair_balance, "()", specification=at_each_prefix(_balance), vocab=BRACKETS, causal=True),
        numbered(
            5,
            make_shuffle_dyck,
            TWO_PAIRS,
            specification=everywhere(_each_kind_balanced),
            vocab=("(", ")", "{", "}", "x"),
        ),
        numbered(
            39,
            make_fraction_so_far,
            "x",
            specification=fraction,
            vocab=ALPHABET,
            causal=True,
            title="fraction_so_far_of_alphabet",
        ),
        numbered(88, make_mean_of_ends, specification=everywhere(lambda xs: (xs[0] + xs[-1]) / 2)),
        numbered(97, make_over_largest, specification=_over_largest),
        numbered(98, make_largest, specification=everywhere(max)),
    )
