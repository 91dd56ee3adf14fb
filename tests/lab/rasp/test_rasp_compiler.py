"""Each pass alone, and the weights run by a forward pass that shares no code with the zoo."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from microtome.lab import rasp
from microtome.lab.rasp import (
    Aggregate,
    Comparison,
    ConstantSOp,
    Map,
    Select,
    SelectorWidth,
    SequenceMap,
    indices,
    tokens,
)
from microtome.lab.rasp.compiler.emit import SCALE, emit
from microtome.lab.rasp.compiler.facts import Inference, Setting
from microtome.lab.rasp.compiler.means import means
from microtome.lab.rasp.compiler.pipeline import Passes, lowered
from microtome.lab.rasp.compiler.simplify import Simplifier
from microtome.lab.rasp.compiler.tables import Level, Scalar, rows_of
from microtome.lab.rasp.language import topological
from microtome.lab.rasp.library import examples, make_length, make_sort
from microtome.lab.rasp.values import plain

SAME = Select(tokens, tokens, Comparison.EQ)
SETTING = Setting(("a", "b"), 4, causal=False)
EXAMPLES = {
    example.name: example
    for example in examples()
    if example.name in ("length", "reverse", "hist", "sort", "shift_by", "frac_prevs", "balanced", "induct")
}


def facts_of(program, setting=SETTING):
    inference = Inference(setting)
    return inference.facts[Simplifier(inference, plain=True).run(program)]


def canonical(program, setting=SETTING):
    """The program with equal expressions once, and otherwise as it is."""
    return Simplifier(Inference(setting), plain=True).run(program)


def test_equal_expressions_become_one_node():
    program = (tokens == "a") & (tokens == "a")
    core = canonical(program)
    assert isinstance(core, Map)
    assert sum(1 for _ in topological(core)) == 3
    assert rasp.evaluate(core, "ab") == rasp.evaluate(program, "ab")


def test_constants_that_only_python_takes_for_equal_stay_apart():
    program = SequenceMap(lambda x, y: (x, y), (tokens == "a") & True, (tokens == "a") & 1)
    core = canonical(program)
    assert sum(1 for _ in topological(core)) == 5
    assert rasp.compile(program, vocab="ab", max_len=2)("ab") == [(True, 1), (False, False)]


def test_other_functions_and_defaults_stay_apart():
    program = Aggregate(SAME, tokens, default=0) == Aggregate(SAME, tokens, default=1)
    assert sum(1 for _ in topological(canonical(program))) == 5
    program = Map(lambda x: x, tokens) == Map(lambda x: x, tokens)
    assert sum(1 for _ in topological(canonical(program))) == 4


def test_a_shared_node_takes_the_name_of_any_copy():
    program = make_length() - (SelectorWidth(Select(tokens, tokens, Comparison.TRUE)) + indices)
    names = [node.name for node in topological(canonical(program)) if isinstance(node, SelectorWidth)]
    assert names == ["length"]


@pytest.mark.parametrize(
    ("program", "values"),
    [
        (tokens, ("a", "b")),
        (indices - 1, (-1, 0, 1, 2)),
        (SelectorWidth(SAME), (1, 2, 3, 4)),
        (SelectorWidth(Select(indices, indices, Comparison.LT)), (0, 1, 2, 3)),
        (SelectorWidth(Select(indices, indices + 1, Comparison.EQ)), (0, 1)),
        (Aggregate(SAME, tokens), ("a", "b")),
        (Aggregate(Select(indices, indices + 1, Comparison.EQ), tokens), ("a", "b", None)),
        (
            Aggregate(Select(indices, indices, Comparison.LT), tokens == "a"),
            (False, 0.25, 1 / 3, 0.5, 2 / 3, 0.75, True, None),
        ),
        (SequenceMap(lambda x, y: x - y, indices, indices), (0,)),
    ],
)
def test_value_sets(program, values):
    assert facts_of(program).values == values


def test_positions_that_cannot_share_a_value_are_known():
    assert facts_of(indices * 2 + 1).distinct
    assert not facts_of(Map(lambda i: i // 2, indices)).distinct
    assert facts_of(SequenceMap(lambda t, i: (t, i), tokens, indices)).distinct
    assert not facts_of(SequenceMap(lambda t, i: i + (t == "a"), tokens, indices)).distinct
    assert facts_of(make_length() - indices).distinct, "the length is the same at all positions"
    assert not facts_of(make_length() - indices, Setting(("a", "b"), 4, causal=True)).distinct


def test_a_rank_among_distinct_keys_is_distinct_only_when_all_are_seen():
    rank = make_sort(tokens, tokens).selector.keys
    assert facts_of(rank).distinct
    assert not facts_of(rank, Setting(("a", "b"), 4, causal=True)).distinct
    halves = Map(lambda i: i // 2, indices)
    assert not facts_of(SelectorWidth(Select(halves, halves, Comparison.LT))).distinct


@settings(max_examples=40, deadline=None)
@given(st.sets(st.integers(-6, 6) | st.sampled_from([0.5, -1.25, 1 / 3]), min_size=1, max_size=4), st.integers(1, 5))
def test_means_are_those_of_all_multisets(numbers, most):
    numbers = [plain(n) for n in numbers]
    exact = {n: Fraction(n).limit_denominator(12) for n in numbers}
    multisets = itertools.chain(*(itertools.combinations_with_replacement(numbers, m) for m in range(1, most + 1)))
    wanted = {plain(sum(exact[n] for n in chosen) / Fraction(len(chosen))) for chosen in multisets}
    assert set(means(numbers, most, 10**6)) == wanted


def test_means_that_are_too_many_are_not_listed():
    assert means([0, 1], 100, 500) is None
    assert means([0, 2.0**-40], 4, 500) is not None
    assert means([2.0**-40, 1], 4, 500) is None


def test_every_direction_has_its_own_name():
    program = (make_length() - indices == 1).named("last")
    compiled = rasp.compile(program, vocab="ab", max_len=3)
    names = [direction.name for direction in compiled.directions]
    assert {"indices", "length: sink share", "length"} <= set(names)
    assert len(set(names)) == len(names)
    assert len(compiled.labels) == compiled.model.cfg.d_model
    assert compiled.labels[0] == "sink"


def test_without_optimising_every_value_has_a_direction():
    program = (make_length() - indices == 1).named("last")
    compiled = rasp.compile(program, vocab="ab", max_len=3, optimize=0)
    names = {direction.name for direction in compiled.directions}
    assert {"length=1", "length=2", "length=3", "indices=0", "indices=1", "indices=2"} <= names
    assert compiled.verify().equal


def test_the_order_of_directions_does_not_depend_on_that_of_a_set():
    compiled = rasp.compile(tokens == "a", vocab={"c", "a", "b", 7}, max_len=2, optimize=0)
    assert compiled.labels[:4] == ("tokens=7", "tokens='a'", "tokens='b'", "tokens='c'")
    assert compiled.lowered.plan.setting.vocab == (7, "a", "b", "c")


def test_directions_of_namesakes_are_numbered():
    total = SelectorWidth(SAME).named("x") * 10 + SelectorWidth(Select(tokens, tokens, Comparison.NEQ)).named("x")
    for optimize in (0, 1):
        compiled = rasp.compile(total, vocab="ab", max_len=3, optimize=optimize)
        names = [direction.name for direction in compiled.directions]
        assert len(set(names)) == len(names)
        assert any(name.endswith("#2") for name in names)
        assert compiled.verify().equal


@settings(max_examples=50, deadline=None)
@given(st.sets(st.integers(-3000, 3000), min_size=1, max_size=30), st.sampled_from([1.0, 1 / 8, 64.0]), st.data())
def test_rows_find_the_level_exactly_in_float32(levels, unit, data):
    numbers = np.array(sorted(n * unit for n in levels))
    exact = Scalar((Level(numbers, unit >= 1, 0.0, "number", unit / 32),), (1.0,))
    functions = [np.eye(len(numbers))[i] for i in range(len(numbers))]
    rows = rows_of(exact, functions)
    chosen = data.draw(st.integers(0, len(numbers) - 1))
    s = torch.tensor(numbers[chosen], dtype=torch.float32)
    found = torch.tensor(rows.constants, dtype=torch.float32)
    for ramp in rows.ramps:
        found = found + torch.tensor(ramp.weights) * torch.relu(s * ramp.slope + ramp.bias)
    assert found.tolist() == np.eye(len(numbers))[chosen].tolist()


def test_the_layers_are_as_many_as_the_longest_chain_needs():
    share = Aggregate(Select(indices, indices, Comparison.LEQ), tokens == "a")  # head of layer 0, on tokens alone
    high = (share > 0.5).named("high")  # neurons of layer 0
    count = SelectorWidth(Select(high, high, Comparison.EQ)).named("count")  # head and neurons of layer 1
    program = SequenceMap(lambda x, y: (x, y), count, SelectorWidth(SAME).named("hist"))
    compiled = rasp.compile(program, vocab="ab", max_len=4)
    assert compiled.model.cfg.n_layers == compiled.certificate.lower_bound
    layer_of = {head.label: head.layer for head in compiled.certificate.heads}
    assert layer_of["count"] == 1
    assert compiled.verify().equal


def forward(weights, ids, causal):
    """The plain transformer that the weights are for, in their dtype: [batch pos] to logits."""
    x = weights.W_E[ids] + weights.W_pos[: ids.shape[1]]
    hidden = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool).triu(1) if causal else None
    for layer in weights.layers:
        q = torch.einsum("bpm,hmd->bhpd", x, layer.W_Q) + layer.b_Q[:, None]
        k = torch.einsum("bpm,hmd->bhpd", x, layer.W_K) + layer.b_K[:, None]
        v = torch.einsum("bpm,hmd->bhpd", x, layer.W_V)
        scores = (q @ k.mT) * SCALE
        if causal:
            scores = scores.masked_fill(hidden, -math.inf)
        x = x + torch.einsum("bhpd,hdm->bpm", scores.softmax(-1) @ v, layer.W_O) + layer.b_O
        x = x + torch.relu(x @ layer.W_in + layer.b_in) @ layer.W_out + layer.b_out
    return x @ weights.W_U + weights.b_U


@pytest.mark.parametrize("optimize", [0, 1])
@pytest.mark.parametrize("name", EXAMPLES)
def test_the_weights_compute_the_program_in_any_softmax_transformer(name, optimize):
    example = EXAMPLES[name]
    compiled = rasp.compile(example.program, vocab=example.vocab, max_len=4, causal=example.causal, optimize=optimize)
    setting = Setting(example.vocab, 4, example.causal)
    weights = emit(lowered(example.program, setting, Passes.level(optimize), bos=None).plan, example.program)
    inputs = list(itertools.product(example.vocab, repeat=4))[:400]
    logits = forward(weights, compiled.encode(inputs), example.causal)
    assert compiled.decode(logits) == [example.specification(list(xs)) for xs in inputs]
    with torch.no_grad():
        found = compiled.model(compiled.encode(inputs))[:, compiled.sink :]
    torch.testing.assert_close(found, logits[:, compiled.sink :], atol=1e-5, rtol=1e-5)


def test_it_is_a_model_with_transformer_lens_hooks():
    program = make_length() - indices
    compiled = rasp.compile(program, vocab="ab", max_len=4)
    ids = compiled.encode(["ab"])
    _, cache = compiled.model.run_with_cache(ids)
    assert cache["blocks.0.attn.hook_pattern"].shape == (1, 1, 3, 3)
    assert cache["blocks.0.hook_resid_post"].shape == (1, 3, len(compiled.labels))
    with torch.no_grad():
        ablated = compiled.model.run_with_hooks(ids, fwd_hooks=[("blocks.0.attn.hook_z", lambda z, hook: z * 0)])
    assert compiled.decode(ablated) == [[4, 3]], "without its head the length reads as the longest"
    assert compiled("ab") == [2, 1]


def test_it_runs_batches_of_mixed_lengths():
    compiled = rasp.compile(make_length(), vocab="ab", max_len=4)
    assert compiled.run(["a", "abab", "b", ["a", "b"]]) == [[1], [4] * 4, [1], [2, 2]]
    assert compiled.run([]) == []


def test_it_prints_its_shape():
    compiled = rasp.compile(make_length(), vocab="ab", max_len=4)
    cfg = compiled.model.cfg
    assert repr(compiled).startswith(
        f"Compiled(length: 2 tokens, max_len=4, bidirectional; 1 layers of 1 heads and {cfg.d_mlp} neurons, d_model="
    )


def test_it_explains_each_head_and_neuron():
    text = rasp.compile(make_length() - indices, vocab="ab", max_len=4).explain()
    assert "head 0.0 computes length" in text
    assert "attends to every key alike" in text
    assert "compute from length:" in text
    assert "length: sink share ← the sink's attention, with " in text
    assert "(test_rasp_" not in text, "the s-op was made in the library"
    assert text.count("layer 0") == 1


def test_a_front_position_is_there_when_needed_or_asked_for():
    shifted = rasp.compile(indices + 1, vocab="ab", max_len=3)
    assert shifted.sink == 0
    assert rasp.compile(indices + 1, vocab="ab", max_len=3, bos=False)("ab") == [1, 2]
    with_sink = rasp.compile(indices + 1, vocab="ab", max_len=3, bos=True)
    assert with_sink.sink == 1
    assert with_sink.encode(["ab"]).shape == (1, 3)
    assert with_sink("ab") == [1, 2]
    everywhere = Aggregate(Select(tokens, tokens, Comparison.EQ), tokens == "a")
    compiled = rasp.compile(everywhere, vocab="ab", max_len=3, bos=False)
    assert compiled.sink == 0
    assert compiled.verify().equal
    with pytest.raises(rasp.CompileError, match="compile with bos=True, or let the compiler choose"):
        rasp.compile(Aggregate(Select(indices, indices, Comparison.LT), tokens), vocab="ab", max_len=3, bos=False)


@pytest.mark.parametrize("causal", [False, True])
def test_padding_changes_nothing_at_real_positions(causal):
    program = SelectorWidth(SAME) + SelectorWidth(Select(indices, indices, Comparison.LEQ))
    compiled = rasp.compile(program, vocab="ab", max_len=6, causal=causal)
    inputs = ["a", "abbaab", "bb", "abab"]
    ids, mask = compiled.pad(inputs)
    assert ids.shape == mask.shape == (4, 6 + compiled.sink)
    with torch.no_grad():
        padded = compiled.decode(compiled.model(ids, mask=mask))
    assert [row[: len(xs)] for row, xs in zip(padded, inputs, strict=True)] == compiled.run(inputs)
    wanted = [rasp.evaluate(program, xs, causal=causal) for xs in inputs]
    assert compiled.run(inputs) == wanted


@pytest.mark.parametrize("program", [make_length() - indices, make_sort(tokens, tokens)], ids=["length", "sort"])
def test_a_bridge_has_the_same_logits(program):
    compiled = rasp.compile(program, vocab="abc", max_len=4)
    ids = compiled.encode(["abca", "ccbb", "aaaa"])
    with torch.no_grad():
        torch.testing.assert_close(compiled.to_bridge()(ids), compiled.model(ids), atol=1e-5, rtol=1e-5)


def test_undefined_inputs_and_short_constants_reach_no_embedding():
    table = ConstantSOp((3, None, -1), check_length=False)
    before = Select(indices, indices, Comparison.LT)
    for program in (
        table / 2,
        Map(lambda i: 6 / i, indices),
        Map(lambda t: 1 / (t == "a"), tokens),
        Aggregate(before, table, default=-2, reduction="max"),
        SequenceMap(lambda x, y: (x, y), Aggregate(before, table, default=-2), tokens),
    ):
        compiled = rasp.compile(program, vocab="ab", max_len=5)
        assert all(bool(torch.isfinite(parameter).all()) for parameter in compiled.model.parameters())
        report = compiled.verify()
        assert report.equal, report
        defined = not compiled.certificate.assumptions
        assert (report.undefined == 0) == defined, program


def test_a_direction_that_nobody_reads_is_cleared_only_after_it_was_written():
    seen = SelectorWidth(Select(indices, indices, Comparison.LEQ) & SAME)
    for vocab in ("abc", "abcd"):
        for simplify, spread in itertools.product((False, True), repeat=2):
            passes = Passes(simplify=simplify, share=False, spread=spread, reuse=True)
            found = lowered(seen == 1, Setting(tuple(vocab), 4, False), passes, bos=None)
            born = {life.direction: life.born for life in found.plan.allocation.lives}
            cleared = [life for life in found.plan.allocation.lives if life.cleared is not None]
            assert all(life.cleared > born[life.direction] for life in cleared)


@pytest.mark.parametrize("reduction", ["mean", "max", "min", "first", "last"])
def test_nothing_but_none_reduces_to_none(reduction):
    before = Select(indices, indices, Comparison.LT)
    program = Aggregate(before, Map(lambda t: None, tokens), default=0, reduction=reduction)
    compiled = rasp.compile(program, vocab="ab", max_len=3)
    assert compiled("aba") == [0, None, None]
    assert compiled.verify().equal


@pytest.mark.parametrize("causal", [False, True])
def test_what_a_selector_reads_may_be_undefined_on_a_token(causal):
    keys, queries = Map(lambda t: 1 / t, tokens), SequenceMap(lambda x, y: (x, y), tokens, tokens)
    program = Aggregate(Select(keys, queries, lambda k, q: k < q[0]), Map(lambda t: -t, tokens))
    compiled = rasp.compile(program, vocab=(0, 1, 2), max_len=2, causal=causal)
    assert all(bool(torch.isfinite(parameter).all()) for parameter in compiled.model.parameters())
    report = compiled.verify()
    assert report.equal, report
    assert (report.inputs, report.undefined) == (2 + 4, 6)
