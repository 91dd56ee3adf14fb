"""Each pass alone, and the weights run by a forward pass that shares no code with the zoo."""

import itertools
import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from microtome.lab import rasp
from microtome.lab.rasp import Aggregate, Comparison, Map, Select, SelectorWidth, SequenceMap, indices, tokens
from microtome.lab.rasp.compiler.canonical import canonical
from microtome.lab.rasp.compiler.emit import emit
from microtome.lab.rasp.compiler.infer import Setting, infer
from microtome.lab.rasp.compiler.layout import Basis, lay_out
from microtome.lab.rasp.compiler.lower import lower
from microtome.lab.rasp.compiler.means import means
from microtome.lab.rasp.compiler.neurons import steps
from microtome.lab.rasp.compiler.schedule import schedule
from microtome.lab.rasp.language import topological
from microtome.lab.rasp.library import examples, make_length, make_sort
from microtome.lab.rasp.values import plain

SAME = Select(tokens, tokens, Comparison.EQ)
SETTING = Setting(("a", "b"), 4, causal=False)


def facts_of(program, setting=SETTING):
    core = canonical(program)[program]
    return infer(core, setting).facts[core]


def test_equal_expressions_become_one_node():
    program = (tokens == "a") & (tokens == "a")
    core = canonical(program)[program]
    assert isinstance(core, Map)
    assert sum(1 for _ in topological(core)) == 3
    assert rasp.evaluate(core, "ab") == rasp.evaluate(program, "ab")


def test_constants_that_only_python_takes_for_equal_stay_apart():
    program = SequenceMap(lambda x, y: (x, y), (tokens == "a") & True, (tokens == "a") & 1)
    core = canonical(program)[program]
    assert sum(1 for _ in topological(core)) == 5
    assert rasp.compile(program, vocab="ab", max_len=2)("ab") == [(True, 1), (False, False)]


def test_other_functions_and_defaults_stay_apart():
    program = Aggregate(SAME, tokens, default=0) == Aggregate(SAME, tokens, default=1)
    assert sum(1 for _ in topological(canonical(program)[program])) == 5
    program = Map(lambda x: x, tokens) == Map(lambda x: x, tokens)
    assert sum(1 for _ in topological(canonical(program)[program])) == 4


def test_a_shared_node_takes_the_name_of_any_copy():
    program = make_length() - (SelectorWidth(Select(tokens, tokens, Comparison.TRUE)) + indices)
    images = canonical(program)
    names = [node.name for node in topological(images[program]) if isinstance(node, SelectorWidth)]
    assert names == ["length"]


