"""The efficient transformers of "Long Range Arena" (Tay et al. 2020), each where it must be softmax attention, and what
sets it apart; what all mixers promise stands in test_mixer_laws.
"""

import pytest
import torch
import torch.nn.functional as F

from microtome.kernels.random_features import directions, positive_features
from microtome.lab import zoo
from microtome.lab.zoo.mixers import _lsh
from microtome.lab.zoo.parts import Context
from microtome.lab.zoo.streaming import Stream

SIZES = {"d_vocab": 11, "d_model": 16, "n_heads": 2, "n_layers": 1, "position": "none"}


def layer(name, n_ctx=64, causal=False, seed=0, **options):
    return zoo.sequence(mixer={"name": name, **options}, n_ctx=n_ctx, causal=causal, seed=seed, **SIZES).double()


def draw(n, generator):
    return torch.randint(11, (2, n), generator=generator)


def heads(model, tokens):
    cache = model.run_with_cache(tokens)[1]
    return *(cache[name, 0].transpose(1, 2) for name in "qkv"), cache["z", 0].transpose(1, 2)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("local", {"block": 40}),
        ("bigbird", {"block": 8, "random": 5}),
        ("bigbird", {"block": 8, "random": 2}),
        ("bigbird", {"block": 40, "random": 0}),
        ("longformer", {"window": 100}),
        ("sparse", {"block": 40}),
        ("sparse", {"block": 4, "summary": 4}),
    ],
)
def test_patterns_that_show_everything_are_softmax_attention(name, options, causal, generator):
    model, tokens = layer(name, causal=causal, **options), draw(40, generator)
    q, k, v, z = heads(model, tokens)
    places = torch.arange(40)
    sees = model.blocks[0].attn.sees(places, places, 40)
    assert (sees.tril() == torch.ones(40, 40).tril()).all() if causal else sees.all()
    wanted = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
    torch.testing.assert_close(z, wanted, atol=1e-12, rtol=1e-10)


def test_sinkhorn_with_one_block_gives_twice_softmax_attention(generator):
    q, k, v, z = heads(layer("sinkhorn", block=40), draw(40, generator))
    torch.testing.assert_close(z, 2 * F.scaled_dot_product_attention(q, k, v), atol=1e-12, rtol=1e-10)


def test_sinkhorn_balances_rows_and_columns(generator):
    model = layer("sinkhorn", block=8, iterations=60)
    q, k, _, _ = heads(model, draw(40, generator))
    r = model.blocks[0].attn.sort(q, k, torch.ones(2, 40, dtype=torch.bool))
    assert r.shape == (2, 2, 5, 5)
    torch.testing.assert_close(r.sum(-1), torch.ones(2, 2, 5).double(), atol=1e-12, rtol=0)
    torch.testing.assert_close(r.sum(-2), torch.ones(2, 2, 5).double(), atol=1e-6, rtol=0)


def test_the_sparse_mask_has_the_published_entries():
    sparse = layer("sparse", causal=True, block=50, summary=10, n_ctx=200).blocks[0].attn
    places = torch.arange(200)
    assert int(sparse.sees(places, places, 200).tril().sum()) == 8400


def test_the_benchmark_s_encoder_opens_row_and_column_of_the_class_token_to_it(generator):
    model = layer("sparse", n_ctx=200, one_way=True)
    places = torch.arange(200)
    sees = model.blocks[0].attn.sees(places, places, 200)
    assert int(sees.sum()) == 8400 + 199, "position 0 sees the 199 behind it; all saw it before"
    effective = model.effective_attention(draw(200, generator))[0]
    assert torch.equal(effective.matrix > 0, sees.expand_as(effective.matrix))
    assert (effective.matrix @ effective.values).isfinite().all()


