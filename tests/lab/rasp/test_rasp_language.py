import dataclasses
import inspect
import operator
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microtome.lab import rasp
from microtome.lab.rasp import (
    Aggregate,
    Comparison,
    ConstantSelector,
    ConstantSOp,
    Encoding,
    Full,
    LinearSequenceMap,
    Map,
    Select,
    SelectorAnd,
    SelectorNot,
    SelectorOr,
    SelectorWidth,
    SequenceMap,
    indices,
    length,
    tokens,
)
from microtome.lab.rasp.language import Infix, Joined, Linear, Partial, topological

SAME = Select(tokens, tokens, Comparison.EQ)
BEFORE = Select(indices, indices, Comparison.LT)
EVERY_KIND = {
    "tokens": tokens,
    "indices": indices,
    "length": length,
    "full": Full(1),
    "constant_sop": ConstantSOp([1, 2]),
    "map": Map(abs, tokens),
    "sequence_map": SequenceMap(max, tokens, indices, length),
    "linear_sequence_map": LinearSequenceMap(tokens, indices, 2, -1),
    "selector_width": SelectorWidth(SAME),
    "aggregate": Aggregate(SAME, tokens, default=0, reduction="max"),
    "select": SAME,
    "selector_and": SAME & BEFORE,
    "selector_or": SAME | BEFORE,
    "selector_not": ~SAME,
    "constant_selector": ConstantSelector([[True, False], [True, True]]),
}


