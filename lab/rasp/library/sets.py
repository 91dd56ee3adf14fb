"""Sets of tokens: occurrences, uniqueness, and two sets about the last bar with their union and so on."""

from microtome.lab.rasp.language import (
    Aggregate,
    Comparison,
    Select,
    SelectorWidth,
    SequenceMap,
    SOp,
    indices,
    tokens,
)
from microtome.lab.rasp.library.counting import make_hist
from microtome.lab.rasp.library.example import LETTERS, NUMBERS, Example, at_each_prefix, everywhere, example
from microtome.lab.rasp.library.parts import (
    EARLIER,
    LATER,
    SAME_TOKEN,
    any_of,
    has,
    keep_only,
    make_length,
)
from microtome.lab.rasp.library.two_strings import BAR, make_side
from microtome.lab.rasp.values import Value


def make_first_occurrence() -> SOp:
    """Whether the token at each position has not occurred before. For causal models."""
    return (SelectorWidth(SAME_TOKEN).named("seen") == 1).named("first_occurrence")


def make_last_occurrence() -> SOp:
    """Whether the token at each position does not occur again."""
    return (~has(SAME_TOKEN & LATER)).named("last_occurrence")


def make_occurs_once() -> SOp:
    """Whether the token at each position is the only one of its kind."""
    return (make_hist() == 1).named("occurs_once")


def make_first_index() -> SOp:
    """Where the token of each position occurs first."""
    return Aggregate(SAME_TOKEN, indices, reduction="first").named("first_index")


def make_last_index() -> SOp:
    """Where the token of each position occurs last."""
    return Aggregate(SAME_TOKEN, indices, reduction="last").named("last_index")


def make_distinct() -> SOp:
    """The different tokens in the order in which they first occur, None behind them."""
    return keep_only(tokens, ~has(SAME_TOKEN & EARLIER)).named("distinct")


def make_all_distinct() -> SOp:
    """Whether no token occurs twice."""
    return (~any_of(make_hist() > 1)).named("all_distinct")


def make_pangram(vocab: tuple[Value, ...]) -> SOp:
    """Whether every token of the vocabulary occurs."""
    return SequenceMap(lambda *seen: all(seen), *(any_of(tokens == x) for x in vocab)).named("pangram")


def make_mex(numbers: tuple[int, ...]) -> SOp:
    """The least natural number that does not occur."""

    def least(*seen: bool) -> int:
        return [*seen, False].index(False)

    return SequenceMap(least, *(any_of(tokens == x) for x in numbers)).named("mex")


def make_query_seen() -> SOp:
    """Whether the last token occurs elsewhere in the input."""
    is_last = (make_length() - 1 - indices == 0).named("is_last")
    return any_of(is_last & has(SAME_TOKEN & EARLIER)).named("query_seen")


def make_two_sum(total: int) -> SOp:
    """Whether another position has what is missing from this token to the total."""
    other = Select(indices, indices, Comparison.NEQ)
    return has(Select(tokens, tokens, lambda key, query: key + query == total) & other).named("two_sum")


def make_previous_different() -> SOp:
    """The last earlier token that differs from this one, None if there is none."""
    different = Select(tokens, tokens, Comparison.NEQ)
    return Aggregate(different & EARLIER, tokens, reduction="last").named("previous_different")


def _on_other_side() -> SOp:
    """Whether the token of each position occurs on the other side of the bar; False at the bar."""
    side = make_side()
    return has(SAME_TOKEN & Select(side, side, lambda key, query: key * query == -1))


def make_in_both() -> SOp:
    """Whether each token is in both sets; False at the bar."""
    return _on_other_side().named("in_both")


def make_only_left() -> SOp:
    """Whether each token is in the left set and not in the right one."""
    return ((make_side() == -1) & ~_on_other_side()).named("only_left")


def make_in_one() -> SOp:
    """Whether each token is in exactly one of the sets; False at the bar."""
    return ((make_side() != 0) & ~_on_other_side()).named("in_one")


def make_subset() -> SOp:
    """Whether the left set is a part of the right one."""
    return (~any_of(make_only_left())).named("subset")


