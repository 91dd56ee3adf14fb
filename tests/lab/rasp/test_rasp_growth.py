"""How lowerings grow, and that what is in the weights stays exact at the lengths that this allows."""

import random
import re

import pytest

from microtome.lab import rasp
from microtome.lab.rasp import Aggregate, Comparison, Map, Select, SequenceMap, indices, tokens
from microtome.lab.rasp.growth import LONGEST, Part, growth
from microtome.lab.rasp.library import examples, make_hist, make_length
from microtome.lab.rasp.values import is_numeric, key

EXAMPLES = {example.name: example for example in examples()}
ALL = Select(tokens, tokens, Comparison.TRUE)
SPREAD = (
    "aggregate_with_default",
    "all_even",
    "alternating",
    "argmax",
    "as_many",
    "average",
    "balanced",
    "carry",
    "copy_unique",
    "count_bigram",
    "detect_pattern",
    "dihedral",
    "distinct_count",
    "double_hist",
    "first_half",
    "frac_prevs",
    "hist",
    "induct",
    "innermost",
    "interpbench_004_pair_balance",
    "interpbench_024_leading_token",
    "last_token",
    "parity",
    "reverse",
    "swap_neighbours",
)
FURTHEST = {
    # Refused beyond: steps from 1/n to 1/(n + 1), beside others from 1 to 1/2, have sums that float32 rounds.
    "length_by_mean": 96,
    "hist_by_mean": 64,
}
"""Programs that do not compile as far as their growth would let them."""


def compiled_at(program, max_len, vocab="abc", causal=False):
    return rasp.compile(program, vocab=vocab, max_len=max_len, causal=causal)


def grows(program, **setting):
    return growth(compiled_at(program, 4, **setting))


def test_a_program_on_tokens_alone_is_constant():
    found = grows(tokens == "a")
    assert (found.kind, found.because, str(found)) == ("constant", "", "constant")
    assert len(set(found.sizes.values())) == 1


def test_a_width_is_linear_and_the_operation_is_named():
    found = grows(make_hist())
    assert found.kind == "linear"
    assert list(found.sizes) == [4, 8, 16], "a straight line is believed"
    assert re.fullmatch(
        r"neurons on the 16 values of hist \(counting.py:\d+\): 15 at max_len 8, 31 at 16", found.because
    )
    assert str(found) == f"linear: {found.because}"


def test_a_table_over_two_ranges_is_quadratic():
    found = grows(SequenceMap(lambda i, n: i * n % 7, indices, make_length()))
    assert found.kind == "quadratic"
    assert list(found.sizes) == [4, 8, 16, 32, LONGEST]
    assert found.because.startswith(f"a table of {LONGEST} values of indices by {LONGEST} values of length")
    assert "at max_len 32" in found.because


def test_what_falls_to_a_cheaper_way_is_judged_by_what_comes_after(monkeypatch: pytest.MonkeyPatch):
    for sizes, kind in {
        (40, 80, 120, 171, 299): "linear",
        (9, 200, 100, 60, 60): "linear",
        (9, 10, 12, 16, 24): "linear",
        (9, 10, 13, 22, 58): "quadratic",
        (9, 10, 20, 60, 500): "more",
        (60, 50, 7, 7, 7): "constant",
    }.items():
        parts = iter([{"neurons": Part(size, "neurons")} for size in sizes])
        monkeypatch.setattr("microtome.lab.rasp.growth._parts", lambda found, parts=parts: next(parts))
        assert grows(tokens).kind == kind, sizes


def test_sizes_are_neurons_and_directions():
    for max_len, size in grows(make_hist()).sizes.items():
        plan = compiled_at(make_hist(), max_len).lowered.plan
        assert size == sum(layer.n_neurons for layer in plan.layers) + len(plan.allocation.lives)


def test_growth_does_not_depend_on_what_it_was_compiled_for():
    assert growth(compiled_at(make_hist(), 2)) == growth(compiled_at(make_hist(), 20))


def test_where_a_program_does_not_compile_at_three_lengths_the_reason_is_given():
    found = grows(Map(lambda n: "zabcdefgh"[n], make_length()).named("day"))
    assert (found.kind, list(found.sizes)) == ("unknown", [4, 8])
    assert re.match(
        r"with max_len=16 it is refused: test_rasp_growth.py:\d+: the function is not defined", found.because
    )


@pytest.mark.parametrize(("reduction", "kept"), [("first", "a"), ("last", "b")])
def test_the_first_and_the_last_beside_another_reading_of_the_indices(reduction, kept):
    # The preference reads the indices as a number, and the program, further on, as one flag.
    reduced = Aggregate(ALL, tokens, reduction=reduction)
    compiled = compiled_at(SequenceMap(lambda x, y: (x, y), reduced, indices == 2), 5)
    assert compiled("acccb") == [(kept, i == 2) for i in range(5)]
    assert compiled.verify(samples=30, limit=400).equal


def inputs_of(example, n):
    """One token; any tokens at several lengths; few different ones, so that there are ties; one over and over."""
    draw = random.Random(f"{example.name} {n}")
    few = draw.sample(example.vocab, k=min(2, len(example.vocab)))
    lengths = (1, draw.randint(2, n), n - 1, n)
    yield from (draw.choices(example.vocab, k=length) for length in lengths)
    yield from (draw.choices(few, k=length) for length in (draw.randint(n // 2, n), n))
    yield draw.choices(example.vocab, k=1) * n


def same(compiled, found, wanted):
    """Equal value by value; averages with too many possible values to list to within their certified error."""
    error = compiled.lowered.readout.error
    return len(found) == len(wanted) and all(
        abs(a - b) <= error + 1e-9 if error and is_numeric(a) and is_numeric(b) else key(a) == key(b)
        for a, b in zip(found, wanted, strict=True)
    )


def assert_exact(name, n):
    example = EXAMPLES[name]
    compiled = compiled_at(example.program, n, example.vocab, example.causal)
    ran = 0
    for xs in inputs_of(example, n):
        try:
            wanted = rasp.evaluate(example.program, xs, causal=example.causal)
        except rasp.RaspError:
            continue
        ran += 1
        assert same(compiled, compiled(xs), wanted), xs
    assert ran >= 4


@pytest.mark.parametrize("name", SPREAD)
@pytest.mark.usefixtures("untyped")
def test_a_program_stays_exact_at_long_inputs(name):
    assert_exact(name, 48)


@pytest.mark.parametrize(("name", "n"), FURTHEST.items())
@pytest.mark.usefixtures("untyped")
def test_what_grows_linearly_and_is_refused_early_is_exact_until_then(name, n):
    assert_exact(name, n)


@pytest.mark.parametrize(("name", "n"), [("inner_product", 64), ("mirror", 100), ("union", 160), ("rotate", 200)])
@pytest.mark.usefixtures("untyped")
def test_tables_whose_sums_float32_would_round_are_cut_into_slices(name, n):
    """Each of these was wrong at this length while all its neurons stood on one sum."""
    assert_exact(name, n)


@pytest.mark.slow
@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.usefixtures("untyped")
def test_every_program_is_exact_as_far_as_its_growth_allows(name):
    example = EXAMPLES[name]
    kind = growth(compiled_at(example.program, 4, example.vocab, example.causal)).kind
    assert_exact(name, FURTHEST.get(name, 256 if kind in ("constant", "linear") else 64))
