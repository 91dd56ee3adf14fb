import pytest

from microtome.lab import rasp
from microtome.lab.rasp import Aggregate, Comparison, Map, Select, SelectorWidth, SequenceMap, evaluate, indices, tokens

ALL = Select(tokens, tokens, Comparison.TRUE)
NONE_AT_A = Map(lambda t: None if t == "a" else 6, tokens)


def test_indices_tokens_and_widths():
    assert evaluate(indices, "xyz") == [0, 1, 2]
    assert evaluate(tokens, "xyz") == ["x", "y", "z"]
    assert evaluate(SelectorWidth(ALL), "xyz") == [3, 3, 3]


def test_a_causal_query_sees_itself_and_what_came_before():
    assert evaluate(SelectorWidth(ALL), "xyz", causal=True) == [1, 2, 3]
    later = Select(indices, indices, Comparison.GT)
    assert evaluate(SelectorWidth(later), "xyz", causal=True) == [0, 0, 0]
    assert evaluate(SelectorWidth(later), "xyz") == [2, 1, 0]


def test_an_aggregate_is_the_mean_or_the_default():
    before = Select(indices, indices, Comparison.LT)
    assert evaluate(Aggregate(before, tokens), [4, -1, 0]) == [None, 4, 1.5]
    assert evaluate(Aggregate(before, tokens, default=-7), [4, -1, 0]) == [-7, 4, 1.5]
    assert evaluate(Aggregate(before, tokens == 4, default=False), [4, -1, 0]) == [False, True, 0.5]


def test_an_aggregate_of_strings_takes_their_common_value():
    same = Select(tokens, tokens, Comparison.EQ)
    assert evaluate(Aggregate(same, tokens), "aba") == ["a", "b", "a"]


def test_functions_are_not_called_on_none():
    never = SequenceMap(lambda x, y: x + y, NONE_AT_A, indices)
    assert evaluate(never, "abab") == [None, 7, None, 9]
    assert evaluate(Map(lambda x: x + 1, NONE_AT_A), "ab") == [None, 7]


def test_none_selects_nothing_and_is_never_selected():
    always = Select(NONE_AT_A, indices, Comparison.TRUE)
    assert evaluate(SelectorWidth(always), "aab") == [1, 1, 1]
    mirrored = Select(indices, NONE_AT_A, Comparison.TRUE)
    assert evaluate(SelectorWidth(mirrored), "aab") == [0, 0, 3]


def test_an_average_skips_none_unless_there_is_nothing_else():
    assert evaluate(Aggregate(ALL, NONE_AT_A, default=0), "aab") == [6, 6, 6]
    assert evaluate(Aggregate(ALL, NONE_AT_A, default=0), "aa") == [None, None]


def test_values_are_plain():
    halves = evaluate(tokens / 2, [2, 3])
    assert halves == [1, 1.5]
    assert type(halves[0]) is int


@pytest.mark.parametrize(
    ("program", "inputs", "sentence"),
    [
        (tokens, "", "at least one token"),
        (1 / tokens, [1, 0], r"not defined on 0: ZeroDivisionError: division by zero \(in 1 / tokens\)"),
        (tokens + indices, "ab", "not defined on 'a', 0: TypeError"),
        (Map(lambda x: [x], tokens), "a", "not defined on 'a': TypeError: unhashable"),
        (Map(lambda x: float("nan"), tokens), "a", "not defined on 'a': ValueError: nan is not finite"),
        (Select(tokens, indices, Comparison.LT), "a", "not defined on 'a', 0: TypeError"),
        (Aggregate(ALL, tokens), "ab", "cannot be averaged"),
    ],
)
def test_what_is_not_defined_is_named_in_one_sentence(program, inputs, sentence):
    with pytest.raises(rasp.RaspError, match=sentence) as error:
        evaluate(program, inputs)
    assert "\n" not in str(error.value)
    assert error.value.expression is program
