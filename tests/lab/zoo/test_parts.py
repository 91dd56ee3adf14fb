"""Laws that every part keeps, run over whatever the registry lists: a new part is tested by being listed."""

import math

import pytest
import torch

from microtome.lab import zoo
from microtome.lab.zoo import registry
from microtome.lab.zoo.positions import alibi, sinusoidal, t5

SIZES = {"d_vocab": 13, "d_model": 16, "n_heads": 2, "n_layers": 2, "n_ctx": 32}


def positions_for(mixer: str):
    """Every position for softmax attention; for other mixers, one of those they take for each way of providing it."""
    ways = {}
    for position in zoo.names("positions"):
        provides = registry.load("positions", position).Part.provides
        if provides <= registry.load("mixers", mixer).Part.takes:
            ways.setdefault(position if mixer == "softmax" else provides, position)
    return ways.values()


def variants():
    """Each part in its slot with plain ones in the others, and each mixer with its positions."""
    for slot, option in {"norms": "norm", "feedforward": "feedforward", "depth": "depth"}.items():
        for name in zoo.names(slot):
            yield pytest.param({option: name}, id=f"{option}={name}")
    for mixer in zoo.names("mixers"):
        for position in positions_for(mixer):
            yield pytest.param({"mixer": mixer, "position": position}, id=f"{mixer}+{position}")
    for placement in ("post", "stream"):
        yield pytest.param({"norm": {"name": "layernorm", "placement": placement}}, id=placement)
    yield pytest.param({"mixer": {"name": "softmax", "fused_qkv": True, "bias": False}}, id="fused_qkv")


PARTS = list(variants())


def directions(parts) -> tuple[bool, ...]:
    """Which values of `causal` the mixer allows."""
    mixer = parts.get("mixer", "softmax")
    part = registry.load("mixers", mixer if isinstance(mixer, str) else mixer["name"]).Part
    return tuple(c for c in (True, False) if not (part.bidirectional_only if c else part.causal_only))


def build(parts, **sizes):
    return zoo.sequence(**{**SIZES, "causal": directions(parts)[0], **parts, **sizes})


@pytest.mark.parametrize("parts", PARTS)
@pytest.mark.parametrize("n", [1, 7, 32])
def test_shapes_and_caching_to_the_bit(parts, n, generator):
    model = build(parts)
    tokens = torch.randint(13, (2, n), generator=generator)
    logits = model(tokens)
    assert logits.shape == (2, n, 13)
    assert torch.isfinite(logits).all()
    assert torch.equal(logits, model.run_with_cache(tokens)[0])


@pytest.mark.parametrize("parts", PARTS)
def test_causal_models_do_not_see_the_future_and_bidirectional_ones_do(parts, generator):
    tokens = torch.randint(12, (1, 12), generator=generator)
    changed = tokens.clone()
    changed[0, 8:] += 1
    if True in directions(parts):
        causal = build(parts)
        torch.testing.assert_close(causal(tokens)[:, :8], causal(changed)[:, :8], atol=1e-6, rtol=0)
    else:
        with pytest.raises(ValueError, match="looks at the whole input, so that it needs causal=False"):
            build(parts, causal=True)
    if False not in directions(parts):
        with pytest.raises(ValueError, match="reads from left to right, so that it needs causal=True"):
            build(parts, causal=False)
        return
    both = build(parts, causal=False)
    assert (both(tokens)[:, :8] - both(changed)[:, :8]).abs().max() > 1e-6


