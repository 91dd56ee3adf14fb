"""What the certificate says, measured on the model itself, and what breaks when a head is taken away."""

import itertools
import math

import pytest
import torch

from microtome.lab import rasp
from microtome.lab.rasp import Aggregate, Comparison, Select, SelectorWidth, indices, tokens
from microtome.lab.rasp.library import examples
from microtome.lab.rasp.verify import point

UNDERFLOW = 150 * math.log(2)
"""From this margin on, exp(−margin) is 0 in float32: about 104 nats."""
NAMES = ("length", "reverse", "hist", "sort", "shift_by", "frac_prevs", "pair_balance", "first_occurrence", "induct")
EXAMPLES = {example.name: example for example in examples() if example.name in NAMES}
MAX_LEN = 4


@pytest.fixture(scope="module")
def models():
    return {
        name: rasp.compile(e.program, vocab=e.vocab, max_len=MAX_LEN, causal=e.causal) for name, e in EXAMPLES.items()
    }


def inputs_of(name):
    return list(itertools.islice(itertools.product(EXAMPLES[name].vocab, repeat=MAX_LEN), 256))


def run(compiled, batch, hooks=()):
    with torch.no_grad(), compiled.model.hooks(fwd_hooks=list(hooks)):
        return compiled.model.run_with_cache(compiled.encode(batch))[1]


@pytest.mark.parametrize("name", NAMES)
def test_it_says_how_deep_the_model_is_and_how_far_scores_lie_apart(models, name):
    compiled = models[name]
    certificate = compiled.certificate
    assert certificate.max_len == MAX_LEN
    assert certificate.lower_bound == compiled.model.cfg.n_layers
    assert certificate.assumptions == ()
    places = [(i, h) for i, layer in enumerate(compiled.lowered.plan.layers) for h, _ in enumerate(layer.heads)]
    assert [(head.layer, head.head) for head in certificate.heads] == places
    for head in certificate.heads:
        assert head.margin >= UNDERFLOW
        assert head.leakage == 0
    assert f"on every input of 1 to {MAX_LEN} tokens" in str(certificate)


@pytest.mark.parametrize("name", NAMES)
def test_the_margins_of_the_model_are_as_large_as_it_says(models, name):
    """What gets attention, and what does not, differ by the certified margin on every query of all inputs."""
    compiled = models[name]
    cache = run(compiled, inputs_of(name))
    for head in compiled.certificate.heads:
        scores = cache[f"blocks.{head.layer}.attn.hook_attn_scores"][:, head.head, compiled.sink :]
        pattern = cache[f"blocks.{head.layer}.attn.hook_pattern"][:, head.head, compiled.sink :]
        attended, seen = pattern > 0, scores > -1e30
        least = scores.masked_fill(~attended, math.inf).amin(-1)
        most = scores.masked_fill(attended | ~seen, -math.inf).amax(-1)
        assert float((least - most).min()) >= head.margin, head
        assert float(pattern[attended].min()) >= 1 / (2 * (MAX_LEN + 1)), "no attention leaks"


@pytest.mark.parametrize("name", NAMES)
def test_the_margin_of_the_outputs_is_as_large_as_it_says(models, name):
    compiled = models[name]
    if math.isinf(compiled.certificate.margin):
        assert compiled.lowered.readout.values is None, "a number is read off"
        return
    with torch.no_grad():
        logits = compiled.model(compiled.encode(inputs_of(name)))[:, compiled.sink :]
    logits = logits[..., : len(compiled.lowered.readout.values)]
    best = logits.topk(2, -1).values if logits.shape[-1] > 1 else None
    assert best is None or float((best[..., 0] - best[..., 1]).min()) >= compiled.certificate.margin


def downstream(compiled, layer, head):
    """The directions that a head writes, and those that anything computes from them."""
    reached = set(compiled.lowered.plan.layers[layer].heads[head].writes)
    for i, block in enumerate(compiled.lowered.plan.layers):
        for group in (block.heads if i > layer else (), block.neurons if i >= layer else ()):
            for operation in group:
                if operation.reads & reached:
                    reached |= set(operation.writes)
    return reached


def held(compiled, batch, hooks=()):
    """The coordinate of each direction, as long as it is held, at all real positions of all inputs."""
    ids, mask = compiled.pad(batch)
    real = mask.clone()
    real[:, : compiled.sink] = False
    with torch.no_grad(), compiled.model.hooks(fwd_hooks=list(hooks)):
        cache = compiled.model.run_with_cache(ids, mask=mask)[1]
    lives = compiled.lowered.plan.allocation.lives
    return {life.direction: cache[point(compiled, life)][..., life.column][real] for life in lives}, real


@pytest.mark.parametrize("how", ["mean", "zero"])
@pytest.mark.parametrize("name", NAMES)
def test_taking_a_head_away_breaks_what_reads_it_and_nothing_else(models, name, how):
    compiled = models[name]
    vocab = EXAMPLES[name].vocab[:3]
    batch = [xs for n in range(1, MAX_LEN + 1) for xs in itertools.product(vocab, repeat=n)]
    whole, real = held(compiled, batch)
    for head in compiled.certificate.heads:

        def ablate(z, hook, head=head):
            z = z.clone()
            own = z[:, :, head.head]
            own[real] = own[real].mean(0) if how == "mean" else 0.0
            return z

        ablated, _ = held(compiled, batch, [(f"blocks.{head.layer}.attn.hook_z", ablate)])
        changed = {d for d in whole if not torch.equal(whole[d], ablated[d])}
        broken = {d for d in changed if float((whole[d] - ablated[d]).abs().max()) > 1e-4 + 4 * d.error}
        depends = downstream(compiled, head.layer, head.head)
        assert changed <= depends, [d.name for d in changed - depends]
        assert broken & set(compiled.lowered.plan.layers[head.layer].heads[head.head].writes), head


def test_an_error_at_the_output_is_bounded():
    program = Aggregate(Select(indices, indices, Comparison.LEQ), tokens)
    compiled = rasp.compile(program, vocab=(-3, 0.1, 1 / 3, 10), max_len=5)
    certificate = compiled.certificate
    assert compiled.lowered.readout.levels or certificate.output_error > 0
    report = compiled.verify(samples=100, limit=10)
    assert report.equal
    assert report.deviation <= max(d.error for d in compiled.directions) + 1e-5


def test_assumptions_are_listed():
    everywhere = Aggregate(Select(tokens, tokens, Comparison.TRUE).named("all"), tokens)
    certificate = rasp.compile(everywhere, vocab="ab", max_len=3).certificate
    assert certificate.assumptions == ("all never selects two different values of tokens",)
    assert str(certificate).endswith("; provided that all never selects two different values of tokens")


def test_the_margin_holds_at_long_inputs_too():
    compiled = rasp.compile(SelectorWidth(Select(tokens, tokens, Comparison.LT)), vocab=range(40), max_len=40)
    (head,) = compiled.certificate.heads
    assert head.margin >= UNDERFLOW
    cache = run(compiled, [list(range(40)), [0, 39] * 20])
    pattern = cache["blocks.0.attn.hook_pattern"][:, 0, 1:, 1:]
    assert torch.equal(pattern[0] > 0, torch.ones(40, 40).tril(-1) > 0)
