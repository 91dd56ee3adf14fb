import dataclasses
import subprocess
import sys

import pytest

from microtome.lab import rasp
from microtome.lab.rasp import Aggregate, Comparison, Map, Select, SelectorWidth, SequenceMap, indices, tokens
from microtome.lab.rasp.language import topological

SAME = Select(tokens, tokens, Comparison.EQ)


@pytest.mark.parametrize(
    ("expression", "shown"),
    [
        (tokens, "tokens"),
        (tokens + 1, "tokens + 1"),
        (1 - indices, "1 - indices"),
        ((tokens + indices) * 2, "(tokens + indices) * 2"),
        (tokens == "a", "tokens == 'a'"),
        (~(tokens < 3), "Map(not_, tokens < 3)"),
        (Map(len, tokens), "Map(len, tokens)"),
        (Map(lambda x: x, tokens), "Map(λ, tokens)"),
        (SequenceMap(max, tokens, indices), "SequenceMap(max, tokens, indices)"),
        (SAME, "Select(tokens, tokens, EQ)"),
        (SelectorWidth(SAME.named("same")).named("hist"), "SelectorWidth(same).named('hist')"),
        (Aggregate(SAME, tokens), "Aggregate(Select(tokens, tokens, EQ), tokens)"),
        (Aggregate(SAME, indices, default=2.0), "Aggregate(Select(tokens, tokens, EQ), indices, default=2)"),
        (tokens.named("x") - 1, "x - 1"),
    ],
)
def test_an_expression_prints_as_it_would_be_typed(expression, shown):
    assert repr(expression) == shown


def test_long_expressions_print_shortly():
    expression = tokens
    for _ in range(200):
        expression = SequenceMap(min, expression, expression)
    assert len(repr(expression)) < 200
    assert sum(1 for _ in topological(expression)) == 201


@pytest.mark.parametrize(
    ("expression", "values"),
    [
        (tokens + 1, [3, 0, 2]),
        (1 + tokens, [3, 0, 2]),
        (tokens - 1, [1, -2, 0]),
        (1 - tokens, [-1, 2, 0]),
        (tokens * 2, [4, -2, 2]),
        (2 / (tokens + 2), [0.5, 2, 2 / 3]),
        (tokens / 2, [1, -0.5, 0.5]),
        (tokens < 1, [False, True, False]),
        (1 < tokens, [True, False, False]),  # noqa: SIM300
        (tokens <= 1, [False, True, True]),
        (tokens >= 1, [True, False, True]),
        (tokens > 1, [True, False, False]),
        (tokens == 1, [False, False, True]),
        (tokens != 1, [True, True, False]),
        (tokens - indices, [2, -2, -1]),
        (tokens == indices - 1, [False, False, True]),
        (~(tokens == 1), [True, True, False]),
        ((tokens > 0) & (indices > 0), [False, False, True]),
        ((tokens > 1) | (indices > 1), [True, False, True]),
        (0 | (tokens > 1), [True, False, False]),
        (1 & (tokens > 1), [True, False, False]),
    ],
)
def test_operators_act_at_each_position(expression, values):
    assert rasp.evaluate(expression, [2, -1, 1]) == values


@pytest.mark.parametrize(
    ("comparison", "selected"),
    [
        ("EQ", [[1, 0], [0, 1]]),
        ("NEQ", [[0, 1], [1, 0]]),
        ("LT", [[0, 0], [1, 0]]),
        ("LEQ", [[1, 0], [1, 1]]),
        ("GT", [[0, 1], [0, 0]]),
        ("GEQ", [[1, 1], [0, 1]]),
        ("TRUE", [[1, 1], [1, 1]]),
        ("FALSE", [[0, 0], [0, 0]]),
    ],
)
def test_a_comparison_takes_the_key_first(comparison, selected):
    assert rasp.evaluate(Select(tokens, tokens, Comparison[comparison]), [3, 5]) == selected


def test_expressions_are_immutable_and_keep_their_identity():
    expression = tokens + 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        expression.inner = indices
    renamed = expression.named("next")
    assert renamed is not expression
    assert expression.name is None
    assert renamed.label == "next"
    assert len({expression, renamed, tokens, indices}) == 4


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: Map(len, "tokens"), "Map takes an s-op here, not str 'tokens'"),
        (lambda: Map(tokens, tokens), "Map takes a function here"),
        (lambda: SequenceMap(max, tokens, 3), "SequenceMap takes an s-op here, not int 3"),
        (lambda: Select(tokens, SAME, Comparison.EQ), "Select takes an s-op here, not Select"),
        (lambda: Select(tokens, tokens, "=="), "Select takes a function here, not str '=='"),
        (lambda: SelectorWidth(tokens), "SelectorWidth takes a selector here, not Tokens tokens"),
        (lambda: Aggregate(tokens, tokens), "Aggregate takes a selector here, not Tokens tokens"),
        (lambda: Aggregate(SAME, tokens, default=float("nan")), "nan is not finite"),
        (lambda: tokens * [1], "cannot stand beside an s-op: unhashable"),
        (lambda: tokens == float("inf"), "inf is not finite"),
        (lambda: tokens.named(""), "a name must be a non-empty string"),
        (lambda: bool(tokens == 1), r"no truth value of its own.*\(in tokens == 1\)"),
    ],
)
@pytest.mark.usefixtures("untyped")
def test_what_does_not_fit_is_refused_when_it_is_built(build, sentence):
    with pytest.raises(rasp.ExpressionError, match=sentence) as error:
        build()
    assert isinstance(error.value, ValueError)
    assert "\n" not in str(error.value)


def test_writing_and_interpreting_needs_neither_torch_nor_transformer_lens():
    code = (
        "import sys; from microtome.lab import rasp; from microtome.lab.rasp import library;"
        "rasp.evaluate(library.make_hist(), 'aba');"
        "print([m for m in ('torch', 'transformer_lens') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
