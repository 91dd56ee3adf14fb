"""Laws of every mixer that the registry lists, at awkward lengths: a new mixer is tested by being listed.

Lengths 1, 63, 100 and 257 are no multiples of any block, chunk or window; models run in float64, where the fast path
must give what its reference gives.
"""

import pytest
import torch

from microtome.lab import zoo
from microtome.lab.zoo import registry
from microtome.lab.zoo.points import observer
from microtome.lab.zoo.streaming import Stream, Streaming
from microtome.lab.zoo.template import Template

MIXERS = zoo.names("mixers")
LENGTHS = (1, 63, 100, 257)
LONGEST = 257


def part(mixer):
    return registry.load("mixers", mixer).Part


def directions(mixer):
    return [
        causal
        for causal in (True, False)
        if not (part(mixer).bidirectional_only if causal else part(mixer).causal_only)
    ]


CASES = [
    pytest.param(mixer, causal, id=f"{mixer}-{'causal' if causal else 'bidirectional'}")
    for mixer in MIXERS
    for causal in directions(mixer)
]


def build(mixer, causal, **sizes):
    sizes = {"d_vocab": 11, "d_model": 16, "n_heads": 2, "n_layers": 1, "n_ctx": LONGEST, **sizes}
    return zoo.sequence(mixer=mixer, causal=causal, position="none", feedforward="none", **sizes).double()


def draw(generator, batch, n):
    return torch.randint(11, (batch, n), generator=generator)


def seen(model, tokens, mask=None):
    """The arguments of the first layer's mixer, what it wrote and its hook_z, all with their gradients."""
    kept = {}

    def keep(name):
        def hook(tensor, hook):
            kept[name] = tensor

        return observer(hook)

    slot, layer = model.blocks[0].slot, model.blocks[0].mixing
    at = [
        ("hook_embed", keep("embed")),
        ("blocks.0.hook_attn_out", keep("out")),
        (f"blocks.0.{slot}.hook_z", keep("z")),
    ]
    handle = layer.register_forward_pre_hook(lambda _, arguments: kept.update(x=arguments[0], context=arguments[1]))
    model.run_with_hooks(tokens, mask=mask, fwd_hooks=at)
    handle.remove()
    return kept


def gradients(value, x, generator):
    """The gradient to x of a random projection of what is computed."""
    along = torch.randn(value.shape, generator=generator, dtype=value.dtype)
    return torch.autograd.grad((value * along).sum(), x, retain_graph=True)[0]


@pytest.mark.parametrize("mixer", MIXERS)
def test_every_mixer_states_its_template(mixer):
    assert isinstance(part(mixer).template, Template)
    assert part(mixer).template.matrix


@pytest.mark.parametrize(("mixer", "causal"), CASES)
@pytest.mark.parametrize("n", LENGTHS)
def test_any_length_gives_finite_outputs_and_the_same_to_each_example_alone(mixer, causal, n, generator):
    model, tokens = build(mixer, causal), draw(generator, 2, n)
    out = model(tokens)
    assert out.shape == (2, n, 11)
    assert torch.isfinite(out).all()
    torch.testing.assert_close(out[1:], model(tokens[1:]), atol=1e-9, rtol=1e-7)


@pytest.mark.parametrize(("mixer", "causal"), CASES)
@pytest.mark.parametrize("n", [63, 257])
def test_the_fast_path_is_the_effective_attention_with_its_gradients(mixer, causal, n, generator):
    """hook_z against matrix times values, and the gradients of both to the mixer's input."""
    model, tokens = build(mixer, causal), draw(generator, 1, n)
    kept = seen(model, tokens)
    effective = model.blocks[0].mixing.effective_attention(kept["x"], kept["context"])
    assert effective.matrix.shape[-2:] == (n, n)
    if not effective.exact:
        return
    z = (effective.matrix @ effective.values).transpose(1, 2).flatten(2)
    fast = kept["z"].flatten(2)
    torch.testing.assert_close(z, fast, atol=1e-9, rtol=1e-7)
    slow_gradient = gradients(z, kept["x"], torch.Generator().manual_seed(3))
    fast_gradient = gradients(fast, kept["x"], torch.Generator().manual_seed(3))
    torch.testing.assert_close(slow_gradient, fast_gradient, atol=1e-8, rtol=1e-6)