def test_local_attention_never_leaves_its_block_at_any_depth(generator):
    model = zoo.sequence(mixer={"name": "local", "block": 8}, n_ctx=32, causal=False, **{**SIZES, "n_layers": 4})
    tokens = draw(32, generator)
    changed = tokens.clone()
    changed[:, 16:24] = (changed[:, 16:24] + 1) % 11
    same = (model(tokens) == model(changed)).all(-1)
    assert same[:, :16].all()
    assert same[:, 24:].all()
    assert not same[:, 16:24].any()


def test_linformer_with_unit_projections_is_softmax_attention(generator):
    model = layer("linformer", n_ctx=20, rank=20)
    with torch.no_grad():
        model.blocks[0].attn.e.copy_(torch.eye(20))
    q, k, v, z = heads(model, draw(20, generator))
    torch.testing.assert_close(z, F.scaled_dot_product_attention(q, k, v), atol=1e-12, rtol=1e-10)


def test_linformer_s_matrix_has_the_rank_that_it_says(generator):
    effective = layer("linformer", rank=3).effective_attention(draw(50, generator))[0]
    assert (torch.linalg.matrix_rank(effective.matrix) == 3).all()


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("rounds", [1, 3])
def test_reformer_with_one_bucket_is_shared_key_attention(causal, rounds, generator):
    model, tokens = layer("reformer", causal=causal, n_buckets=1, rounds=rounds), draw(30, generator)
    cache = model.run_with_cache(tokens)[1]
    q, v = (cache[name, 0].transpose(1, 2) for name in "qv")
    scores = q @ F.normalize(q, dim=-1).mT * 8**-0.5
    scores.diagonal(dim1=-2, dim2=-1).fill_(-1e5)
    if causal:
        scores = scores.masked_fill(torch.ones(30, 30, dtype=torch.bool).triu(1), -torch.inf)
    torch.testing.assert_close(cache["z", 0].transpose(1, 2), scores.softmax(-1) @ v, atol=1e-12, rtol=1e-10)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("masked", [True, False])
def test_reformer_s_rounds_over_chunks_are_its_matrix(causal, masked, generator):
    """Three rounds, four buckets, short chunks: the fast path and its gradient against the n × n matrix."""
    model = layer("reformer", causal=causal, n_buckets=4, rounds=3, n_ctx=32)
    attention = model.blocks[0].attn
    mask = torch.rand(2, 100, generator=generator) < 0.7 if masked else None
    x = torch.randn(2, 100, 16, generator=generator, dtype=torch.float64).requires_grad_()
    context = Context(model.pos_embed, 100, mask)
    q, k, v = attention._heads(x, context)
    fast, slow = attention._fast(q, k, v, context), attention._pattern(q, k, context) @ v
    torch.testing.assert_close(fast, slow, atol=1e-11, rtol=1e-9)
    along = torch.randn(fast.shape, generator=generator, dtype=torch.float64)
    gradients = [torch.autograd.grad((z * along).sum(), x, retain_graph=True)[0] for z in (fast, slow)]
    torch.testing.assert_close(*gradients, atol=1e-10, rtol=1e-8)
    pattern = attention._pattern(q, k, context)
    rows = pattern.sum(-1)
    torch.testing.assert_close(rows, torch.ones_like(rows) if mask is None else mask[:, None].expand_as(rows).to(rows))
    lonely = (pattern > 0).sum(-1) == 1
    itself = pattern.diagonal(dim1=-2, dim2=-1) > 0
    assert (lonely | ~itself).all(), "a position looks at itself only where it sees nobody else"


def test_reformer_s_chunks_hold_every_position_once_in_its_bucket_and_order(generator):
    bucket = torch.randint(6, (2, 3, 41), generator=generator)
    found = _lsh.layout(bucket, 6, 4)
    assert torch.equal(found.members.gather(-1, found.slots), torch.arange(41).expand(2, 3, 41))
    assert ((found.members < 41).sum(-1) == 41).all()
    for chunk in found.members[0, 0].unflatten(0, (-1, 4)):
        real = chunk[chunk < 41]
        assert len(set(bucket[0, 0, real].tolist())) <= 1
        assert real.tolist() == sorted(real.tolist())


