"""Random programs: whatever compiles equals its interpreter at every direction, on every input of a small domain.

`make fuzz` runs the same with MICROTOME_FUZZ examples.
"""

import operator
import os

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from microtome.lab import rasp
from microtome.lab.rasp import (
    Aggregate,
    Comparison,
    ConstantSelector,
    ConstantSOp,
    Full,
    Map,
    Select,
    SelectorWidth,
    SequenceMap,
    indices,
    length,
    tokens,
)
from microtome.lab.rasp.compiled import Compiled
from microtome.lab.rasp.compiler.emit import emit
from microtome.lab.rasp.compiler.facts import Setting
from microtome.lab.rasp.compiler.load import load
from microtome.lab.rasp.compiler.pipeline import Passes, lowered
from microtome.lab.rasp.values import unique
from microtome.lab.rasp.verify import draw as drawn_inputs
from microtome.lab.rasp.verify import every_input

EXAMPLES = int(os.environ.get("MICROTOME_FUZZ", "200"))
SAMPLES, LIMIT = 16, 30


def size(x):
    """A number for any value, so that the functions below are total."""
    if isinstance(x, tuple):
        return size(x[0])
    return -len(x) if isinstance(x, str) else 0 if x is None else x


def pair(x, y):
    return (size(x), size(y))


UNARY = (
    lambda x: -size(x),
    lambda x: size(x) / 2,
    lambda x: None if size(x) > 1 else x,
    lambda x: "odd" if int(size(x)) % 2 else "even",
    lambda x: size(x) ** 2 - 3,
    lambda x: repr(x) < "2",
    lambda x: 1 / size(x),
)
BINARY = (
    pair,
    lambda x, y: size(x) - size(y),
    lambda x, y: None if size(x) < size(y) else x,
    lambda x, y: repr(x) == repr(y),
    lambda x, y: size(x) <= size(y),
)
TERNARY = (
    lambda x, y, z: x if size(y) > 0 else z,
    lambda x, y, z: size(x) + size(y) - 2 * size(z),
    lambda x, y, z: sorted((repr(x), repr(y), repr(z)))[1],
)
PREDICATES = (
    Comparison.TRUE,
    Comparison.FALSE,
    Comparison.EQ,
    Comparison.NEQ,
    lambda key, query: repr(key) == repr(query),
    lambda key, query: size(key) < size(query),
    lambda key, query: size(key) <= size(query),
    lambda key, query: size(key) == size(query) - 1,
    lambda key, query: size(key) > 0,
)
TABLES = (
    ConstantSelector(((1, 0), (1, 1)), check_length=False),
    ConstantSelector(((0, 1, 1), (0, 0, 1), (1, 0, 0)), check_length=False),
)
CONSTANTS = (Full(2), Full("a"), Full(None), ConstantSOp((3, None, -1), check_length=False))
REDUCTIONS = ("mean", "mean", "max", "min", "first", "last")
DEFAULTS = (None, 0, True, 1.5, -2, "none")
VOCABULARIES = (("a", "b"), (0, 1, 2), (-1, "x"), (True, 0.5, 2), (1,), ("b", "a", "ab"), (1, 2, "x"))
OPERATIONS = ("map", "pairs", "triple", "infix", "width", "aggregate", "aggregate", "aggregate")


@st.composite
def selectors(draw, pool):
    """Up to three selects, put together with and, or and not."""
    part = st.sampled_from(pool[-4:])
    selector = Select(draw(part), draw(part), draw(st.sampled_from(PREDICATES)))
    for _ in range(draw(st.integers(0, 2))):
        other = Select(draw(part), draw(part), draw(st.sampled_from(PREDICATES)))
        other = draw(st.sampled_from((other, other, other, *TABLES)))
        match draw(st.sampled_from("&|~")):
            case "&":
                selector = selector & other
            case "|":
                selector = selector | other
            case "~":
                selector = ~selector
    return selector


@st.composite
def programs(draw, causal=False):
    """A chain of two to six operations over the inputs, constants and what came before."""
    pool = [tokens, indices, draw(st.sampled_from(CONSTANTS)), tokens]
    if not causal:
        pool[3] = draw(st.sampled_from((tokens, length)))
    for _ in range(draw(st.integers(2, 6))):
        part = st.sampled_from(pool[-5:])
        match draw(st.sampled_from(OPERATIONS)):
            case "map":
                made = Map(draw(st.sampled_from(UNARY)), draw(part))
            case "pairs":
                made = SequenceMap(draw(st.sampled_from(BINARY)), draw(part), draw(part))
            case "triple":
                made = SequenceMap(draw(st.sampled_from(TERNARY)), draw(part), draw(part), draw(part))
            case "infix":
                numbers = [Map(size, draw(part)) for _ in range(2)]
                made = draw(st.sampled_from((operator.add, operator.sub, operator.le)))(*numbers)
            case "width":
                made = SelectorWidth(draw(selectors(pool)))
            case "aggregate":
                reduction, default = draw(st.sampled_from(REDUCTIONS)), draw(st.sampled_from(DEFAULTS))
                made = Aggregate(draw(selectors(pool)), draw(part), default=default, reduction=reduction)
        pool.append(made)
    return SequenceMap(pair, pool[-1], tokens) if draw(st.booleans()) else pool[-1]


@st.composite
def cases(draw):
    causal = draw(st.booleans())
    setting = Setting(unique(draw(st.sampled_from(VOCABULARIES))), draw(st.integers(1, 4)), causal)
    return draw(programs(causal)), setting


def passes():
    """All of them two times in three, else none or a part."""
    everything, nothing = Passes.level(1), Passes.level(0)
    return st.sampled_from((everything,) * 6 + (nothing, nothing)) | st.builds(Passes, *[st.booleans()] * 4)


def compiled_with(program, setting, chosen):
    found = lowered(program, setting, chosen, bos=None)
    return Compiled(program, found, load(emit(found.plan, program), causal=setting.causal))


def undefined(program, tokens_given, causal):
    try:
        rasp.evaluate(program, tokens_given, causal=causal)
    except rasp.UndefinedError:
        return True
    return False


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(cases(), passes())
def test_a_compiled_program_equals_its_interpreter(case, chosen):
    program, setting = case
    try:
        compiled = compiled_with(program, setting, chosen)
    except (rasp.CompileError, rasp.UndefinedError) as error:
        event(f"refused: {str(error).partition(': ')[2][:30]}")
        return
    report = compiled.verify(samples=SAMPLES, limit=LIMIT)
    assert report.equal, (report, program)
    assert report.deviation < 1e-4
    inputs = every_input(setting.vocab, setting.max_len) if report.exhaustive else drawn_inputs(setting, SAMPLES, 0)
    left_out = sum(undefined(program, xs, setting.causal) for xs in inputs)
    assert report.undefined == left_out, "only inputs on which the program itself is undefined may be left out"
    assert not left_out or compiled.certificate.assumptions, "an undefined input is not one that was assumed away"
    event("compiled" if report.inputs else "compiled, but undefined everywhere")


REFERENCE = Map(lambda n: n % 3, SelectorWidth(Select(tokens, tokens, Comparison.EQ)))


@pytest.mark.parametrize("max_len", [1, 2, 10, 16, 40])
def test_the_operators_compile_at_every_length(max_len):
    program = SequenceMap(operator.add, REFERENCE - indices, 2 * (REFERENCE == 1))
    compiled = rasp.compile(program, vocab="ab", max_len=max_len)
    assert compiled.verify(samples=20, limit=100).equal
