"""The programs of tracr's test cases that are no algorithms: encodings, defaults, tuples, and the nine that it refuses.

"Tracr: Compiled Transformers as a Laboratory for Interpretability", Lindner et al. 2023; `test_cases.py` and the two
integration tests of its compiler.
"""

from collections.abc import Callable
from fractions import Fraction

from microtome.lab.rasp.language import (
    Aggregate,
    Comparison,
    LinearSequenceMap,
    Map,
    Select,
    SelectorWidth,
    SequenceMap,
    SOp,
    categorical,
    indices,
    numerical,
    tokens,
)
from microtome.lab.rasp.library.example import LETTERS, Example, at_each_prefix, everywhere, example
from microtome.lab.rasp.library.parts import EVERYWHERE, SAME_TOKEN, make_length
from microtome.lab.rasp.values import Value

THREE = (1, 2, 3)


def make_nary_sequencemap(f: Callable[..., Value], *sops: SOp) -> SOp:
    """A function of several s-ops at each position, out of functions of two: the arguments are collected in a tuple."""
    first, *others = sops
    collected = Map(lambda x: (x,), first)
    for sop in others:
        collected = SequenceMap(lambda values, x: (*values, x), collected, sop)
    return Map(lambda values: f(*values), collected)


def make_nary_sum() -> SOp:
    """The token twice, less its position, by way of tuples."""
    return make_nary_sequencemap(lambda x, y, z: x + y - z, tokens, tokens, indices)


def make_nary_ratio() -> SOp:
    """The square of the position over the token, by way of tuples."""
    return make_nary_sequencemap(lambda x, y, z: x * y / z, indices, indices, tokens)


def make_length_categorical() -> SOp:
    """The length of the input, one direction for each value."""
    return categorical(make_length())


def make_length_numerical() -> SOp:
    """The length of the input, as the coordinate along one direction."""
    return numerical(make_length())


def make_increment() -> SOp:
    """Each token plus one."""
    return Map(lambda x: x + 1, tokens).named("increment")


def make_token_plus_index() -> SOp:
    """Each token plus its position."""
    return SequenceMap(lambda x, y: x + y, tokens, indices).named("token_plus_index")


def make_token_plus_itself() -> SOp:
    """Each token plus itself, as a function of two arguments."""
    return SequenceMap(lambda x, y: x + y, tokens, tokens).named("token_plus_itself")


def make_mean_of_ones() -> SOp:
    """One, as the mean of ones over the equal tokens."""
    return Aggregate(SAME_TOKEN, Map(lambda x: 1, tokens)).named("mean_of_ones")


def make_causal_width() -> SOp:
    """How many tokens a position sees."""
    return SelectorWidth(EVERYWHERE).named("causal_width")


def make_default_at_bos() -> SOp:
    """The fraction of tokens that are no "a"; at an "a" itself, the fraction among those that are none, which is one.

    The selector's keys and queries are values that a default has been filled into. tracr's compiled models get it
    wrong, as there the default is also written to the beginning-of-sequence position, and then selected.
    """
    not_a = tokens != "a"
    both_a = Select(tokens, tokens, lambda key, query: key == "a" and query == "a")
    filled = Aggregate(both_a, not_a, default=True).named("filled")
    either = Select(filled, filled, lambda key, query: key or query)
    return Aggregate(either, numerical(not_a), default=1).named("default_at_bos")


def make_numerical_categorical_aggregate() -> SOp:
    """The mean of numerically encoded tokens, of an encoding not said."""
    return Aggregate(EVERYWHERE, _numerical_copy(tokens))


def make_categorical_numerical_aggregate() -> SOp:
    """The mean of categorically encoded tokens, encoded numerically."""
    return numerical(Aggregate(EVERYWHERE, tokens))


def make_numerical_numerical_aggregate() -> SOp:
    """The mean of numerically encoded tokens, encoded numerically."""
    return numerical(Aggregate(EVERYWHERE, _numerical_copy(tokens), default=0))


def make_aggregate_with_default() -> SOp:
    """Each token out of a selection of its own position, with a default that is neither None nor zero."""
    return numerical(Aggregate(Select(indices, indices, Comparison.EQ), tokens, default=1))


def make_numerical_selector() -> SOp:
    """How many tokens are less than this one, keys and queries encoded numerically."""
    return SelectorWidth(Select(_numerical_copy(tokens), _numerical_copy(tokens), Comparison.LT))


def make_numerical_sequence_map() -> SOp:
    """Position plus token, both and the sum encoded numerically."""
    return numerical(SequenceMap(lambda x, y: x + y, _numerical_copy(indices), _numerical_copy(tokens)))


def make_categorical_linear_sequence_map() -> SOp:
    """Position plus token as a linear combination of categories."""
    return categorical(LinearSequenceMap(categorical(indices), categorical(tokens), 1, 1))


def make_numerical_tokens() -> SOp:
    """The tokens, encoded numerically."""
    return numerical(tokens)


def make_numerical_indices() -> SOp:
    """The positions, encoded numerically."""
    return numerical(indices)


def _numerical_copy(sop: SOp) -> SOp:
    return numerical(Map(lambda x: x, sop))


def examples() -> tuple[Example, ...]:
    """The programs above."""

    def on(vocab, make, specification, **more):
        return example(make, specification=specification, vocab=vocab, origin="tracr", **more)

    return (
        on(LETTERS, make_length_categorical, everywhere(len)),
        on(LETTERS, make_length_numerical, everywhere(len)),
        on(THREE, make_nary_sum, lambda xs: [2 * x - i for i, x in enumerate(xs)], causal=True),
        on(THREE, make_nary_ratio, lambda xs: [i * i / x for i, x in enumerate(xs)], causal=True),
        on(THREE, make_increment, lambda xs: [x + 1 for x in xs]),
        on(THREE, make_token_plus_index, _token_plus_index),
        on(THREE, make_token_plus_itself, lambda xs: [2 * x for x in xs]),
        on(THREE, make_mean_of_ones, lambda xs: [1] * len(xs)),
        on(LETTERS, make_causal_width, lambda xs: list(range(1, len(xs) + 1)), causal=True),
        on(("a", "b"), make_default_at_bos, _default_at_bos),
        on(THREE, make_numerical_categorical_aggregate, everywhere(_mean)),
        on(THREE, make_categorical_numerical_aggregate, at_each_prefix(_mean), causal=True),
        on(THREE, make_numerical_numerical_aggregate, everywhere(_mean)),
        on(THREE, make_aggregate_with_default, list),
        on(THREE, make_numerical_selector, lambda xs: [sum(y < x for y in xs) for x in xs]),
        on(THREE, make_numerical_sequence_map, _token_plus_index),
        on(THREE, make_categorical_linear_sequence_map, _token_plus_index),
        on(THREE, make_numerical_tokens, list),
        on(THREE, make_numerical_indices, lambda xs: list(range(len(xs)))),
    )


def _mean(xs: list[Value]) -> Value:
    return float(Fraction(sum(xs), len(xs)))


def _token_plus_index(xs: list[Value]) -> list[Value]:
    return [x + i for i, x in enumerate(xs)]


def _default_at_bos(xs: list[Value]) -> list[Value]:
    return [1 if x == "a" else (len(xs) - xs.count("a")) / len(xs) for x in xs]