@pytest.mark.parametrize("parts", PARTS)
def test_padding_is_never_attended_to(parts, generator):
    tokens = torch.randint(12, (2, 10), generator=generator)
    mask = torch.ones(2, 10, dtype=torch.bool)
    mask[0, 6:] = False
    changed = tokens.clone()
    changed[0, 6:] += 1
    for causal in directions(parts):
        model = build(parts, causal=causal)
        a, b = model(tokens, mask=mask), model(changed, mask=mask)
        torch.testing.assert_close(a[mask], b[mask], atol=1e-6, rtol=0)
        torch.testing.assert_close(a[:1, :6], model(tokens[:1, :6]), atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("parts", PARTS)
def test_examples_of_a_batch_do_not_mix(parts, generator):
    model = build(parts)
    tokens = torch.randint(13, (3, 9), generator=generator)
    torch.testing.assert_close(model(tokens)[1:2], model(tokens[1:2]), atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("parts", PARTS)
def test_effective_attention_times_values_is_the_output(parts, generator):
    model = build(parts).double()
    tokens = torch.randint(13, (2, 9), generator=generator)
    _, cache = model.run_with_cache(tokens)
    for i, effective in enumerate(model.effective_attention(tokens)):
        assert effective.exact
        z = (effective.matrix @ effective.values).transpose(1, 2).flatten(-2)
        kept = cache[f"blocks.{i}.{model.blocks[i].slot}.hook_z"].flatten(-2)
        torch.testing.assert_close(z, kept, atol=1e-10, rtol=1e-8)


@pytest.mark.parametrize("parts", PARTS)
def test_every_parameter_gets_a_gradient(parts, generator):
    model = build(parts).train()
    # A key's bias moves all scores of a row alike, so softmax forgets it; rows of unused tokens and positions rest too.
    model(torch.randint(13, (4, 32), generator=generator)).square().mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0 or name.endswith(("k.bias", "relative_attention_bias.weight")), name


@pytest.mark.parametrize("parts", PARTS)
def test_a_description_rebuilds_the_same_parameters(parts):
    model = build(parts, seed=5)
    again = zoo.sequence(**model.spec.describe())
    assert again.spec == model.spec
    for (name, a), b in zip(model.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def test_building_leaves_the_default_generator_alone_and_depends_on_the_seed():
    before = torch.random.get_rng_state()
    a, b = zoo.sequence(seed=1, **SIZES), zoo.sequence(seed=2, **SIZES)
    assert torch.equal(before, torch.random.get_rng_state())
    assert not torch.equal(a.blocks[0].attn.q.weight, b.blocks[0].attn.q.weight)


def test_shared_depth_has_one_block_s_parameters_at_any_depth():
    counts = {
        n: sum(p.numel() for p in zoo.sequence(depth="shared", **{**SIZES, "n_layers": n}).parameters())
        for n in (1, 2, 6)
    }
    assert len(set(counts.values())) == 1


def test_rotary_scores_depend_on_offsets_only(generator):
    model = zoo.sequence(position="rope", **{**SIZES, "n_layers": 1}).double()
    token = torch.full((1, 12), 3)
    _, cache = model.run_with_cache(token)
    scores = cache["attn_scores", 0][0]
    torch.testing.assert_close(scores[:, 5, 3], scores[:, 10, 8])
    assert (scores[:, 5, 3] - scores[:, 5, 4]).abs().max() > 1e-6


def test_sinusoids_are_the_published_ones():
    table = sinusoidal.sinusoids(50, 8)
    assert table[3, 4].item() == pytest.approx(math.sin(3 / 10_000 ** (4 / 8)), abs=1e-6)
    assert table[3, 5].item() == pytest.approx(math.cos(3 / 10_000 ** (4 / 8)), abs=1e-6)


def test_alibi_slopes_are_the_published_ones():
    assert alibi.slopes(8).tolist() == [2.0**-i for i in range(1, 9)]
    assert alibi.slopes(3).tolist() == pytest.approx([2.0**-4, 2.0**-8, 2.0**-2])


@pytest.mark.parametrize("bidirectional", [True, False])
def test_t5_buckets_are_those_of_transformers(bidirectional):
    from transformers.models.t5.modeling_t5 import T5Attention

    offsets = torch.arange(-300, 300)
    theirs = T5Attention._relative_position_bucket(
        offsets, bidirectional=bidirectional, num_buckets=32, max_distance=128
    )
    assert torch.equal(t5.buckets(offsets, 32, 128, bidirectional), theirs)


def test_relative_bias_is_read_by_offset():
    model = zoo.sequence(position="relative", **SIZES)
    bias = model.pos_embed.bias(torch.arange(10), 10)
    assert bias[1, 7, 4] == model.pos_embed.weight[1, 4 - 7 + SIZES["n_ctx"] - 1]
