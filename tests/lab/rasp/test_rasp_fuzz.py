"""Random programs: whatever compiles equals its interpreter at every node, on every input of a small domain."""

import operator

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from microtome.lab import rasp
from microtome.lab.rasp import Aggregate, Comparison, Map, Select, SelectorWidth, SequenceMap, indices, tokens


def size(x):
    """A number for any value, so that the functions below are total."""
    if isinstance(x, tuple):
        return size(x[0])
    return -len(x) if isinstance(x, str) else x


def pair(x, y):
    return (size(x), size(y))


UNARY = (
    lambda x: -size(x),
    lambda x: size(x) / 2,
    lambda x: None if size(x) > 1 else x,
    lambda x: "odd" if int(size(x)) % 2 else "even",
    lambda x: size(x) ** 2 - 3,
    lambda x: repr(x) < "2",
)
BINARY = (
    pair,
    lambda x, y: size(x) - size(y),
    lambda x, y: None if size(x) < size(y) else x,
    lambda x, y: repr(x) == repr(y),
    lambda x, y: size(x) <= size(y),
)
PREDICATES = (
    Comparison.TRUE,
    Comparison.FALSE,
    lambda key, query: repr(key) == repr(query),
    lambda key, query: repr(key) != repr(query),
    lambda key, query: size(key) < size(query),
    lambda key, query: size(key) == size(query) - 1,
    lambda key, query: size(key) > 0,
)
DEFAULTS = (None, 0, True, 1.5, -2, "none")
VOCABULARIES = (("a", "b"), (0, 1, 2), (-1, "x"), (True, 0.5, 2), (1,))


@st.composite
def programs(draw):
    """A chain of two to six operations over what came before, with tokens somewhere among them."""
    pool = [tokens, indices]
    for _ in range(draw(st.integers(2, 6))):
        part = st.sampled_from(pool[-4:])
        kind = draw(st.sampled_from(("map", "pairs", "width", "aggregate", "aggregate")))
        if kind == "map":
            made = Map(draw(st.sampled_from(UNARY)), draw(part))
        elif kind == "pairs":
            made = SequenceMap(draw(st.sampled_from(BINARY)), draw(part), draw(part))
        else:
            selector = Select(draw(part), draw(part), draw(st.sampled_from(PREDICATES)))
            made = SelectorWidth(selector)
            if kind == "aggregate":
                made = Aggregate(selector, draw(part), default=draw(st.sampled_from(DEFAULTS)))
        pool.append(made)
    return SequenceMap(pair, pool[-1], tokens) if draw(st.booleans()) else pool[-1]


@settings(max_examples=60, deadline=None)
@given(programs(), st.sampled_from(VOCABULARIES), st.integers(1, 4), st.booleans())
def test_a_compiled_program_equals_its_interpreter(program, vocab, max_len, causal):
    try:
        compiled = rasp.compile(program, vocab=vocab, max_len=max_len, causal=causal)
    except rasp.CompileError as error:
        event(f"refused: {str(error)[:30]}")
        return
    report = compiled.verify(samples=25, limit=40)
    event("compiled")
    assert report.equal, (report, program)
    assert report.deviation < 1e-4


REFERENCE = Map(lambda n: n % 3, SelectorWidth(Select(tokens, tokens, Comparison.EQ)))


@pytest.mark.parametrize("length", [1, 2, 10, 16, 40])
def test_the_operators_compile_at_every_length(length):
    program = SequenceMap(operator.add, REFERENCE - indices, 2 * (REFERENCE == 1))
    compiled = rasp.compile(program, vocab="ab", max_len=length)
    assert compiled.verify(samples=20, limit=100).equal
