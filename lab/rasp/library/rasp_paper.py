"""The programs of "Thinking Like Transformers" (Weiss, Goldberg and Yahav 2021) and of its library of functions.

Bracket languages are in `brackets`, what tracr has too elsewhere. The paper's averages are means, as everywhere here;
its selector width without a beginning-of-sequence token is `width_by_mean`.
"""

from collections import Counter

from microtome.lab.rasp.language import (
    Aggregate,
    Comparison,
    Map,
    Select,
    Selector,
    SelectorWidth,
    SequenceMap,
    SOp,
    indices,
    tokens,
)
from microtome.lab.rasp.library.counting import make_hist
from microtome.lab.rasp.library.example import LETTERS, NUMBERS, Example, everywhere, example
from microtome.lab.rasp.library.parts import (
    EARLIER,
    EVERYWHERE,
    LATER,
    SAME_TOKEN,
    at,
    has,
    holding,
    in_order,
    make_length,
    where,
)
from microtome.lab.rasp.values import Value

AT_START = Map(lambda i: int(i == 0), indices).named("at_start")


def width_by_mean(selector: Selector) -> SOp:
    """How many keys a selector selects, out of two means and no count.

    The first position is added to the selection; the mean of "is the first" over it is then one over its width.
    Whether the first position was selected anyway decides whether it is taken off again.
    """
    first = Select(indices, indices, lambda key, query: key == 0)
    inverse = Aggregate(selector | first, AT_START).named("inverse")
    width = Map(lambda x: round(1 / x), inverse).named("width_with_first")
    first_was_in = Aggregate(selector & first, AT_START, default=0).named("first_was_in")
    return width - 1 + first_was_in


def make_hist_by_mean() -> SOp:
    """How often each token occurs in the input, without selector widths."""
    return width_by_mean(SAME_TOKEN).named("hist_by_mean")


def make_length_by_mean() -> SOp:
    """The length of the input, as one over the fraction of positions that are the first."""
    return Map(lambda x: round(1 / x), Aggregate(EVERYWHERE, AT_START)).named("length_by_mean")


def make_double_hist() -> SOp:
    """How many different tokens occur as often as this one."""
    hist = make_hist()
    first = ~has(SAME_TOKEN & EARLIER)
    return SelectorWidth(Select(hist, hist, Comparison.EQ) & holding(first)).named("double_hist")


def make_sort_composite() -> SOp:
    """The tokens in order, ties broken by a selector that is composed of two others."""
    ties_before = Select(tokens, tokens, Comparison.EQ) & EARLIER
    rank = SelectorWidth(Select(tokens, tokens, Comparison.LT) | ties_before).named("rank")
    return in_order(tokens, rank).named("sort_composite")


def make_most_frequent() -> SOp:
    """The different tokens by frequency, the most frequent first; None behind them."""
    hist, first = make_hist(), ~has(SAME_TOKEN & EARLIER)
    more_frequent = Select(hist, hist, Comparison.GT) & holding(first)
    ties_before = Select(hist, hist, Comparison.EQ) & holding(first) & EARLIER
    rank = (SelectorWidth(more_frequent) + SelectorWidth(ties_before)).named("rank")
    destination = SequenceMap(lambda is_first, n: n if is_first else -1, first, rank).named("destination")
    return Aggregate(Select(destination, indices, Comparison.EQ), tokens).named("most_frequent")


def make_average() -> SOp:
    """The mean of the tokens."""
    return Aggregate(EVERYWHERE, tokens).named("average")


def make_contained(value: Value) -> SOp:
    """Whether the value occurs anywhere."""
    return (Aggregate(EVERYWHERE, Map(lambda x: int(x == value), tokens)) > 0).named("contained")


def make_shift_filled(offset: int, filler: Value) -> SOp:
    """The token some positions before, a filler where there is none."""
    return at(indices - offset, tokens, default=filler).named("shift_filled")


def make_mark_first(value: Value) -> SOp:
    """Whether each position is the first that has the value."""
    earlier = has(holding(tokens == value) & EARLIER)
    return ((tokens == value) & ~earlier).named("mark_first")