@pytest.mark.parametrize(
    ("expression", "shown"),
    [
        (tokens, "tokens"),
        (tokens + 1, "tokens + 1"),
        (1 - indices, "1 - indices"),
        ((tokens + indices) * 2, "(tokens + indices) * 2"),
        (tokens == "a", "tokens == 'a'"),
        (~(tokens < 3), "~(tokens < 3)"),
        (Map(len, tokens), "Map(len, tokens)"),
        (Map(lambda x: x, tokens), "Map(λ, tokens)"),
        (SequenceMap(max, tokens, indices), "SequenceMap(max, tokens, indices)"),
        (SAME, "Select(tokens, tokens, EQ)"),
        (SelectorWidth(SAME.named("same")).named("hist"), "SelectorWidth(same).named('hist')"),
        (Aggregate(SAME, tokens), "Aggregate(Select(tokens, tokens, EQ), tokens)"),
        (Aggregate(SAME, indices, default=2.0), "Aggregate(Select(tokens, tokens, EQ), indices, default=2)"),
        (tokens.named("x") - 1, "x - 1"),
        ((tokens + 1).named("next"), "(tokens + 1).named('next')"),
        ((~tokens).named("no"), "(~tokens).named('no')"),
        (-(tokens % 3) // 2, "-(tokens % 3) // 2"),
        (length, "length"),
        (Full("a"), "Full('a')"),
        (ConstantSOp([1, None], check_length=False), "ConstantSOp([1, None], check_length=False)"),
        (SequenceMap(max, tokens, indices, length), "SequenceMap(max, tokens, indices, length)"),
        (LinearSequenceMap(tokens, indices, 1, -2.0), "LinearSequenceMap(tokens, indices, 1, -2)"),
        (Aggregate(SAME, tokens, reduction="max"), "Aggregate(Select(tokens, tokens, EQ), tokens, reduction='max')"),
        (SAME & BEFORE, "Select(tokens, tokens, EQ) & Select(indices, indices, LT)"),
        (~(SAME.named("same") | BEFORE.named("before")), "~(same | before)"),
        (SAME & Select(tokens, Full(1), Comparison.NEQ), "Select(tokens, tokens, EQ & NEQ[query=1])"),
        (ConstantSelector([[True]]), "ConstantSelector([[1]])"),
        (rasp.numerical(tokens + 1).named("x"), "numerical((tokens + 1).named('x'))"),
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
        (tokens % 2, [0, 1, 1]),
        (5 % (tokens + 3), [0, 1, 1]),
        (tokens // 2, [1, -1, 0]),
        (7 // (tokens + 3), [1, 3, 1]),
        (-tokens, [-2, 1, -1]),
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
        (lambda: SequenceMap(max), "SequenceMap takes at least one s-op beside its function"),
        (lambda: SequenceMap(len, tokens).snd, "reads one s-op, and so has no snd"),
        (lambda: Aggregate(SAME, tokens, reduction="sum"), "one of 'mean', 'max', 'min', 'first', 'last', not 'sum'"),
        (lambda: SAME & tokens, "SelectorAnd takes a selector here, not Tokens tokens"),
        (lambda: ~SAME | 3, "SelectorOr takes a selector here, not int 3"),
        (lambda: SelectorNot(tokens), "SelectorNot takes a selector here"),
        (lambda: ConstantSelector([[True, False]]), "a square table, not 1 rows of 2 entries"),
        (lambda: ConstantSOp([1, [2]]), r"\[2\] cannot stand beside an s-op: unhashable"),
        (lambda: Full({}), "cannot stand beside an s-op: unhashable"),
        (lambda: LinearSequenceMap(tokens, tokens, float("nan"), 1), "nan is not finite"),
        (lambda: rasp.numerical(SAME), "a selector has no encoding; only s-ops have"),
        (lambda: rasp.annotate(tokens, encoding="binary"), "an encoding is 'categorical' or 'numerical', not 'binary'"),
        (lambda: rasp.annotate(tokens, name=3), "a name must be a non-empty string, not 3"),
        (lambda: bool(tokens == 1), r"no truth value of its own.*\(in tokens == 1\)"),
    ],
)
@pytest.mark.usefixtures("untyped")
def test_what_does_not_fit_is_refused_when_it_is_built(build, sentence):
    with pytest.raises(rasp.ExpressionError, match=sentence) as error:
        build()
    assert isinstance(error.value, ValueError)
    assert "\n" not in str(error.value)


OPERATORS = [
    operator.add,
    operator.sub,
    operator.mul,
    operator.truediv,
    operator.floordiv,
    operator.mod,
    operator.eq,
    operator.ne,
    operator.lt,
    operator.le,
    operator.gt,
    operator.ge,
]
NUMBERS = st.integers(-9, 9) | st.fractions(-3, 3, max_denominator=8).map(float)


@settings(max_examples=50, deadline=None)
@given(st.sampled_from(OPERATORS), NUMBERS, st.lists(NUMBERS, min_size=1, max_size=5))
def test_an_operator_is_pythons_at_each_position(op, constant, xs):
    safe = op not in (operator.truediv, operator.floordiv, operator.mod)
    if safe or constant:
        assert op(tokens, constant)(xs) == [op(x, constant) for x in xs]
    if safe or all(xs):
        assert op(constant, tokens)(xs) == [op(constant, x) for x in xs]
        assert op(indices, tokens)(xs) == [op(i, x) for i, x in enumerate(xs)]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from([True, False, 0, 3, "", "a"]), min_size=1, max_size=5), st.booleans())
def test_and_or_and_not_are_pythons_at_each_position(xs, constant):
    reverse = ConstantSOp(xs[::-1])
    for sop, values in [
        (tokens & constant, [x and constant for x in xs]),
        (constant & tokens, [constant and x for x in xs]),
        (tokens | constant, [x or constant for x in xs]),
        (constant | tokens, [constant or x for x in xs]),
        (tokens & reverse, [x and y for x, y in zip(xs, xs[::-1], strict=True)]),
        (tokens | reverse, [x or y for x, y in zip(xs, xs[::-1], strict=True)]),
        (~tokens, [not x for x in xs]),
        (rasp.sop_not(tokens), [not x for x in xs]),
    ]:
        found = sop(xs)
        assert found == values
        assert list(map(type, found)) == list(map(type, values))


def test_functions_are_equal_if_they_do_the_same():
    assert Partial(Infix("+"), 1) == Partial(Infix("+"), 1)
    assert Partial(Infix("+"), 1) != Partial(Infix("+"), True)
    assert Linear((1, 2)) == Linear((1, 2)) != Linear((2, 1))
    assert len({Joined("&", Comparison.EQ, Comparison.LT), Joined("&", Comparison.EQ, Comparison.LT)}) == 1
    assert Joined("&", Comparison.EQ, Comparison.LT) != Joined("|", Comparison.EQ, Comparison.LT)


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_an_expression_can_be_rebuilt_on_its_own_children(kind):
    expression = EVERY_KIND[kind].named("it").annotated(note=3)
    rebuilt = expression.with_children(expression.children)
    assert rebuilt is not expression
    assert type(rebuilt) is type(expression)
    assert repr(rebuilt) == repr(expression)
    assert (rebuilt.name, rebuilt.where, rebuilt.annotations["note"]) == ("it", expression.where, 3)
    assert all(new is old for new, old in zip(rebuilt.children, expression.children, strict=True))
    assert len({expression.unique_id, rebuilt.unique_id, expression.copy().unique_id}) == 3


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_an_expression_can_be_rebuilt_on_other_children(kind):
    expression = EVERY_KIND[kind]
    others = [child.copy() for child in expression.children]
    rebuilt = expression.with_children(others)
    assert all(new is other for new, other in zip(rebuilt.children, others, strict=True))
    assert rebuilt([2, 1]) == expression([2, 1])
    assert all(new is not old for new, old in zip(rebuilt.children, expression.children, strict=True))


@pytest.mark.usefixtures("untyped")
def test_children_that_do_not_fit_are_refused():
    with pytest.raises(rasp.ExpressionError, match="Aggregate reads 2 expressions here, not 1"):
        Aggregate(SAME, tokens).with_children([SAME])
    with pytest.raises(rasp.ExpressionError, match="SequenceMap reads 2 expressions here, not 3"):
        SequenceMap(max, tokens, indices).with_children([tokens, tokens, tokens])
    with pytest.raises(rasp.ExpressionError, match="Aggregate takes a selector here, not Tokens tokens"):
        Aggregate(SAME, tokens).with_children([tokens, tokens])


def test_arguments_of_a_sequence_map_have_names_too():
    by_name = SequenceMap(operator.sub, fst=tokens, snd=indices)
    assert by_name([5, 5]) == SequenceMap(operator.sub, tokens, snd=indices)([5, 5]) == [5, 4]
    assert (by_name.fst, by_name.snd) == (by_name.sops[0], by_name.sops[1]) == by_name.children


def test_annotations_survive_naming_and_are_read_only():
    sop = rasp.annotate(rasp.numerical(tokens), colour="red").named("x")
    assert dict(sop.annotations) == {"name": "x", "encoding": Encoding.NUMERICAL, "colour": "red"}
    assert rasp.is_numerical(sop)
    assert rasp.is_categorical(rasp.categorical(sop))
    assert rasp.categorical(sop).name == "x"
    assert rasp.is_categorical(tokens)
    assert rasp.annotate(tokens, encoding="numerical").annotations["encoding"] is Encoding.NUMERICAL
    assert "encoding" not in SAME.annotations
    with pytest.raises(TypeError):
        sop.annotations["colour"] = "blue"
    with pytest.raises(KeyError, match="no annotation 'color'; did you mean 'colour'"):
        sop.annotations["color"]
    with pytest.raises(KeyError, match="there are 'encoding', 'name'"):
        tokens.annotations["x"]


def here() -> str:
    return f"{__file__.rpartition('/')[2]}:{inspect.currentframe().f_back.f_lineno}"


def test_an_expression_knows_the_line_that_made_it():
    made, line = tokens + 1, here()
    assert made.where == line
    composite, line = SAME & BEFORE, here()
    assert composite.where == line
    variadic, line = SequenceMap(max, tokens, indices, length), here()
    assert variadic.where == line
    joined, line = SAME & ~SAME, here()
    assert joined.where == line
    linear, line = LinearSequenceMap(tokens, indices, 1, 1), here()
    assert linear.where == line
    assert rasp.numerical(made).named("x").copy().where == made.where


def test_a_program_that_is_not_in_a_file_has_the_line_of_its_own_text():
    names = {}
    exec(compile("from microtome.lab.rasp import tokens\nprogram = tokens * 2", "notebook.py", "exec"), names)
    assert names["program"].where == "notebook.py:2"


def test_the_inputs_were_made_by_no_program():
    assert tokens.where is indices.where is length.where is None


def test_chains_far_beyond_the_recursion_limit_can_be_built_printed_and_run():
    expression = tokens
    for i in range(3000):
        expression = expression + i
    assert len(repr(expression)) < 200
    assert expression([1]) == [1 + sum(range(3000))]


def test_selectors_of_the_same_keys_and_queries_join_into_one():
    joined = Select(tokens, indices, Comparison.GEQ) & Select(tokens, indices, Comparison.LEQ)
    assert isinstance(joined, Select)
    assert joined.keys is tokens
    assert joined.queries is indices
    assert isinstance(SAME | Select(tokens, tokens, Comparison.LT), Select)
    assert isinstance(rasp.selector_and(SAME, SAME, simplify=False), SelectorAnd)
    assert isinstance(rasp.selector_or(SAME, SAME, simplify=False), SelectorOr)
    assert isinstance(SAME.named("same") & SAME, SelectorAnd)  # a name is there to be seen
    assert isinstance(SAME & BEFORE, SelectorAnd)
    assert isinstance(SAME & Select(tokens, Full(1), Comparison.LT), Select)
    assert isinstance(SAME | Select(tokens, Full(1), Comparison.LT), SelectorOr)
    assert isinstance(rasp.selector_not(SAME), SelectorNot)
    assert rasp.selector_not(~SAME) is SAME
    assert isinstance(rasp.selector_not(~SAME, simplify=False), SelectorNot)


SIDES = st.sampled_from([tokens, indices, Full(1), Full(None), Map({"a": 0}.get, tokens), tokens == "a"])
EQUALITIES = st.sampled_from([Comparison.EQ, Comparison.NEQ, Comparison.TRUE, Comparison.FALSE])
SELECTS = st.builds(Select, SIDES, SIDES, EQUALITIES)


@settings(max_examples=100, deadline=None)
@given(SELECTS, SELECTS, st.lists(st.sampled_from("ab"), min_size=1, max_size=4), st.booleans())
def test_joining_selectors_changes_nothing_none_included(fst, snd, xs, causal):
    for join in (rasp.selector_and, rasp.selector_or):
        plain = rasp.evaluate(join(fst, snd, simplify=False), xs, causal=causal)
        assert rasp.evaluate(join(fst, snd), xs, causal=causal) == plain


def test_writing_and_interpreting_needs_neither_torch_nor_transformer_lens():
    code = (
        "import sys; from microtome.lab import rasp; from microtome.lab.rasp import printing;"
        "rasp.length('aba'); printing.source(rasp.length + 1);"
        "print([m for m in ('torch', 'transformer_lens', 'matplotlib', 'scipy') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