@pytest.mark.parametrize(("mixer", "causal"), CASES)
@pytest.mark.parametrize("n", [63, 257])
def test_no_gradient_comes_from_the_future_or_from_padding(mixer, causal, n, generator):
    model, tokens = build(mixer, causal), draw(generator, 2, n)
    mask = torch.ones(2, n, dtype=torch.bool)
    mask[0, n - n // 4 :] = False
    reader = n // 2
    for given in (None, mask):
        kept = seen(model, tokens, given)
        gradient = gradients(kept["out"][:, reader], kept["x"], generator).abs().sum(-1)
        assert torch.isfinite(gradient).all()
        if causal:
            # A Fourier transform leaves rounding where the product is zero.
            assert (gradient[:, reader + 1 :] <= 1e-13 * gradient.max()).all()
        if given is not None:
            assert (gradient[~mask] <= 1e-13 * gradient.max()).all()
    if not causal and part(mixer).template.local == "":
        assert gradient[1, reader + 1 :].sum() > 0


@pytest.mark.parametrize(("mixer", "causal"), CASES)
def test_changing_a_masked_token_changes_nothing_at_real_ones(mixer, causal, generator):
    n = 63
    model, tokens = build(mixer, causal), draw(generator, 2, n)
    mask = torch.ones(2, n, dtype=torch.bool)
    mask[0, 40:] = False
    mask[1, 10:13] = False
    changed = torch.where(mask, tokens, (tokens + 3) % 11)
    a, b = model(tokens, mask=mask), model(changed, mask=mask)
    torch.testing.assert_close(a[mask], b[mask], atol=1e-9, rtol=1e-7)


@pytest.mark.parametrize(("mixer", "causal"), CASES)
def test_an_input_with_nothing_but_padding_gives_no_nan(mixer, causal, generator):
    model, tokens = build(mixer, causal), draw(generator, 2, 9)
    mask = torch.ones(2, 9, dtype=torch.bool)
    mask[0] = False
    out = model(tokens, mask=mask)
    assert torch.isfinite(out).all()
    out.sum().backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize(("mixer", "causal"), CASES)
def test_points_are_live_or_declared_absent(mixer, causal, generator):
    model = build(mixer, causal)
    slot = model.blocks[0].slot
    _, cache = model.run_with_cache(draw(generator, 1, 20), names_filter=lambda _: True)
    declared = {info.name: info for info in model.points()}
    for name, info in declared.items():
        assert (name in cache) == (info.status != "absent"), name
    for name in ("hook_q", "hook_k", "hook_v", "hook_pattern", "hook_z"):
        assert f"blocks.0.{slot}.{name}" in declared, name
    heads = declared[f"blocks.0.{slot}.hook_row_entropy"]
    entropy = cache[heads.name]
    assert (entropy >= 0).all()
    assert cache[f"blocks.0.{slot}.hook_effective_pattern"].shape == (*entropy.shape, 20)


@pytest.mark.parametrize(("mixer", "causal"), [c for c in CASES if c.values[1]])
def test_a_stream_gives_what_the_whole_gives(mixer, causal, generator):
    model = build(mixer, causal, n_layers=2)
    if not isinstance(model.blocks[0].mixing, Streaming):
        pytest.skip("the mixer has no step()")
    tokens = draw(generator, 2, 70)
    stream, sizes, outputs = Stream(model, 2), [], []
    for token in tokens.unbind(1):
        outputs.append(stream.push(token))
        sizes.append(stream.floats)
    torch.testing.assert_close(torch.stack(outputs, 1), model(tokens), atol=1e-9, rtol=1e-7)
    constant = model.blocks[0].mixing.constant_state
    assert (len(set(sizes)) == 1) == constant
