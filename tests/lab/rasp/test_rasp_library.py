"""Every example: interpreter and specification agree on all short inputs and on long ones; some are compiled too."""

import itertools
import random
from collections import Counter

import pytest

from microtome.lab import rasp
from microtome.lab.rasp.library import detect_pattern, examples
from microtome.lab.rasp.values import key, plain

EXAMPLES = {example.name: example for example in examples()}
SPECIFIED = [name for name, example in EXAMPLES.items() if example.origin != "interpbench"]
COMPILED = (
    "length",
    "reverse",
    "hist",
    "count",
    "parity",
    "shift_by",
    "double_letters",
    "detect_pattern",
    "first_occurrence",
    "sort",
    "palindrome",
    "frac_prevs",
    "pair_balance",
    "balanced",
    "induct",
)
AVERAGES_OF_BOOLEANS = ("frac_prevs", "default_at_bos")
SMALL, LONG = 5, 33
MANY = 300


def same(found, wanted):
    """Equal value by value; averages with too many possible values come as the float32 that the model has."""
    return len(found) == len(wanted) and all(
        a == b or (isinstance(a, float) and b is not None and abs(a - b) < 1e-5)
        for a, b in zip(found, wanted, strict=True)
    )


def keys(values, name):
    """What tells values apart as the language does, True from 1 too.

    But the average of booleans that are all True is True where a specification has the fraction, 1.
    """
    exact = name not in AVERAGES_OF_BOOLEANS
    return [key(plain(value)) if exact else value for value in values]


def short_inputs(vocab):
    """All inputs of lengths 1, 2, … while there are at most MANY of them."""
    for length in itertools.count(1):
        if sum(len(vocab) ** n for n in range(1, length + 1)) > MANY:
            return
        yield from map(list, itertools.product(vocab, repeat=length))


def long_inputs(vocab, name):
    """Inputs of up to 20 tokens: any tokens, few different ones, and one token over and over."""
    draw = random.Random(name)
    for length in (6, 11, 16, 20):
        few = draw.sample(vocab, k=2)
        yield from (draw.choices(vocab, k=length) for _ in range(4))
        yield from ([draw.choice(few) for _ in range(length)], draw.choices(vocab, k=1) * length)


def test_the_library_has_all_that_it_says():
    counted = Counter(example.origin for example in examples())
    assert sum(counted.values()) == len(EXAMPLES) > 200, "a name stands for two programs"
    assert counted["interpbench"] == 129
    assert set(counted) == {"tracr", "rasp paper", "rasp-l", "interpbench", "microtome"}


@pytest.mark.parametrize("name", SPECIFIED)
def test_an_example_says_what_it_computes_in_one_sentence(name):
    summary = EXAMPLES[name].summary
    assert summary[0].isupper()
    assert summary.endswith(".")
    assert "\n" not in summary
    assert [name for name in SPECIFIED if EXAMPLES[name].summary == summary] == [name]


@pytest.mark.parametrize("name", SPECIFIED)
@pytest.mark.usefixtures("untyped")
def test_the_interpreter_computes_the_specification(name):
    example = EXAMPLES[name]
    for xs in itertools.chain(short_inputs(example.vocab), long_inputs(example.vocab, name)):
        found = rasp.evaluate(example.program, xs, causal=example.causal)
        assert keys(found, name) == keys(example.specification(list(xs)), name), xs


@pytest.mark.parametrize("name", SPECIFIED)
def test_a_specification_has_no_one_answer_to_everything(name):
    example = EXAMPLES[name]
    inputs = itertools.chain(short_inputs(example.vocab), long_inputs(example.vocab, name))
    answers = {key(plain(value)) for xs in inputs for value in example.specification(xs)}
    assert len(answers) > 1 or name == "mean_of_ones"


@pytest.mark.parametrize("name", [name for name in SPECIFIED if EXAMPLES[name].causal])
def test_what_is_specified_for_causal_models_needs_no_later_token(name):
    example = EXAMPLES[name]
    for xs in long_inputs(example.vocab, name):
        answers = example.specification(list(xs))
        assert all(example.specification(xs[: i + 1]) == answers[: i + 1] for i in range(len(xs))), xs


@pytest.mark.parametrize("name", COMPILED)
def test_an_example_computes_its_specification_on_all_short_inputs(name):
    example = EXAMPLES[name]
    compiled = rasp.compile(example.program, vocab=example.vocab, max_len=SMALL, causal=example.causal)
    inputs = [xs for n in range(1, SMALL + 1) for xs in itertools.product(example.vocab, repeat=n)]
    for xs, found in zip(inputs, compiled.run(inputs), strict=True):
        wanted = example.specification(list(xs))
        assert found == wanted, xs
        assert rasp.evaluate(example.program, xs, causal=example.causal) == wanted, xs


@pytest.mark.parametrize("name", COMPILED)
def test_every_node_of_an_example_equals_the_interpreter(name):
    example = EXAMPLES[name]
    compiled = rasp.compile(example.program, vocab=example.vocab, max_len=4, causal=example.causal)
    report = compiled.verify()
    assert report.equal, report
    assert report.exhaustive
    assert report.inputs == sum(len(example.vocab) ** n for n in range(1, 5))
    assert report.deviation < 1e-6


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.usefixtures("untyped")
def test_every_example_compiles_and_equals_the_interpreter(name):
    example = EXAMPLES[name]
    compiled = rasp.compile(example.program, vocab=example.vocab, max_len=5, causal=example.causal)
    report = compiled.verify(samples=12, limit=40)
    assert report.equal, report
    assert report.inputs > 0
    assert compiled.model.cfg.n_layers == compiled.certificate.lower_bound


@pytest.mark.parametrize("name", [name for name in COMPILED if name != "balanced"])
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