def test_reformer_groups_alike_vectors(generator):
    """Angular hashing: a vector and a copy turned by little share a bucket more often than two at random."""
    x = torch.randn(1, 1, 400, 8, generator=generator)
    near = x + 0.05 * torch.randn(1, 1, 400, 8, generator=generator)
    r = torch.randn(1, 8, 8, generator=generator)
    own, close, other = (_lsh.buckets(each, r, None) for each in (x, near, x.roll(1, 2)))
    assert (own == close).float().mean() > 0.85 > 0.3 > (own == other).float().mean()


def test_performer_s_error_falls_with_the_root_of_the_number_of_features():
    """Mean squared error at 16 times the features is 1/16. The 4,000 estimates of one pair are independent; at these
    lengths their squared errors have a kurtosis below 30, so that the ratio's logarithm deviates by less than 0.12 and
    [1/32, 1/8] lies more than 5.5 deviations away: a false alarm below 1e-7."""
    generator = torch.Generator().manual_seed(4)
    q, k = 0.5 * F.normalize(torch.randn(2, 1, 16, generator=generator, dtype=torch.float64), dim=-1)
    errors = {}
    for m in (16, 256):
        w = directions(m * 4000, 16, generator, orthogonal=False).unflatten(0, (4000, m))
        estimates = (positive_features(q.expand(4000, 1, 16), w) * positive_features(k.expand(4000, 1, 16), w)).sum(-1)
        errors[m] = (estimates - (q * k).sum().exp()).square().mean()
    assert 1 / 32 < errors[256] / errors[16] < 1 / 8


def test_performer_comes_near_softmax_attention(generator):
    model = layer("performer", n_features=8192)
    q, k, v, z = heads(model, draw(30, generator))
    exact = F.scaled_dot_product_attention(q, k, v)
    assert (z - exact).norm() / exact.norm() < 0.05


def test_a_synthesizer_without_learned_scores_is_softmax_attention(generator):
    for rank in (None, 4):
        model = layer("synthesizer", rank=rank)
        with torch.no_grad():
            model.blocks[0].attn.r.zero_()
        q, k, v, z = heads(model, draw(30, generator))
        torch.testing.assert_close(z, F.scaled_dot_product_attention(q, k, v), atol=1e-12, rtol=1e-10)


@pytest.mark.parametrize("causal", [True, False])
def test_heads_of_global_tokens_speak_for_them_alone_and_are_written_by_the_same_map(causal, generator):
    model, tokens = layer("longformer", causal=causal, window=5, n_global=2), draw(30, generator)
    attention, cache = model.blocks[0].attn, model.run_with_cache(tokens)[1]
    q, k, v = (cache[name, 0].transpose(1, 2) for name in "qkv")
    z, pattern = cache["z", 0], cache["blocks.0.attn.hook_pattern"]
    assert z.shape == (2, 30, 4, 8)
    assert (z[:, :2, :2] == 0).all()
    assert (z[:, 2:, 2:] == 0).all()
    assert (pattern[:, :2, :2] == 0).all()
    assert (pattern[:, 2:, 2:] == 0).all()
    wanted = F.scaled_dot_product_attention(q[:, 2:], k[:, 2:], v[:, 2:], is_causal=causal)[:, :, :2]
    torch.testing.assert_close(z[:, :2, 2:].transpose(1, 2), wanted, atol=1e-12, rtol=1e-10)
    written = torch.einsum("bnhd,hdm->bnm", z, attention.W_O) + attention.b_O
    torch.testing.assert_close(cache["attn_out", 0], written, atol=1e-12, rtol=1e-10)
    effective = model.effective_attention(tokens)[0]
    assert effective.exact
    torch.testing.assert_close(effective.matrix @ effective.values, z.transpose(1, 2), atol=1e-12, rtol=1e-10)


