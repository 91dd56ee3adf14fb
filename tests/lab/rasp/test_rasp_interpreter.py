import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microtome.lab import rasp
from microtome.lab.rasp import (
    Aggregate,
    Comparison,
    ConstantSelector,
    ConstantSOp,
    Full,
    LinearSequenceMap,
    Map,
    Select,
    SelectorWidth,
    SequenceMap,
    evaluate,
    indices,
    length,
    tokens,
)
from microtome.lab.rasp.interpreter import trace

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


def test_a_none_key_or_query_is_selected_by_a_negation():
    equal = Select(NONE_AT_A, tokens, Comparison.EQ)
    assert evaluate(equal, [6, "a"]) == [[True, False], [False, False]]
    assert evaluate(~equal, [6, "a"]) == [[False, True], [True, True]]


def test_length_and_constants():
    assert evaluate(length, "xyz") == [3, 3, 3]
    assert evaluate(length, "xyz", causal=True) == [3, 3, 3]
    assert evaluate(Full(None), "xy") == [None, None]
    assert evaluate(ConstantSOp([1.0, "a"]), "xy") == [1, "a"]
    assert evaluate(ConstantSOp([1, 2], check_length=False), "xyz") == [1, 2, None]
    assert evaluate(ConstantSOp([1, 2], check_length=False), "x") == [1]


def test_a_constant_selector_is_masked_too():
    table = [[True, True], [False, True]]
    assert evaluate(ConstantSelector(table), "xy") == table
    assert evaluate(ConstantSelector(table), "xy", causal=True) == [[True, False], [False, True]]
    assert evaluate(ConstantSelector(table, check_length=False), "x") == [[True]]
    assert evaluate(ConstantSelector(table, check_length=False), "xyz") == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]


def test_a_map_of_many_s_ops_is_none_where_one_of_them_is():
    three = SequenceMap(lambda x, y, z: x + 10 * y + 100 * z, NONE_AT_A, indices, length)
    assert evaluate(three, "bab") == [306, None, 326]
    assert evaluate(SequenceMap(lambda x: x + 1, indices), "ab") == [1, 2]
    assert evaluate(LinearSequenceMap(NONE_AT_A, indices, 2, -0.5), "bab") == [12, None, 11]


REDUCED = {
    "mean": [5, 5, 3, 3],
    "max": [5, 5, 5, 5],
    "min": [5, 5, 1, 1],
    "first": [5, 5, 5, 5],
    "last": [5, 5, 1, 3],
}


@pytest.mark.parametrize("reduction", REDUCED)
def test_reductions_skip_none(reduction):
    values = ConstantSOp([5, None, 1, 3])
    so_far = Select(indices, indices, Comparison.LEQ)
    assert evaluate(Aggregate(so_far, values, reduction=reduction), "abcd") == REDUCED[reduction]
    last_alone = Select(indices, indices, lambda key, query: key == 1 and query < 2)
    alone = Aggregate(last_alone, values, default=7, reduction=reduction)
    assert evaluate(alone, "abcd") == [None, None, 7, 7]


def test_the_greatest_and_the_least_of_values_that_are_not_numbers():
    assert evaluate(Aggregate(ALL, tokens, reduction="max"), "bca") == ["c"] * 3
    pairs = SequenceMap(lambda t, i: (t, -i), tokens, indices)
    assert evaluate(Aggregate(ALL, pairs, reduction="min"), "aba") == [("a", -2)] * 3


VALUES = st.lists(st.sampled_from([None, -2, 0, 0.5, 1, 3]), min_size=1, max_size=6)


