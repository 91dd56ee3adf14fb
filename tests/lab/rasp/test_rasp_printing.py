import math
import operator

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
    indices,
    length,
    tokens,
)
from microtome.lab.rasp.lambdas import function_text
from microtome.lab.rasp.language import Linear
from microtome.lab.rasp.printing import source

SAME = Select(tokens, tokens, Comparison.EQ)
NAMES = {"Linear": Linear, "math": math, **{name: getattr(rasp, name) for name in rasp.__all__}}

THREE = 3


def run(text: str) -> rasp.Expression:
    """The program that the last line of the text assigns."""
    names = dict(NAMES)
    exec(text, names)
    return names[text.splitlines()[-1].partition(" = ")[0]]


def shifted(by: int) -> rasp.SOp:
    return Aggregate(Select(indices, indices, lambda key, query: query == key + by), tokens).named(f"shift {by}")


def doubled(x: int) -> int:
    return 2 * x


@pytest.mark.parametrize(
    ("program", "text"),
    [
        (tokens, "program = tokens"),
        (rasp.numerical(tokens), "program = numerical(tokens)"),
        (rasp.annotate(tokens, colour="red"), "program = annotate(tokens, colour='red')"),
        (1 - (tokens + 1) * -2, "program = 1 - ((tokens + 1) * -2)"),
        (-tokens % 3, "program = -tokens % 3"),
        (~(tokens == "a") & (indices < length), "program = ~(tokens == 'a') & (indices < length)"),
        (Map(lambda x: x + 1, tokens), "program = Map(lambda x: x + 1, tokens)"),
        (Map(abs, Map(math.floor, tokens)), "program = Map(abs, Map(math.floor, tokens))"),
        (Map({"a": 1}.get, tokens), "program = Map({'a': 1}.get, tokens)"),
        (Map(doubled, tokens), "program = Map(doubled, tokens)"),
        (SequenceMap(max, tokens, indices, length), "program = SequenceMap(max, tokens, indices, length)"),
        (SequenceMap(Linear((1, 2, 3)), tokens, indices, length), "Linear((1, 2, 3)), tokens, indices, length)"),
        (LinearSequenceMap(tokens, indices, 0.5, -1), "program = LinearSequenceMap(tokens, indices, 0.5, -1)"),
        (Full(None), "program = Full(None)"),
        (ConstantSOp(["a", 1]), "program = ConstantSOp(['a', 1])"),
        (ConstantSelector([[1]], check_length=False), "program = ConstantSelector([[1]], check_length=False)"),
        (SelectorWidth(SAME), "program = SelectorWidth(Select(tokens, tokens, Comparison.EQ))"),
        (
            Aggregate(~SAME, tokens, 0, "max"),
            "Aggregate(~Select(tokens, tokens, Comparison.EQ), tokens, default=0, red",
        ),
        (
            SAME & Select(tokens, Full(2), Comparison.LT),
            "Select(tokens, tokens, Comparison.EQ) & Select(tokens, Full(2), Comparison.LT)",
        ),
        (SelectorWidth(SAME.named("same")).named("hist"), "same = Select(tokens, tokens, Comparison.EQ)\nhist = Sele"),
        (tokens.named("x") + 1, "x = tokens\nprogram = x + 1"),
        (shifted(2), "select = Select(indices, indices, lambda key, query: query == key + 2)\nshift_2 = Aggregate(sel"),
        ((tokens + 1).named("max") + 1, "max_2 = (tokens + 1).named('max')\nprogram = max_2 + 1"),
        ((tokens + 1).named("program") * 2, "program_2 = (tokens + 1).named('program')\nprogram = program_2 * 2"),
        (
            Map(doubled, (tokens + 1).named("doubled")),
            "doubled_2 = (tokens + 1).named('doubled')\nprogram = Map(doubled,",
        ),
        ((tokens + 1).named("2nd"), "_2nd = (tokens + 1).named('2nd')"),
        ((tokens + 1).named("+"), "result = (tokens + 1).named('+')"),
    ],
)
def test_a_program_prints_as_it_would_be_written(program, text):
    assert text in source(program)


def test_what_is_shared_or_named_has_a_line_and_nothing_else():
    both = tokens + indices
    program = (both * both).named("square") - 1
    assert source(program).splitlines() == [
        "sequence_map = tokens + indices",
        "square = sequence_map * sequence_map",
        "program = square - 1",
    ]


def test_equal_names_give_different_variables():
    program = (tokens + 1).named("x") * (tokens + 2).named("x")
    assert source(program).splitlines() == [
        "x = tokens + 1",
        "x_2 = (tokens + 2).named('x')",
        "program = x * x_2",
    ]


