"""The numbered programs of InterpBench: each equals its specification, and does at the edges what its module says."""

import itertools
import math
import random

import pytest

from microtome.lab import rasp
from microtome.lab.rasp.library import interpbench

EXAMPLES = {int(example.name.split("_")[1]): example for example in interpbench.examples()}
PUBLISHED = [number for number in range(1, 132) if number not in (16, 27)]


def told_apart(values):
    """The values in a form that compares as the language does: 2.0 is 2, but True is not 1."""
    return [(isinstance(value, bool), value) for value in values]


def run(number, xs):
    """What the numbered program answers."""
    return rasp.evaluate(EXAMPLES[number].program, xs, causal=EXAMPLES[number].causal)


def short_inputs(vocab):
    """Every token alone; every input of two to four out of three tokens, the vocabulary's first, middle and last."""
    yield from ([token] for token in vocab)
    for length in (2, 3, 4):
        yield from map(list, itertools.product((vocab[0], vocab[len(vocab) // 2], vocab[-1]), repeat=length))


def long_inputs(vocab):
    """Inputs of 5 to 16 tokens: any tokens, sorted either way, and few different ones."""
    draw = random.Random(20240719)
    for length in (5, 8, 11, 16):
        xs = draw.choices(vocab, k=length)
        yield from (xs, sorted(xs), sorted(xs, reverse=True), draw.choices(xs[:2], k=length))


def test_all_published_numbers_are_there_in_order():
    listed = interpbench.examples()
    assert [int(example.name.split("_")[1]) for example in listed] == PUBLISHED
    assert len(listed) == len({example.name for example in listed}) == 129


@pytest.mark.parametrize("number", PUBLISHED)
def test_a_program_equals_its_specification(number):
    example = EXAMPLES[number]
    for xs in itertools.chain(short_inputs(example.vocab), long_inputs(example.vocab)):
        wanted = told_apart(example.specification(list(xs)))
        assert told_apart(rasp.evaluate(example.program, xs, causal=example.causal)) == wanted, xs


@pytest.mark.parametrize("number", [number for number in PUBLISHED if EXAMPLES[number].causal])
def test_a_causal_program_needs_no_mask(number):
    example = EXAMPLES[number]
    for xs in long_inputs(example.vocab):
        assert run(number, xs) == rasp.evaluate(example.program, xs), xs


def test_no_specification_has_one_answer_to_everything():
    for example in EXAMPLES.values():
        answers = {value for xs in short_inputs(example.vocab) for value in told_apart(example.specification(xs))}
        assert len(answers) > 1, example.name


def test_an_example_says_what_it_is():
    for example in EXAMPLES.values():
        assert example.origin == "interpbench"
        assert len(example.summary) > 10, example.name
        assert example.summary.endswith("."), example.name
        assert len(set(example.vocab)) == len(example.vocab) > 2, example.name


def test_real_functions_satisfy_the_identities_that_define_them():
    def of(number):
        example = EXAMPLES[number]
        return dict(zip(example.vocab, run(number, example.vocab), strict=True))

    cosh, sinh, tanh, exp = of(50), of(55), of(54), of(104)
    cos, sin, tan, arctangent = of(70), of(73), of(77), of(84)
    for x in EXAMPLES[50].vocab:
        assert math.isclose(cosh[x] + sinh[x], exp[x])
        assert math.isclose((cosh[x] - sinh[x]) * exp[x], 1, rel_tol=1e-6)
        assert math.isclose(tanh[x] * cosh[x], sinh[x])
        assert math.isclose(cos[x] ** 2 + sin[x] ** 2, 1)
        assert math.isclose(tan[x] * cos[x], sin[x], abs_tol=1e-12)
        assert math.isclose(math.tan(arctangent[x]), x, abs_tol=1e-12)
        assert math.isclose(of(52)[x] ** 2, x)
        assert math.isclose(of(65)[x] ** 3, x)
    assert [exp[0], exp[1]] == [1, pytest.approx(math.e)]
    assert [cos[0], sin[0]] == [1, 0]
    assert all(math.isclose(10**y, x) for x, y in of(114).items())
    assert all(math.isclose(math.sin(y), x, abs_tol=1e-12) and abs(y) <= math.pi / 2 for x, y in of(121).items())
    assert all(math.isclose(math.cos(y), x, abs_tol=1e-12) and 0 <= y <= math.pi for x, y in of(123).items())


@pytest.mark.parametrize(
    ("number", "xs", "answer"),
    [
        (5, list("({)}"), [True] * 4),
        (5, list("({)})"), [False] * 5),
        (5, list(")("), [False] * 2),
        (6, [1, 3, 1, 1, 2], [None, True, False, True, None]),
        (15, [1, 2, 3, 4], [2, 3, 4, 5]),
        (17, list("abcaa"), [True, False, True, False, True]),
        (34, ["io", "Sky", "noon"], [None, 0, 1]),
        (74, [0, 1, 2, 3, 4, 5, 6], [0, 5, 2, 3, 4, 1, 6]),
        (74, [0, 1, 2, 3, 4, 5], [0, 5, 2, 3, 4, 1]),
        (81, [7, 1, 1, 4], [2.5] * 4),
        (86, [1, 2, 3, 4, 6, 8], [0, 1, 0, 1, 0, 1]),
        (93, [0, 1, 2, 3, 4, 5], [0, 2, 1, 4, 3, 5]),
        (96, [3, 1, 3, 2], [0, 1, 0, 2]),
        (97, [0, 0], [0, 0]),
        (100, [5], [None]),
        (105, [7, 8, 0], [7, 11, 2]),
        (109, [5], [None]),
        (110, [3, 1, 2], [3, 0, 1]),
        (113, [1, 2, 2], [2, 2, 1]),
        (116, [0, 5], [0, 0]),
        (119, [3, 2, 3, 1], [28] * 4),
        (119, [3, 2, 3], [None] * 3),
        (120, [0, 1, 2, 3, 4], [3, 4, 2, 0, 1]),
        (125, [5], [1]),
        (127, [2, 4, 6], [1, 2, 3]),
        (127, [0, 4, 6], [0, 4, 6]),
    ],
)
def test_an_answer_worked_out_by_hand(number, xs, answer):
    assert run(number, xs) == answer


@pytest.mark.parametrize("number", [9, 59])
def test_sorting_has_no_longest_input(number):
    xs = [5] * 12 + [4] + [6] * 12 + [4]
    assert run(number, xs) == sorted(xs)
