"""Two strings about a bar, what stands left of the last "|" and what stands right of it: equal, contained, in order.

Without a bar the left string is empty. All answers stand at every position.
"""

from collections import Counter
from itertools import takewhile

from microtome.lab.rasp.language import Aggregate, Map, SelectorWidth, SequenceMap, SOp, indices, tokens
from microtome.lab.rasp.library.example import Example, everywhere, example
from microtome.lab.rasp.library.parts import (
    SAME_TOKEN,
    SO_FAR,
    any_of,
    at,
    count_of,
    has,
    holding,
    make_length,
    make_reverse,
)
from microtome.lab.rasp.values import Value

BAR = "|"


def make_bar() -> SOp:
    """The position of the last bar, −1 if there is none."""
    return Aggregate(holding(tokens == BAR), indices, default=-1, reduction="last").named("bar")


def make_side() -> SOp:
    """−1 left of the last bar, 0 at it, 1 right of it."""
    return Map(_sign, indices - make_bar()).named("side")


def _sign(x: Value) -> int:
    return (x > 0) - (x < 0)


def _bar_in_the_middle() -> SOp:
    return make_bar() * 2 + 1 - make_length() == 0


def _counterpart() -> SOp:
    """At each token of the left string, the one at the same place of the right string; empty where there is none."""
    return at(indices + make_bar() + 1, tokens, default="").named("counterpart")


def _left_difference() -> SOp:
    """Whether a position is in the left string and the right one has something else at that place."""
    return (make_side() == -1) & (tokens != _counterpart())


def make_strings_equal() -> SOp:
    """Whether the two strings are the same."""
    return (_bar_in_the_middle() & ~any_of(_left_difference())).named("strings_equal")


def make_strings_mirrored() -> SOp:
    """Whether the right string is the left one backwards."""
    return (_bar_in_the_middle() & ~any_of(tokens != make_reverse(tokens))).named("strings_mirrored")


def make_is_prefix() -> SOp:
    """Whether the right string begins with the left one."""
    return (~any_of(_left_difference())).named("is_prefix")


def make_is_suffix() -> SOp:
    """Whether the right string ends with the left one."""
    bar, length = make_bar(), make_length()
    fits = bar * 2 + 1 - length <= 0
    differs = tokens != at(indices + length - bar, tokens)
    return (fits & ~any_of((make_side() == -1) & differs)).named("is_suffix")


def make_common_prefix() -> SOp:
    """How many tokens the two strings have in common from their beginnings on."""
    agrees_so_far = ~has(holding(_left_difference()) & SO_FAR)
    return count_of((make_side() == -1) & agrees_so_far).named("common_prefix")


def make_hamming() -> SOp:
    """At how many places of the left string the right one has another token or none."""
    return count_of(_left_difference()).named("hamming")


def make_compare_strings() -> SOp:
    """Which string comes first in the dictionary: −1 for the left one, 1 for the right one, 0 if they are the same."""
    order = SequenceMap(lambda x, y: (x > y) - (x < y), tokens, _counterpart()).named("order")
    decisive = Aggregate(holding(_left_difference()), order, default=0, reduction="first").named("decisive")
    shorter = Map(_sign, make_bar() * 2 + 1 - make_length()).named("shorter")
    return SequenceMap(lambda first, then: first or then, decisive, shorter).named("compare_strings")


def make_anagram() -> SOp:
    """Whether the two strings have the same tokens in some order."""
    side = make_side()
    on_left = SelectorWidth(SAME_TOKEN & holding(side == -1)).named("on_left")
    on_right = SelectorWidth(SAME_TOKEN & holding(side == 1)).named("on_right")
    return (~any_of((side != 0) & (on_left - on_right != 0))).named("anagram")


def examples() -> tuple[Example, ...]:
    """The programs above."""

    def asked(question):
        return lambda xs: everywhere(lambda xs: question(*_parted(xs)))(xs)

    def on(make, question):
        return example(make, specification=asked(question), vocab=("a", "b", BAR))

    return (
        on(make_strings_equal, lambda left, right: left == right),
        on(make_strings_mirrored, lambda left, right: left == right[::-1]),
        on(make_is_prefix, lambda left, right: right.startswith(left)),
        on(make_is_suffix, lambda left, right: right.endswith(left)),
        on(make_common_prefix, lambda left, right: sum(1 for _ in takewhile(_alike, zip(left, right, strict=False)))),
        on(make_hamming, lambda left, right: len(left) - sum(map(_alike, zip(left, right, strict=False)))),
        on(make_compare_strings, lambda left, right: (left > right) - (left < right)),
        on(make_anagram, lambda left, right: Counter(left) == Counter(right)),
    )


def _parted(xs: list[Value]) -> tuple[str, str]:
    left, _, right = "".join(xs).rpartition(BAR)
    return left, right


def _alike(pair: tuple[str, str]) -> bool:
    return pair[0] == pair[1]
