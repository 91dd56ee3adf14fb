"""Each pass of the compiler alone: none of them changes what a program computes."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from microtome.lab import rasp
from microtome.lab.rasp import Aggregate, Comparison, Full, Map, Select, SelectorWidth, SequenceMap, indices, tokens
from microtome.lab.rasp.compiled import Compiled
from microtome.lab.rasp.compiler.emit import emit
from microtome.lab.rasp.compiler.facts import Inference, Setting
from microtome.lab.rasp.compiler.load import load
from microtome.lab.rasp.compiler.pipeline import Passes, lowered
from microtome.lab.rasp.compiler.schedule import _earliest
from microtome.lab.rasp.compiler.simplify import Simplifier
from microtome.lab.rasp.interpreter import trace
from microtome.lab.rasp.language import SOp, topological
from microtome.lab.rasp.library import examples
from microtome.lab.rasp.values import key
from microtome.lab.rasp.verify import every_input

NAMES = (
    "length",
    "reverse",
    "hist",
    "sort",
    "shift_by",
    "frac_prevs",
    "pair_balance",
    "first_occurrence",
    "detect_pattern",
    "induct",
)
EXAMPLES = {example.name: example for example in examples() if example.name in NAMES}
SWITCHES = ("simplify", "share", "spread", "reuse")
ALONE = {f"{name} alone": Passes(**{other: other == name for other in SWITCHES}) for name in SWITCHES}
LEFT_OUT = {f"all but {name}": Passes(**{name: False}) for name in SWITCHES}


def compiled_with(program, setting, passes):
    found = lowered(program, setting, passes, bos=None)
    return Compiled(program, found, load(emit(found.plan, program), causal=setting.causal))


def size(compiled):
    return sum(p.numel() for p in compiled.model.parameters())


@pytest.mark.parametrize("passes", [*ALONE.values(), *LEFT_OUT.values()], ids=[*ALONE, *LEFT_OUT])
@pytest.mark.parametrize("name", EXAMPLES)
def test_a_pass_changes_no_result(name, passes):
    example = EXAMPLES[name]
    compiled = compiled_with(example.program, Setting(example.vocab, 4, example.causal), passes)
    report = compiled.verify(samples=20, limit=130)
    assert report.equal, report
    assert report.inputs > 0


@pytest.mark.parametrize("name", EXAMPLES)
def test_optimising_makes_no_model_larger(name):
    example = EXAMPLES[name]
    setting = Setting(example.vocab, 8, example.causal)
    plain, best = (compiled_with(example.program, setting, Passes.level(level)) for level in (0, 1))
    assert size(best) <= size(plain)
    assert best.model.cfg.n_layers <= plain.model.cfg.n_layers


ORDER = Select(indices, indices, Comparison.LEQ)
REWRITTEN = {
    "twice the same": SequenceMap(lambda x, y: (x, y), tokens, tokens),
    "identity": Map(lambda t: t, tokens),
    "one value": Map(lambda t: 7, tokens),
    "by index": SelectorWidth(ORDER),
    "by length": SelectorWidth(Select(tokens, tokens, Comparison.TRUE)) - 1,
    "difference of averages": Aggregate(ORDER, tokens == "a") - Aggregate(ORDER, tokens == "b"),
    "average of None": Aggregate(ORDER, Map(lambda t: None if t == "a" else 2, tokens), default=3),
    "filled": Aggregate(ORDER, Full(5)) + SelectorWidth(Select(tokens, Full("a"), Comparison.EQ)),
    "either or": SelectorWidth(Select(tokens, tokens, Comparison.EQ) | ORDER),
    "rank with ties": EXAMPLES["sort"].program,
}


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("program", REWRITTEN.values(), ids=REWRITTEN)
def test_simplifying_keeps_the_value_of_every_node(program, causal):
    simplifier = Simplifier(Inference(Setting(("a", "b"), 4, causal)), plain=False)
    core = simplifier.run(program)
    assert simplifier.images[program] is core
    for xs in every_input(("a", "b"), 4):
        given_values = trace(program, xs, causal=causal)
        for node in topological(program):
            if isinstance(node, SOp):
                found = rasp.evaluate(simplifier.images[node], xs, causal=causal)
                assert list(map(key, found)) == list(map(key, given_values[node])), (node, simplifier.images[node], xs)


def test_simplifying_spares_heads():
    setting = Setting(("a", "b"), 4, False)
    difference = REWRITTEN["difference of averages"]
    assert len(compiled_with(difference, setting, Passes()).certificate.heads) == 1
    assert len(compiled_with(difference, setting, Passes(simplify=False, spread=False)).certificate.heads) == 2
    assert not compiled_with(SelectorWidth(ORDER), setting, Passes()).certificate.heads, "it is the index, and 1"


@pytest.mark.parametrize("spread", [False, True])
@pytest.mark.parametrize("name", EXAMPLES)
def test_no_operation_runs_before_what_it_reads(name, spread):
    example = EXAMPLES[name]
    passes = Passes(spread=spread)
    found = lowered(example.program, Setting(example.vocab, 5, example.causal), passes, bos=None)
    written = {d for directions in found.plan.embedded.values() for d in directions}
    operations = []
    for layer in found.schedule.layers:
        for group in (layer.heads, layer.neurons):
            assert all(operation.reads <= written for operation in group)
            written |= {d for operation in group for d in operation.writes}
            operations += group
    assert {d for form in found.readout.forms for d in form.weights} <= written
    depth = max((time + 1) // 2 for time in _earliest(operations)) if operations else 1
    assert len(found.schedule.layers) == found.schedule.lower_bound == depth


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_column_holds_one_direction_at_a_time_and_as_long_as_it_is_read(name):
    example = EXAMPLES[name]
    plan = lowered(example.program, Setting(example.vocab, 8, example.causal), Passes(), bos=None).plan
    for half_layer in range(2 * len(plan.layers) + 1):
        columns = list(plan.allocation.at(half_layer).values())
        assert len(set(columns)) == len(columns)
    for i, layer in enumerate(plan.layers):
        for time, group in ((2 * i + 1, layer.heads), (2 * i + 2, layer.neurons)):
            held = plan.allocation.at(time - 1)
            assert all(operation.reads <= set(held) for operation in group)
    at_the_end = plan.allocation.at(2 * len(plan.layers))
    assert {d for form in plan.output for d in form.weights} <= set(at_the_end)


def test_a_reused_column_is_cleared():
    hist = EXAMPLES["hist"]
    compiled = compiled_with(hist.program, Setting(hist.vocab, 6, False), Passes())
    lives = compiled.lowered.plan.allocation.lives
    assert any(life.cleared is not None for life in lives), "hist is held where the classes of tokens were"
    assert any(", then " in label for label in compiled.labels)
    assert compiled.verify(samples=30, limit=100).equal


@settings(max_examples=25, deadline=None)
@given(st.builds(Passes, *[st.booleans()] * 4), st.sampled_from(sorted(EXAMPLES)))
def test_compiling_twice_gives_the_same_weights(passes, name):
    example = EXAMPLES[name]
    setting = Setting(example.vocab, 3, example.causal)
    first, second = (compiled_with(example.program, setting, passes).model.state_dict() for _ in range(2))
    assert all(torch.equal(first[parameter], second[parameter]) for parameter in first)
