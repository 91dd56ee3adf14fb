"""Longformer, BigBird and Reformer beside the layers of `transformers`, with one set of weights."""

import pytest
import torch
from transformers import BigBirdConfig, LongformerConfig, ReformerConfig
from transformers.models.big_bird.modeling_big_bird import BigBirdBlockSparseAttention, BigBirdModel
from transformers.models.longformer.modeling_longformer import LongformerSelfAttention
from transformers.models.reformer.modeling_reformer import LSHSelfAttention

from microtome.lab import zoo
from microtome.lab.zoo.mixers import _lsh

D_MODEL, HEADS, D_HEAD = 16, 2, 8


def layer(name, n_ctx, **options):
    model = zoo.sequence(
        mixer={"name": name, **options},
        d_vocab=11,
        d_model=D_MODEL,
        n_heads=HEADS,
        n_layers=1,
        n_ctx=n_ctx,
        causal=False,
        position="none",
        norm="none",
        feedforward="none",
    ).double()
    return model, model.blocks[0].attn


def theirs(make):
    """A layer of `transformers`, which draws its weights from torch's default generator, in float64."""
    with torch.random.fork_rng(devices=[]):
        return make().double().eval()


def copied(maps):
    with torch.no_grad():
        for ours, other in maps:
            other.weight.copy_(ours[0])
            other.bias.copy_(ours[1])


def run(model, tokens):
    """The stream that enters the layer, and its z with all heads side by side."""
    cache = model.run_with_cache(tokens)[1]
    return cache["resid_pre", 0], cache["z", 0].flatten(-2)


@pytest.mark.parametrize("n_global", [0, 2])
def test_longformer_is_that_of_transformers(n_global, generator):
    """Their window of 6 has 3 positions before and 3 behind, ours counts the query itself: 7. Their softmax runs in
    float32."""
    model, ours = layer("longformer", n_ctx=24, window=7, n_global=n_global)
    sizes = {"hidden_size": D_MODEL, "num_attention_heads": HEADS}
    config = LongformerConfig(**sizes, attention_window=[6], num_hidden_layers=1, attention_probs_dropout_prob=0.0)
    other = theirs(lambda: LongformerSelfAttention(config, 0))
    local, of_global = slice(0, D_MODEL), slice(D_MODEL, 2 * D_MODEL)
    linear = [(ours.q, "query"), (ours.k, "key"), (ours.v, "value")]
    maps = [((x.weight[local], x.bias[local]), getattr(other, name)) for x, name in linear]
    if n_global:
        maps += [((x.weight[of_global], x.bias[of_global]), getattr(other, f"{name}_global")) for x, name in linear]
    copied(maps)
    x, z = run(model, torch.randint(11, (2, 24), generator=generator))
    z = z.unflatten(-1, (-1, D_MODEL)).sum(-2)  # at every position the heads of one kind speak
    at_global = (torch.arange(24) < n_global).expand(2, -1)
    wanted = other(
        x,
        attention_mask=10_000.0 * at_global.double(),
        is_index_masked=torch.zeros_like(at_global),
        is_index_global_attn=at_global,
        is_global_attn=bool(n_global),
    )[0]
    torch.testing.assert_close(z, wanted, atol=1e-6, rtol=0)


@pytest.mark.parametrize("blocks", [9, 12])
def test_bigbird_is_that_of_transformers_with_our_random_blocks(blocks, generator):
    """Nine blocks or more leave three that are neither near nor global to each of them, as their layout needs."""
    block, random = 4, 3
    model, ours = layer("bigbird", n_ctx=blocks * block, block=block, random=random)
    near = layer("bigbird", n_ctx=blocks * block, block=block, random=0)[1].blocks_seen(blocks)
    drawn = (ours.blocks_seen(blocks) & ~near)[1:-1]
    chosen = [row.nonzero()[:, 0].tolist() for row in drawn]

    class WithOurBlocks(BigBirdBlockSparseAttention):
        def _bigbird_block_rand_mask_with_head(self, **_):
            return [chosen] * HEADS

    config = BigBirdConfig(
        hidden_size=D_MODEL, num_attention_heads=HEADS, block_size=block, num_random_blocks=random, use_bias=True
    )
    other = theirs(lambda: WithOurBlocks(config))
    copied(((x.weight, x.bias), y) for x, y in ((ours.q, other.query), (ours.k, other.key), (ours.v, other.value)))
    x, z = run(model, torch.randint(11, (2, blocks * block), generator=generator))
    real = torch.ones(2, blocks * block, dtype=torch.float64)
    blocked, band, rows, columns = BigBirdModel.create_masks_for_block_sparse_attn(real, block)
    wanted = other(x, band, rows, columns, blocked, blocked)[0]
    torch.testing.assert_close(z, wanted, atol=1e-10, rtol=1e-8)


def lsh(**options):
    config = ReformerConfig(
        hidden_size=D_MODEL,
        num_attention_heads=HEADS,
        attention_head_size=D_HEAD,
        lsh_attention_probs_dropout_prob=0.0,
        **options,
    )
    return theirs(lambda: LSHSelfAttention(config))


def test_reformer_in_one_chunk_is_that_of_transformers(generator):
    """Theirs has q·k/‖k‖ without 1/√d, so that our queries, √d longer, have the same scores. They add 1e-6 to the mean
    square of a key, some 1e-5 of it at these sizes."""
    model, ours = layer("reformer", n_ctx=30, n_buckets=1)
    other = lsh(lsh_attn_chunk_length=64, is_decoder=False)
    with torch.no_grad():
        ours.q.bias.zero_()
        ours.v.bias.zero_()
        other.query_key.weight.copy_(ours.q.weight / D_HEAD**0.5)
        other.value.weight.copy_(ours.v.weight)
    x, z = run(model, torch.randint(11, (2, 30), generator=generator))
    torch.testing.assert_close(z, other(x).hidden_states, atol=1e-5, rtol=0)


def test_reformer_s_hash_is_that_of_transformers(generator):
    vectors = torch.randn(2, HEADS, 50, D_HEAD, generator=generator, dtype=torch.float64)
    other = lsh(num_buckets=10, num_hashes=3)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        rotations = torch.randn(HEADS, D_HEAD, 3, 5, dtype=torch.float64)
        torch.manual_seed(5)
        wanted = other._hash_vectors(vectors, 3, None).unflatten(-1, (3, 50))
    offsets = 10 * torch.arange(3)[:, None]  # theirs number the buckets of later rounds on
    for r in range(3):
        found = _lsh.buckets(vectors, rotations[:, :, r], None)
        assert torch.equal(found, (wanted - offsets)[:, :, r])