def test_global_tokens_are_seen_by_all_and_read_step_by_step(generator):
    model, tokens = layer("longformer", causal=True, window=3, n_global=2), draw(30, generator)
    places = torch.arange(30)
    assert model.blocks[0].attn.sees(places, places, 30)[20].nonzero()[:, 0].tolist() == [0, 1, 18, 19, 20]
    stream = Stream(model, 2)
    read = torch.stack([stream.push(token) for token in tokens.unbind(1)], 1)
    torch.testing.assert_close(read, model(tokens), atol=1e-12, rtol=1e-10)


@pytest.mark.parametrize("n", [1, 2, 3, 50])
def test_global_tokens_in_short_and_padded_inputs(n, generator):
    model, tokens = layer("longformer", window=4, n_global=2), draw(n, generator)
    mask = torch.ones(2, n, dtype=torch.bool)
    mask[0, max(1, n // 2) :] = False
    out = model(tokens, mask=mask)
    torch.testing.assert_close(out[0, mask[0]], model(tokens[:1, mask[0]])[0], atol=1e-12, rtol=1e-10)
    z = model.run_with_cache(tokens, mask=mask)[1]["z", 0].transpose(1, 2)
    seen = {}
    handle = model.blocks[0].attn.register_forward_pre_hook(lambda _, given: seen.update(x=given[0], context=given[1]))
    model(tokens, mask=mask)
    handle.remove()
    effective = model.blocks[0].attn.effective_attention(seen["x"], seen["context"])
    torch.testing.assert_close(effective.matrix @ effective.values, z, atol=1e-12, rtol=1e-10)


def test_global_tokens_take_no_bias_of_a_position(generator):
    model = zoo.sequence(mixer={"name": "longformer", "n_global": 1}, **{**SIZES, "position": "alibi"})
    with pytest.raises(ValueError, match="no rows for the heads of global tokens"):
        model(draw(9, generator))


def test_bigbird_draws_as_many_new_blocks_as_it_says(generator):
    for causal in (True, False):
        attention = layer("bigbird", causal=causal, block=4, random=3, n_ctx=80).blocks[0].attn
        for blocks in (1, 2, 6, 13, 20):
            seen = attention.blocks_seen(blocks)
            for i, row in enumerate(seen):
                near = {j for j in (0, i - 1, i, i + 1, *(() if causal else (blocks - 1,))) if 0 <= j < blocks}
                far = i - len([j for j in near if j < i]) if causal else blocks - len(near)
                whole = not causal and i in (0, blocks - 1)
                assert int(row.sum()) == (blocks if whole else len(near) + min(3, far))
        assert torch.equal(attention.blocks_seen(9), attention.blocks_seen(20)[:9, :9]) == causal
        other = layer("bigbird", causal=causal, block=4, random=3, n_ctx=80, seed=1).blocks[0].attn
        assert not torch.equal(attention.blocks_seen(20), other.blocks_seen(20))


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("local", {"block": 0}, "block must be at least 1, not 0"),
        ("sparse", {"summary": 60}, "summary between 0 and block, not 50 and 60"),
        ("bigbird", {"random": -1}, "random at least 0, not 64 and -1"),
        ("longformer", {"window": 0}, "window must be at least 1 and n_global at least 0, not 0 and 0"),
        ("linformer", {"rank": 0}, "rank must be at least 1, not 0"),
        ("synthesizer", {"rank": 0}, "rank must be at least 1, not 0"),
        ("reformer", {"n_buckets": 3}, "n_buckets must be even or 1, and rounds at least 1, not 3 and 1"),
        ("sinkhorn", {"iterations": 0}, "block and iterations must be at least 1, not 50 and 0"),
        ("performer", {"features": "cosine"}, "features are one of positive, relu, at least 1 of them"),
    ],
)
def test_impossible_options_get_a_sentence(untyped, name, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        layer(name, **options)


def test_linformer_and_sinkhorn_refuse_to_be_causal():
    for name in ("linformer", "sinkhorn"):
        with pytest.raises(ValueError, match="looks at the whole input, so that it needs causal=False"):
            layer(name, causal=True)