def test_arguments_of_a_long_line_get_lines_of_their_own():
    program = SequenceMap(lambda *values: max(values), *(((tokens + i) * (indices + i)) % (7 + i) for i in range(5)))
    assert source(program).splitlines() == [
        *(f"map_{i + 2} = ((tokens + {i}) * (indices + {i})) % {7 + i}" for i in range(5)),
        "program = SequenceMap(lambda *values: max(values), map_2, map_3, map_4, map_5, map_6)",
    ]


def test_a_lambda_whose_file_has_changed_is_not_shown_as_another(tmp_path):
    file = tmp_path / "program.py"
    file.write_text("f = lambda x: x + 1\n")
    names = {}
    exec(compile(file.read_text(), file, "exec"), names)
    file.write_text("f = lambda x: x + 2\n")
    assert function_text(names["f"]) == "<lambda>"


def test_long_programs_print_in_lines_that_can_be_read():
    program = tokens
    for i in range(2000):
        program = program * program if i % 5 == 0 else program + i
    lines = source(program).splitlines()
    assert max(map(len, lines)) < 160
    assert len(lines) == 400


def composed(f, g):
    return lambda x: f(g(x))


@pytest.mark.parametrize(
    ("f", "text"),
    [
        (len, "len"),
        (str, "str"),
        (str.upper, "upper"),
        (operator.itemgetter(0), "<itemgetter>"),
        ("ab".index, "'ab'.index"),
        (composed(lambda x: x + 1, abs), "lambda x: (lambda x: x + 1)(abs(x))"),
        (composed(doubled, lambda x: -x), "lambda x: doubled((lambda x: -x)(x))"),
        ((lambda k: lambda x, k=k: x + k)(-3), "lambda x, k=-3: x + k"),
        ((lambda k: lambda x: (lambda k: k + x)(k))(7), "lambda x: (lambda k: k + x)(7)"),
        ((lambda signs: lambda t: signs.get(t, 0))({"(": 1}), "lambda t: {'(': 1}.get(t, 0)"),
        ((lambda big: lambda x: big)("a" * 99), "lambda x: big"),
        (lambda x: doubled(x) + THREE, "lambda x: doubled(x) + 3"),
        (eval("lambda x: x"), "<lambda>"),
    ],
)
def test_functions_print_with_what_they_took_from_around_them(f, text):
    assert function_text(f) == text


def test_lambdas_on_one_line_are_told_apart():
    first, second, third = (lambda x: x + 1), (lambda x: x + 2), (lambda y: lambda x: x + y)
    assert [function_text(f) for f in (first, second)] == ["lambda x: x + 1", "lambda x: x + 2"]
    assert function_text(third) == "lambda y: lambda x: x + y"
    assert function_text(third(1)) == "lambda x: x + 1"


NUMBERS = st.integers(-3, 3)


def made(kind: int, x: rasp.SOp, y: rasp.SOp, c: int, selector: rasp.Selector) -> rasp.Expression:
    """An expression of one of sixteen kinds on these parts."""
    return [
        lambda: x + y,
        lambda: c - x,
        lambda: x * c,
        lambda: x == y,
        lambda: ~x,
        lambda: -x,
        lambda: Map(lambda v: (v + c) % 5, x),
        lambda: SequenceMap(max, x, y, tokens),
        lambda: LinearSequenceMap(x, y, c, 1),
        lambda: SelectorWidth(selector),
        lambda: Aggregate(selector, x, c, "max"),
        lambda: Aggregate(selector, x, reduction="first"),
        lambda: Select(x, y, lambda key, query: key + c == query),
        lambda: selector & Select(x, y, Comparison.LEQ),
        lambda: selector | Select(x, Full(c), Comparison.NEQ),
        lambda: ~selector,
    ][kind]()


NAMED = [None, None, "a", "b c", "3", "length", "max"]
PARTS = st.integers(0, 99)
STEPS = st.lists(
    st.tuples(st.integers(0, 15), PARTS, PARTS, PARTS, NUMBERS, st.sampled_from(NAMED)), min_size=1, max_size=12
)


def built(steps: list[tuple]) -> rasp.SOp:
    """A program whose steps read any of the steps before them."""
    sops, selectors = [tokens, indices, length], [SAME]
    for kind, i, j, k, number, name in steps:
        x, y, selector = sops[i % len(sops)], sops[j % len(sops)], selectors[k % len(selectors)]
        step = made(kind, x, y, number, selector)
        step = step if name is None else step.named(name)
        (sops if isinstance(step, rasp.SOp) else selectors).append(step)
    return SequenceMap(lambda *values: values, *sops[3:], SelectorWidth(selectors[-1]))


@settings(max_examples=50, deadline=None)
@given(STEPS, st.lists(NUMBERS, min_size=1, max_size=5), st.booleans())
def test_the_lines_run_and_give_an_equal_program(steps, xs, causal):
    program = built(steps)
    again = run(source(program))
    assert rasp.evaluate(again, xs, causal=causal) == rasp.evaluate(program, xs, causal=causal)
