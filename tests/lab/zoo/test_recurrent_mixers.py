"""Mixers without a softmax, each against its equations; what all mixers promise stands in test_parts."""

import math

import pytest
import torch

from microtome.lab import tasks, zoo
from microtome.lab.zoo.mixers import linear_attention
from microtome.lab.zoo.parts import Context

SIZES = {"dim": 3, "d_model": 16, "n_heads": 2, "n_layers": 2, "n_ctx": 400}
RECURRENT = ("gated_recurrence", "lstm", "s4d")


def mixer(name: str, **options):
    return zoo.sequence(mixer={"name": name, **options}, **SIZES).double().blocks[0].mixing


@pytest.mark.parametrize("name", [*RECURRENT, "linear_attention"])
def test_each_learns_some_prompts_by_heart(name):
    prompt = tasks.LinearRegression(2).sample(8, 6, torch.Generator().manual_seed(7))
    model = zoo.sequence(dim=2, mixer=name, d_model=32, n_layers=2, n_heads=2, n_ctx=12).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(80):
        losses.append((model(prompt.xs, prompt.ys) - prompt.ys).square().mean())
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.2 * losses[0]


def test_s4d_kernel_is_the_state_space_step_by_step(generator):
    layer = mixer("s4d", d_state=6)
    u = torch.randn(1, 40, 16, generator=generator, dtype=torch.float64)
    a = torch.complex(-layer.log_decay.exp(), layer.frequency)
    dt = layer.log_dt.exp()[:, None]
    step, hold = (dt * a).exp(), ((dt * a).exp() - 1) / a
    state, outputs = torch.zeros(16, 3, dtype=torch.complex128), []
    for t in range(40):
        state = step * state + hold * u[0, t, :, None]
        outputs.append(2 * (torch.view_as_complex(layer.c) * state).sum(-1).real + layer.d * u[0, t])
    kernel = layer.kernel(40)
    convolved = [sum(kernel[:, lag] * u[0, t - lag] for lag in range(t + 1)) for t in range(40)]
    torch.testing.assert_close(torch.stack(convolved), torch.stack(outputs), rtol=1e-9, atol=1e-10)


def test_s4d_starts_as_published():
    layer = mixer("s4d")
    assert layer.frequency[0].tolist() == pytest.approx([math.pi * n for n in range(32)])
    assert (layer.log_decay.exp() - 0.5).abs().max() < 1e-6
    dt = layer.log_dt.exp()
    assert 0.001 <= dt.min() < dt.max() <= 0.1


def test_lstm_skips_padding_wherever_it_stands(generator):
    model = zoo.sequence(d_vocab=9, mixer="lstm", position="none", d_model=8, n_heads=2, n_layers=2, n_ctx=32)
    tokens = torch.randint(9, (1, 12), generator=generator)
    mask = torch.ones(1, 12, dtype=torch.bool)
    mask[0, [0, 4, 5, 9]] = False
    torch.testing.assert_close(model(tokens, mask=mask)[mask][None], model(tokens[mask][None]), atol=1e-6, rtol=1e-5)


def test_gate_at_one_remembers_and_at_zero_forgets(generator):
    model = zoo.sequence(mixer="gated_recurrence", **SIZES)
    xs, ys = torch.randn(1, 5, 3, generator=generator), torch.randn(1, 5, generator=generator)
    name = "blocks.0.mixer.hook_z"
    for gate, expected in ((1.0, lambda v: torch.zeros_like(v)), (0.0, lambda v: v)):
        fill = lambda t, hook, gate=gate: torch.full_like(t, gate)  # noqa: E731
        with model.hooks(fwd_hooks=[("blocks.0.mixer.hook_forget", fill)]):
            _, cache = model.run_with_cache(xs, ys, names_filter=[name, "blocks.0.mixer.hook_v"])
        torch.testing.assert_close(cache[name], expected(cache["blocks.0.mixer.hook_v"]))


@pytest.mark.parametrize("causal", [True, False])
def test_linear_attention_in_chunks_is_linear_attention(causal, generator):
    shape = {**SIZES, "n_ctx": 400}
    shape.pop("dim")
    model = zoo.sequence(d_vocab=5, mixer="linear_attention", causal=causal, **shape).double()
    layer = model.blocks[0].mixing
    q, k, v = (torch.rand(2, 2, 300, 8, generator=generator, dtype=torch.float64) for _ in range(3))
    assert q.shape[2] > 2 * linear_attention.CHUNK
    context = Context(model.pos_embed, 300)
    torch.testing.assert_close(layer._fast(q, k, v, context), layer._pattern(q, k, context) @ v)


def test_edits_of_a_linear_pattern_reach_the_output(generator):
    model = zoo.sequence(mixer="linear_attention", **SIZES)
    xs, ys = torch.randn(1, 5, 3, generator=generator), torch.randn(1, 5, generator=generator)
    name = "blocks.0.attn.hook_pattern"
    edited = model.run_with_hooks(xs, ys, fwd_hooks=[(name, lambda t, hook: torch.zeros_like(t))])
    assert (edited - model(xs, ys)).abs().max() > 1e-4
    pattern = model.run_with_cache(xs, ys, names_filter=name)[1][name]
    torch.testing.assert_close(pattern.sum(-1), torch.ones(1, 2, 10))


@pytest.mark.parametrize("name", RECURRENT)
def test_row_entropies_are_those_of_the_mean_pattern(name, generator):
    model = zoo.sequence(mixer=name, **SIZES)
    xs, ys = torch.randn(2, 5, 3, generator=generator), torch.randn(2, 5, generator=generator)
    _, seen = model.run_with_stats(xs, ys, names=lambda n: ".1.mixer.hook_" in n, reducer=lambda t, hook: t)
    pattern = seen["blocks.1.mixer.hook_effective_pattern"]
    rows = pattern / pattern.sum(-1, keepdim=True)
    expected = -(rows * rows.clamp(min=1e-30).log()).sum(-1)
    torch.testing.assert_close(seen["blocks.1.mixer.hook_row_entropy"], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"d_state": 5}, "d_state must be even and at least 2, not 5"),
        ({"dt_min": 0.2}, "dt_min and dt_max must be 0 < dt_min <= dt_max, not 0.2 and 0.1"),
    ],
)
def test_impossible_options_get_a_sentence(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        mixer("s4d", **options)
    with pytest.raises(ValueError, match="d_model=10 is not divisible by n_heads=4"):
        zoo.sequence(dim=2, d_model=10, n_heads=4, mixer="lstm")