def make_sets_equal() -> SOp:
    """Whether the two sets have the same elements."""
    return (~any_of(make_in_one())).named("sets_equal")


def make_disjoint() -> SOp:
    """Whether the two sets have no element in common."""
    return (~any_of(_on_other_side())).named("disjoint")


def make_union() -> SOp:
    """The elements of either set but bars, in the order in which they first occur, None behind them."""
    first = ~has(SAME_TOKEN & EARLIER)
    return keep_only(tokens, first & (tokens != BAR)).named("union")


def make_intersection() -> SOp:
    """The elements of both sets in the order in which the left one has them, None behind them."""
    first = ~has(SAME_TOKEN & EARLIER)
    return keep_only(tokens, first & _on_other_side()).named("intersection")


def examples() -> tuple[Example, ...]:
    """The programs above; two sets are what stands left of the last "|" and right of it."""

    def on(vocab, make, specification, *arguments, **more):
        return example(make, *arguments, specification=specification, vocab=vocab, **more)

    def on_sets(make, specification):
        return example(make, specification=specification, vocab=("a", "b", BAR))

    def asked(question):
        return everywhere(lambda xs: question(*_sets(xs)))

    def marked(question):
        return lambda xs: [i != _bar(xs) and question(x, *_sets(xs), i < _bar(xs)) for i, x in enumerate(xs)]

    return (
        on(LETTERS, make_first_occurrence, at_each_prefix(lambda xs: xs[-1] not in xs[:-1]), causal=True),
        on(LETTERS, make_last_occurrence, lambda xs: [x not in xs[i + 1 :] for i, x in enumerate(xs)]),
        on(LETTERS, make_occurs_once, lambda xs: [xs.count(x) == 1 for x in xs]),
        on(LETTERS, make_first_index, lambda xs: [xs.index(x) for x in xs], causal=True),
        on(LETTERS, make_last_index, lambda xs: [len(xs) - 1 - xs[::-1].index(x) for x in xs]),
        on(LETTERS, make_distinct, lambda xs: _padded(dict.fromkeys(xs), len(xs))),
        on(NUMBERS, make_all_distinct, everywhere(lambda xs: len(set(xs)) == len(xs))),
        on(LETTERS, make_pangram, everywhere(lambda xs: set(xs) == set(LETTERS)), LETTERS),
        on(NUMBERS, make_mex, everywhere(lambda xs: min({0, 1, 2, 3, 4} - set(xs))), NUMBERS),
        on(LETTERS, make_query_seen, everywhere(lambda xs: xs[-1] in xs[:-1])),
        on(NUMBERS, make_two_sum, lambda xs: [3 - x in xs[:i] + xs[i + 1 :] for i, x in enumerate(xs)], 3),
        on(LETTERS, make_previous_different, at_each_prefix(_previous_different), causal=True),
        on_sets(make_in_both, marked(lambda x, left, right, _: x in left & right)),
        on_sets(make_only_left, marked(lambda x, left, right, on_left: on_left and x in left - right)),
        on_sets(make_in_one, marked(lambda x, left, right, _: x in left ^ right)),
        on_sets(make_subset, asked(lambda left, right: left <= right)),
        on_sets(make_sets_equal, asked(lambda left, right: left == right)),
        on_sets(make_disjoint, asked(lambda left, right: left.isdisjoint(right))),
        on_sets(make_union, lambda xs: _padded(dict.fromkeys(x for x in xs if x != BAR), len(xs))),
        on_sets(make_intersection, _intersection),
    )


def _bar(xs: list[Value]) -> int:
    return "".join(xs).rfind(BAR)


def _sets(xs: list[Value]) -> tuple[set[Value], set[Value]]:
    bar = _bar(xs)
    return set(xs[: max(bar, 0)]), set(xs[bar + 1 :])


def _padded(xs: dict[Value, None], length: int) -> list[Value]:
    return [*xs, *[None] * (length - len(xs))]


def _previous_different(xs: list[Value]) -> Value:
    return next((x for x in xs[::-1] if x != xs[-1]), None)


def _intersection(xs: list[Value]) -> list[Value]:
    left, right = _sets(xs)
    return _padded(dict.fromkeys(x for x in xs if x in left & right), len(xs))
