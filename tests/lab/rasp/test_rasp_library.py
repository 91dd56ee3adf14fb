"""Every example: model, interpreter and specification agree, on all inputs of a small domain and on long ones."""

import itertools
import random

import pytest

from microtome.lab import rasp
from microtome.lab.rasp.library import detect_pattern, examples

EXAMPLES = {example.name: example for example in examples()}
SMALL, LONG = 5, 33


def same(found, wanted):
    """Equal value by value; averages with too many possible values come as the float32 that the model has."""
    return len(found) == len(wanted) and all(
        a == b or (isinstance(a, float) and b is not None and abs(a - b) < 1e-5)
        for a, b in zip(found, wanted, strict=True)
    )


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_computes_its_specification_on_all_short_inputs(name):
    example = EXAMPLES[name]
    compiled = rasp.compile(example.program, vocab=example.vocab, max_len=SMALL, causal=example.causal)
    inputs = [xs for n in range(1, SMALL + 1) for xs in itertools.product(example.vocab, repeat=n)]
    for xs, found in zip(inputs, compiled.run(inputs), strict=True):
        wanted = example.specification(list(xs))
        assert found == wanted, xs
        assert rasp.evaluate(example.program, xs, causal=example.causal) == wanted, xs


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_node_of_an_example_equals_the_interpreter(name):
    example = EXAMPLES[name]
    compiled = rasp.compile(example.program, vocab=example.vocab, max_len=4, causal=example.causal)
    report = compiled.verify()
    assert report.equal, report
    assert report.exhaustive
    assert report.inputs == sum(len(example.vocab) ** n for n in range(1, 5))
    assert report.deviation < 1e-6


@pytest.mark.parametrize("name", [name for name in EXAMPLES if name != "balanced"])
def test_an_example_is_exact_on_long_inputs(name):
    example = EXAMPLES[name]
    compiled = rasp.compile(example.program, vocab=example.vocab, max_len=LONG, causal=example.causal)
    draw = random.Random(7)
    inputs = [draw.choices(example.vocab, k=LONG - i % 3) for i in range(12)]
    inputs += [[token] * LONG for token in example.vocab]  # nothing but ties
    for xs, found in zip(inputs, compiled.run(inputs), strict=True):
        assert same(found, example.specification(xs)), xs
    report = compiled.verify(samples=3, limit=0)
    assert report.equal, report
    assert not report.exhaustive


@pytest.mark.slow
def test_balanced_brackets_are_exact_on_long_inputs():
    example = EXAMPLES["balanced"]
    compiled = rasp.compile(example.program, vocab=example.vocab, max_len=32)
    halves = ["(" * 16 + ")" * 16, "()" * 16, ")" * 16 + "(" * 16, "(.)." * 8, "(" * 32, "(()" * 10 + "))"]
    for xs in map(list, halves):
        assert compiled(xs) == example.specification(xs), xs
    assert compiled.verify(samples=12).equal


def test_a_pattern_must_not_be_empty():
    with pytest.raises(ValueError, match="at least one value"):
        detect_pattern(rasp.tokens, "")