@pytest.mark.parametrize(
    ("program", "values"),
    [
        (tokens, ("a", "b")),
        (indices - 1, (-1, 0, 1, 2)),
        (SelectorWidth(SAME), (1, 2, 3, 4)),
        (SelectorWidth(Select(indices, indices, Comparison.LT)), (0, 1, 2, 3, 4)),
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
    assert compiled.labels[:6] == ("sink", "tokens='a'", "tokens='b'", "length: sink share", "length=1", "length=2")
    assert compiled.labels[-2:] == ("last=False", "last=True")
    assert len(set(compiled.labels)) == len(compiled.labels) == compiled.model.cfg.d_model


def test_the_order_of_directions_does_not_depend_on_that_of_a_set():
    compiled = rasp.compile(tokens == "a", vocab={"c", "a", "b", 7}, max_len=2)
    assert compiled.labels[1:5] == ("tokens=7", "tokens='a'", "tokens='b'", "tokens='c'")


def test_variables_with_one_label_are_numbered():
    program = Map(lambda x: x + "!", tokens) == Map(lambda x: x + "?", tokens)
    labels = rasp.compile(program, vocab="ab", max_len=2).labels
    assert {"Map(λ, tokens)='a!'", "Map(λ, tokens)#2='a?'"} <= set(labels)


def test_a_basis_can_be_asked_for():
    hist = SelectorWidth(SAME).named("hist")
    compiled = rasp.compile(hist * 2, vocab="ab", max_len=3)
    assert compiled.basis(hist).codes == ("hist=1", "hist=2", "hist=3")
    with pytest.raises(KeyError, match="indices is not an expression of"):
        compiled.basis(indices)


@settings(max_examples=50, deadline=None)
@given(st.sets(st.integers(-3000, 3000), min_size=1, max_size=30), st.sampled_from([1.0, 1 / 7, 0.01, 64.0]), st.data())
def test_steps_find_the_level_exactly_in_float32(levels, unit, data):
    values = sorted(n * unit for n in levels)
    names = [f"level {i}" for i in range(len(values))]
    made = steps(Basis("x"), "x", dict(zip(names, values, strict=True)), ("stray",)).neurons
    chosen = data.draw(st.integers(0, len(values) - 1))
    gap = min((b - a for a, b in itertools.pairwise(values)), default=unit)
    noisy = values[chosen] + data.draw(st.floats(-0.25, 0.25)) * gap
    for number, stray in ((noisy, 0.0), (0.0, 1.0)):
        stream = {"x": torch.tensor(number), "stray": torch.tensor(stray)}
        found = dict.fromkeys(names, torch.tensor(0.0))
        for neuron in made:
            pre = sum(stream[d] * torch.tensor(w) for d, w in neuron.reads.items()) + torch.tensor(neuron.bias)
            for direction, weight in neuron.writes.items():
                found[direction] = found[direction] + weight * torch.relu(pre)
        wanted = [1.0 if i == chosen and not stray else 0.0 for i in range(len(values))]
        assert [float(found[name]) for name in names] == wanted


def test_the_layers_are_as_many_as_the_longest_chain_needs():
    chain = tokens == "a"  # neurons of layer 0
    wide = Aggregate(Select(indices, indices, Comparison.LEQ), chain)  # head of layer 1, read by value there
    program = SequenceMap(lambda x, y: (x, y), wide > 0.5, SelectorWidth(SAME))  # > in layer 2, the pair in layer 3
    core = canonical(program)[program]
    inference = infer(core, SETTING)
    layers = schedule(lower(core, inference, lay_out(core, inference)))
    assert [[head.label for head in layer.heads] for layer in layers] == [
        ["SelectorWidth(Select(tokens, tokens, EQ))"],
        ["Aggregate(Select(indices, indices, LEQ), tokens == 'a')"],
        [],
        [],
    ]
    assert [len(layer.neurons) for layer in layers] == [2, 1, 1, 1]


def forward(weights, ids, causal):
    """The plain transformer that the weights are for, in their dtype: [batch pos] to logits."""
    x = weights.W_E[ids] + weights.W_pos[: ids.shape[1]]
    hidden = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool).triu(1) if causal else None
    for layer in weights.layers:
        q = torch.einsum("bpm,hmd->bhpd", x, layer.W_Q) + layer.b_Q[:, None]
        k = torch.einsum("bpm,hmd->bhpd", x, layer.W_K) + layer.b_K[:, None]
        v = torch.einsum("bpm,hmd->bhpd", x, layer.W_V)
        scores = q @ k.mT / math.sqrt(q.shape[-1])
        if causal:
            scores = scores.masked_fill(hidden, -math.inf)
        x = x + torch.einsum("bhpd,hdm->bpm", scores.softmax(-1) @ v, layer.W_O)
        x = x + torch.relu(x @ layer.W_in + layer.b_in) @ layer.W_out
    return x @ weights.W_U


@pytest.mark.parametrize("example", examples(), ids=lambda example: example.name)
def test_the_weights_compute_the_program_in_any_softmax_transformer(example):
    core = canonical(example.program)[example.program]
    inference = infer(core, Setting(example.vocab, 4, example.causal))
    layout = lay_out(core, inference)
    weights = emit(core, inference, layout, schedule(lower(core, inference, layout)))
    compiled = rasp.compile(example.program, vocab=example.vocab, max_len=4, causal=example.causal)
    inputs = list(itertools.product(example.vocab, repeat=4))
    logits = forward(weights, compiled.encode(inputs), example.causal)
    assert compiled.decode(logits) == [example.specification(list(xs)) for xs in inputs]
    with torch.no_grad():
        torch.testing.assert_close(compiled.model(compiled.encode(inputs))[:, 1:], logits[:, 1:], atol=1e-6, rtol=1e-5)


def test_it_is_a_model_with_transformer_lens_hooks():
    program = make_length() - indices
    compiled = rasp.compile(program, vocab="ab", max_len=4)
    ids = compiled.encode(["ab"])
    _, cache = compiled.model.run_with_cache(ids)
    assert cache["blocks.0.attn.hook_pattern"].shape == (1, 1, 3, 3)
    assert cache["blocks.1.hook_resid_post"].shape == (1, 3, len(compiled.labels))
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
    assert repr(compiled).startswith(
        "Compiled(length: 2 tokens, max_len=4, bidirectional; 1 layers of 1 heads and 7 neurons"
    )
