"""Counting: how often, how many different, whether most; runs of equal tokens and gaps between them."""

from collections import Counter
from itertools import groupby

from microtome.lab.rasp.language import (
    Aggregate,
    Comparison,
    Map,
    Select,
    SelectorWidth,
    SequenceMap,
    SOp,
    indices,
    numerical,
    tokens,
)
from microtome.lab.rasp.library.example import BITS, LETTERS, Example, at_each_prefix, everywhere, example
from microtome.lab.rasp.library.parts import (
    EARLIER,
    EVERYWHERE,
    SAME_TOKEN,
    SO_FAR,
    any_of,
    count_of,
    count_so_far,
    has,
    holding,
    make_length,
    shift_by,
)
from microtome.lab.rasp.values import Value


def make_hist() -> SOp:
    """How often each token occurs in the input."""
    return SelectorWidth(SAME_TOKEN).named("hist")


def make_count(sop: SOp, value: Value) -> SOp:
    """How many positions have the value, at every position."""
    return SelectorWidth(Select(sop, sop, lambda key, query: key == value)).named(f"count_{value}")


def make_count_less_freq(n: int) -> SOp:
    """How many tokens of the input occur at most n times in it."""
    hist = make_hist()
    return SelectorWidth(Select(hist, hist, lambda key, query: key <= n)).named("count_less_freq")


def make_count_less_freq_numerical(n: int) -> SOp:
    """How many tokens of the input occur at most n times in it, encoded numerically."""
    return numerical(make_count_less_freq(n))


def make_parity(sop: SOp, value: Value) -> SOp:
    """Whether an odd number of positions has the value, at every position."""
    return Map(lambda n: n % 2 == 1, make_count(sop, value)).named("parity")


def make_count_mod(value: Value, modulus: int) -> SOp:
    """The number of positions with the value, modulo another number."""
    return Map(lambda n: n % modulus, make_count(tokens, value)).named("count_mod")


def make_frac_prevs(bools: SOp) -> SOp:
    """The fraction of positions so far at which `bools` holds."""
    return Aggregate(SO_FAR, bools, default=0).named("frac_prevs")


def make_running_count(value: Value) -> SOp:
    """How often the value has occurred up to each position."""
    return count_so_far(tokens == value).named("running_count")


def make_occurrence_number() -> SOp:
    """Which occurrence of its token each position is, from 1."""
    return SelectorWidth(SAME_TOKEN).named("occurrence_number")


def make_at_least(value: Value, n: int) -> SOp:
    """Whether the value has occurred n times by now."""
    return (make_count(tokens, value) >= n).named("at_least")


def make_as_many(one: Value, other: Value) -> SOp:
    """Whether two values are equally frequent."""
    return (make_count(tokens, one) - make_count(tokens, other) == 0).named("as_many")


def make_majority() -> SOp:
    """The token that fills more than half of the input, None if there is none."""
    excess = SequenceMap(lambda n, count: 2 * count - n, make_length(), make_hist()).named("excess")
    return Aggregate(holding(excess > 0), tokens).named("majority")


def make_most_common() -> SOp:
    """The most frequent token, of several the one that occurs first."""
    hist = make_hist()
    highest = Aggregate(EVERYWHERE, hist, reduction="max").named("highest")
    return Aggregate(Select(hist, highest, Comparison.EQ), tokens, reduction="first").named("most_common")


def make_least_common() -> SOp:
    """The least frequent token, of several the one that occurs first."""
    hist = make_hist()
    lowest = Aggregate(EVERYWHERE, hist, reduction="min").named("lowest")
    return Aggregate(Select(hist, lowest, Comparison.EQ), tokens, reduction="first").named("least_common")


def make_distinct_count() -> SOp:
    """How many different tokens the input has."""
    return count_of(~has(SAME_TOKEN & EARLIER)).named("distinct_count")


def make_distinct_so_far() -> SOp:
    """How many different tokens there are up to each position."""
    return count_so_far(~has(SAME_TOKEN & EARLIER)).named("distinct_so_far")


def make_all_even() -> SOp:
    """Whether each token occurs an even number of times."""
    return (~any_of(Map(lambda n: n % 2 == 1, make_hist()))).named("all_even")


def make_count_bigram(first: Value, second: Value) -> SOp:
    """How often the second token directly follows the first."""
    found = (shift_by(1, tokens) == first) & (tokens == second)
    return count_of(found).named("count_bigram")