def make_mark_last(value: Value) -> SOp:
    """Whether each position is the last that has the value."""
    later = has(holding(tokens == value) & LATER)
    return ((tokens == value) & ~later).named("mark_last")


def make_next_identical() -> SOp:
    """Where the same token occurs next, None if it does not: the occurrence whose number is one greater."""
    number = SelectorWidth(SAME_TOKEN & EARLIER).named("occurrences_before")
    following = SAME_TOKEN & Select(number, number, lambda key, query: key == query + 1)
    return Aggregate(following, indices).named("next_identical")


def make_greater_neighbour() -> SOp:
    """The greater of each token and the one before it."""
    before = at(indices - 1, tokens, default=0)
    return where(tokens > before, tokens, before).named("greater_neighbour")


def make_long_addition(base: int) -> SOp:
    """The sum of two numbers about the last "+", at the right end with leading zeros; other "+" count as zeros.

    The first number is brought below the second, so that both end at the last position; a column receives a carry if
    the first column right of it that does not just hand one on makes one.
    """
    length = make_length()
    plus = Aggregate(holding(tokens == "+"), indices, default=-1, reduction="last").named("plus")
    digit = Map(lambda x: 0 if x == "+" else int(x), tokens).named("digit")
    summand = at(indices - length + plus, digit, default=0).named("summand")
    other = where(indices - plus > 0, digit, Map(lambda x: 0, digit)).named("other")
    column = (summand + other).named("column")
    decides = Select(column, column, lambda key, query: key != base - 1) & LATER
    carried = Map(lambda x: int(x >= base), Aggregate(decides, column, default=0, reduction="first")).named("carried")
    return SequenceMap(lambda x, carry: (x + carry) % base, column, carried).named("long_addition")


def examples() -> tuple[Example, ...]:
    """The programs above."""

    def on(vocab, make, specification, *arguments, **more):
        more = {"origin": "rasp paper", **more}
        return example(make, *arguments, specification=specification, vocab=tuple(vocab), **more)

    return (
        on(LETTERS, make_hist_by_mean, lambda xs: [xs.count(x) for x in xs]),
        on(LETTERS, make_length_by_mean, everywhere(len)),
        on(LETTERS, make_double_hist, _double_hist),
        on(NUMBERS, make_sort_composite, sorted),
        on(LETTERS, make_most_frequent, _most_frequent),
        on(NUMBERS, make_average, everywhere(lambda xs: sum(xs) / len(xs))),
        on(LETTERS, make_contained, everywhere(lambda xs: "a" in xs), "a"),
        on(LETTERS, make_shift_filled, lambda xs: (["-", "-", *xs])[: len(xs)], 2, "-", causal=True),
        on(LETTERS, make_mark_first, lambda xs: [i == _index(xs, "b") for i in range(len(xs))], "b"),
        on(LETTERS, make_mark_last, lambda xs: [i == _index(xs[::-1], "b") for i in range(len(xs))][::-1], "b"),
        on(LETTERS, make_next_identical, _next_identical),
        on(NUMBERS, make_greater_neighbour, lambda xs: list(map(max, xs, [0, *xs])), causal=True),
        on("01+", make_long_addition, lambda xs: _sum(xs, 2), 2, name="binary_addition"),
        on("0123456789+", make_long_addition, lambda xs: _sum(xs, 10), 10),
    )


def _index(xs: list[Value], value: Value) -> Value:
    return xs.index(value) if value in xs else None


def _double_hist(xs: list[Value]) -> list[Value]:
    counts = Counter(xs)
    return [list(counts.values()).count(counts[x]) for x in xs]


def _most_frequent(xs: list[Value]) -> list[Value]:
    ordered = [x for x, _ in Counter(xs).most_common()]
    return ordered + [None] * (len(xs) - len(ordered))


def _next_identical(xs: list[Value]) -> list[Value]:
    return [next((j for j in range(i + 1, len(xs)) if xs[j] == x), None) for i, x in enumerate(xs)]


def _sum(xs: list[Value], base: int) -> list[Value]:
    left, _, right = "".join(xs).rpartition("+")
    total = sum(int(number.replace("+", "0") or "0", base) for number in (left, right))
    return [total // base**place % base for place in reversed(range(len(xs)))]