@settings(max_examples=50, deadline=None)
@given(VALUES, st.booleans(), st.sampled_from(["mean", "max", "min", "first", "last"]))
def test_a_reduction_agrees_with_python_over_what_it_selects(values, causal, reduction):
    same_sign = Select(ConstantSOp(values), ConstantSOp(values), lambda key, query: (key < 0) == (query < 0))
    found = evaluate(
        Aggregate(same_sign, ConstantSOp(values), default="none", reduction=reduction), values, causal=causal
    )
    python = {
        "mean": lambda xs: sum(xs) / len(xs),
        "max": max,
        "min": min,
        "first": lambda xs: xs[0],
        "last": lambda xs: xs[-1],
    }[reduction]
    for i, query in enumerate(values):
        visible = values[: i + 1] if causal else values
        chosen = [] if query is None else [x for x in visible if x is not None and (x < 0) == (query < 0)]
        assert found[i] == ("none" if not chosen else pytest.approx(python(chosen), rel=1e-15))


TOKENS = st.lists(st.sampled_from([0, 1, 2, None]), min_size=1, max_size=5)
SOPS = st.sampled_from(
    [ConstantSOp([0, 1, None, 2, 1], check_length=False), indices, length - indices, tokens, Full(1)]
)
COMPARED = st.builds(Select, SOPS, SOPS, st.sampled_from(Comparison))
SELECTORS = st.recursive(
    COMPARED,
    lambda inner: (
        st.builds(rasp.SelectorNot, inner)
        | st.builds(rasp.SelectorAnd, inner, inner)
        | st.builds(rasp.SelectorOr, inner, inner)
    ),
    max_leaves=4,
)


@settings(max_examples=50, deadline=None)
@given(SELECTORS, SELECTORS, TOKENS, st.booleans())
def test_selectors_form_a_boolean_algebra(fst, snd, xs, causal):
    def table(selector):
        return evaluate(selector, xs, causal=causal)

    n = len(xs)
    visible = [[k <= q or not causal for k in range(n)] for q in range(n)]
    pairs = [(q, k) for q in range(n) for k in range(n)]
    both, either, neither = table(fst & snd), table(fst | snd), table(~(fst | snd))
    for q, k in pairs:
        x, y = table(fst)[q][k], table(snd)[q][k]
        assert both[q][k] == (x and y)
        assert either[q][k] == (x or y)
        assert neither[q][k] == (visible[q][k] and not x and not y)
    assert table(~fst & ~snd) == neither
    assert table(~~fst) == table(fst)
    widths = zip(*(table(SelectorWidth(selector)) for selector in (fst, ~fst)), strict=True)
    assert [sum(pair) for pair in widths] == [sum(row) for row in visible]


@settings(max_examples=50, deadline=None)
@given(SELECTORS, TOKENS)
def test_causal_values_do_not_depend_on_what_comes_later(selector, xs):
    program = SequenceMap(lambda x, y: (x, y), SelectorWidth(selector), Aggregate(selector, indices, default=-1))
    if not any(child is length for child in trace(selector, xs)):
        whole = evaluate(program, xs, causal=True)
        assert all(evaluate(program, xs[:n], causal=True) == whole[:n] for n in range(1, len(xs)))


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
        (Aggregate(ALL, tokens, reduction="max"), ["a", 1], "'a' and 1 cannot be compared"),
        (ConstantSOp([1, 2]), "abc", "a constant of length 2 does not fit an input of length 3"),
        (ConstantSelector([[1]]), "ab", "a constant of length 1 does not fit an input of length 2"),
    ],
)
def test_what_is_not_defined_is_named_in_one_sentence(program, inputs, sentence):
    with pytest.raises(rasp.RaspError, match=sentence) as error:
        evaluate(program, inputs)
    assert "\n" not in str(error.value)
    assert error.value.expression is program


def test_an_error_begins_with_the_line_of_the_program():
    program = 1 / (tokens - 1)
    with pytest.raises(rasp.UndefinedError) as error:
        (program + 1)([2, 1])
    assert str(error.value).startswith(f"{program.where}: the function is not defined on 0")
    assert "test_rasp_interpreter.py" in program.where


def test_an_input_is_not_blamed_on_the_program():
    with pytest.raises(rasp.InputError, match=r"^an input must hold at least one token"):
        (tokens + 1)([])