def make_run_length() -> SOp:
    """How many tokens up to each position are the same as it without a break."""
    different = EARLIER & Select(tokens, tokens, Comparison.NEQ)
    before_run = Aggregate(different, indices, default=-1, reduction="last").named("before_run")
    return (indices - before_run).named("run_length")


def make_run_number() -> SOp:
    """How many runs of equal tokens end before each position."""
    return count_so_far(tokens != shift_by(1, tokens)).named("run_number")


def make_run_size() -> SOp:
    """The length of the run of equal tokens that each position is in."""
    run = make_run_number()
    return SelectorWidth(Select(run, run, Comparison.EQ)).named("run_size")


def make_longest_run() -> SOp:
    """The length of the longest run of equal tokens."""
    return Aggregate(EVERYWHERE, make_run_length(), reduction="max").named("longest_run")


def make_gap() -> SOp:
    """How far back the same token occurred last, None if it did not."""
    last = Aggregate(SAME_TOKEN & EARLIER, indices, reduction="last").named("last")
    return (indices - last).named("gap")


def examples() -> tuple[Example, ...]:
    """The programs above."""

    def on_letters(make, specification, *arguments, **more):
        return example(make, *arguments, specification=specification, vocab=LETTERS, **more)

    def at_most_twice(xs):
        return sum(n for n in Counter(xs).values() if n <= 2)

    odd = everywhere(lambda xs: sum(xs) % 2 == 1)
    fraction_of_a = at_each_prefix(lambda xs: xs.count("a") / len(xs))
    return (
        on_letters(make_hist, lambda xs: [xs.count(x) for x in xs], origin="tracr"),
        on_letters(make_count, everywhere(lambda xs: xs.count("a")), tokens, "a", origin="tracr"),
        on_letters(make_count_less_freq, everywhere(at_most_twice), 2, origin="tracr"),
        on_letters(make_count_less_freq_numerical, everywhere(at_most_twice), 2, origin="tracr"),
        example(make_parity, tokens, 1, specification=odd, vocab=BITS),
        on_letters(make_count_mod, everywhere(lambda xs: xs.count("b") % 3), "b", 3, name="count_mod_3"),
        on_letters(make_frac_prevs, fraction_of_a, tokens == "a", causal=True, origin="tracr"),
        on_letters(make_running_count, at_each_prefix(lambda xs: xs.count("c")), "c"),
        on_letters(make_occurrence_number, at_each_prefix(lambda xs: xs.count(xs[-1])), causal=True),
        on_letters(make_at_least, at_each_prefix(lambda xs: xs.count("a") > 2), "a", 3, causal=True),
        on_letters(make_as_many, everywhere(lambda xs: xs.count("a") == xs.count("b")), "a", "b"),
        on_letters(make_majority, everywhere(_majority)),
        on_letters(make_most_common, everywhere(lambda xs: Counter(xs).most_common(1)[0][0])),
        on_letters(make_least_common, everywhere(lambda xs: min(Counter(xs).items(), key=lambda item: item[1])[0])),
        on_letters(make_distinct_count, everywhere(lambda xs: len(set(xs)))),
        on_letters(make_distinct_so_far, at_each_prefix(lambda xs: len(set(xs)))),
        on_letters(make_all_even, everywhere(lambda xs: all(n % 2 == 0 for n in Counter(xs).values()))),
        on_letters(make_count_bigram, everywhere(lambda xs: "".join(xs).count("ab")), "a", "b"),
        on_letters(make_run_length, at_each_prefix(lambda xs: _runs(xs)[-1]), causal=True),
        on_letters(make_run_number, at_each_prefix(lambda xs: len(_runs(xs)) - 1)),
        on_letters(make_run_size, lambda xs: [n for n in _runs(xs) for _ in range(n)]),
        on_letters(make_longest_run, everywhere(lambda xs: max(_runs(xs)))),
        on_letters(make_gap, at_each_prefix(_gap), causal=True),
    )


def _runs(xs: list[Value]) -> list[int]:
    return [len(list(run)) for _, run in groupby(xs)]


def _majority(xs: list[Value]) -> Value:
    ordered = sorted(xs)
    candidate = ordered[len(xs) // 2]
    return candidate if 2 * ordered.count(candidate) > len(xs) else None


def _gap(xs: list[Value]) -> Value:
    *before, last = xs
    return before[::-1].index(last) + 1 if last in before else None
