"""Sigmoid attention (Ramapuram et al. 2025): its checks, its published sizes, its claim."""

import math

import pytest
import torch

from microtome.kernels import sigmoid_attention as kernel
from microtome.kernels.scores import function, tiles, weighting
from microtome.lab import zoo
from microtome.theory import claims
from microtome.theory.statements import sigmoid_attention_numeric as numeric

SIZES = {"d_vocab": 13, "d_model": 16, "n_heads": 2, "n_layers": 2, "n_ctx": 32}


def heads(generator, n=20, d_head=4):
    return [torch.randn(2, 3, n, d_head, generator=generator, dtype=torch.float64) for _ in range(3)]


def model(**options):
    parts = {"mixer": {"name": "sigmoid_attention", **options}, "position": "alibi"}
    return zoo.sequence(**parts, **SIZES).double()


@pytest.mark.parametrize("causal", [True, False])
def test_equals_torch_s_sigmoid(causal, generator):
    q, k, v = heads(generator)
    logits = q @ k.mT / 2 - 3.0
    if causal:
        logits = logits.masked_fill(torch.ones(20, 20, dtype=torch.bool).triu(1), -torch.inf)
    z = kernel.attention(q, k, v, b=-3.0, causal=causal)
    torch.testing.assert_close(z, torch.sigmoid(logits) @ v, atol=1e-14, rtol=1e-12)


def test_permutation_equivariant(generator):
    q, k, v = heads(generator)
    order = torch.randperm(20, generator=generator)
    z = kernel.attention(q, k, v, b=-3.0)
    permuted = kernel.attention(q[:, :, order], k[:, :, order], v[:, :, order], b=-3.0)
    torch.testing.assert_close(permuted, z[:, :, order], atol=1e-13, rtol=1e-12)


@pytest.mark.parametrize("n", [1, 7, 32])
def test_zero_logits_at_b_minus_log_n_weigh_one_over_n_plus_one(n, generator):
    weights = kernel.weights(torch.zeros(n, n, dtype=torch.float64), -math.log(n))
    torch.testing.assert_close(weights, torch.full_like(weights, 1 / (n + 1)), atol=1e-15, rtol=0)
    built = model()
    with torch.no_grad():
        for block in built.blocks:
            block.attn.q.weight.zero_()
            block.attn.q.bias.zero_()
    built.pos_embed.slopes.zero_()
    seen = torch.ones(n, n, dtype=torch.bool).tril()
    for effective in built.effective_attention(torch.randint(13, (1, n), generator=generator)):
        torch.testing.assert_close(effective.matrix[..., seen], torch.full_like(effective.matrix[..., seen], 1 / 33))


def test_removing_a_key_leaves_the_other_weights_unchanged(generator):
    q, k, _ = heads(generator)
    mask = torch.ones(2, 20, dtype=torch.bool)
    mask[:, 7] = False
    eye = torch.eye(20, dtype=torch.float64).expand(2, 3, -1, -1)
    padded = torch.nn.functional.pad
    q, k = (padded(t, (0, 16)) for t in (q, k))  # as wide as one value per key
    whole, without = (kernel.attention(q, k, eye, b=-3.0, scale=0.5, mask=m) for m in (None, mask))
    kept = torch.arange(20) != 7
    assert torch.equal(without[..., kept], whole[..., kept])
    assert torch.equal(without[..., 7], torch.zeros(2, 3, 20, dtype=torch.float64))


@pytest.mark.parametrize("cut", [(1, 1), (40, 7), (1000, 16), (1 << 18, 1024)], ids=str)
def test_tiles_of_any_size_equal_the_dense_form(cut, generator, monkeypatch):
    q, k, v = (t.float() for t in heads(generator, n=50))
    bias = torch.randn(1, 50, 50, generator=generator)
    dense = kernel.attention(q, k, v, b=-3.0, bias=bias, causal=True)
    monkeypatch.setattr(function, "WHOLE_SCORES", 0)
    monkeypatch.setattr(tiles, "TILE_ELEMENTS", cut[0])
    monkeypatch.setattr(weighting, "KEYS", cut[1])
    torch.testing.assert_close(kernel.attention(q, k, v, b=-3.0, bias=bias, causal=True), dense, atol=1e-5, rtol=0)


@pytest.mark.parametrize("whole_scores", [0, 1 << 40], ids=["tiles", "whole"])
def test_masked_entries_weigh_exactly_zero_and_get_no_gradient(whole_scores, generator, monkeypatch):
    monkeypatch.setattr(function, "WHOLE_SCORES", whole_scores)
    q, k, v = (t.requires_grad_() for t in heads(generator))
    mask = torch.arange(20) < torch.tensor([[20], [12]])
    kernel.attention(q, k, v, b=-3.0, mask=mask).square().sum().backward()
    for t in (k, v):
        assert torch.equal(t.grad[1, :, 12:], torch.zeros(3, 8, 4, dtype=torch.float64))
        assert (t.grad[1, :, :12] != 0).all()
    assert (kernel.weights(torch.tensor([-torch.inf, 0.0]), 5.0) == 0).tolist() == [True, False]


def test_rows_are_not_normalised(generator):
    (effective, _) = model(b=3.0).effective_attention(torch.randint(13, (2, 20), generator=generator))
    assert effective.matrix.sum(-1)[..., -1].min() > 5


def test_b_does_not_follow_the_length_of_the_input(generator):
    built = model()
    tokens = torch.randint(13, (1, 32), generator=generator)
    short, long = built.effective_attention(tokens[:, :9])[0], built.effective_attention(tokens)[0]
    torch.testing.assert_close(short.matrix, long.matrix[..., :9, :9], atol=1e-14, rtol=1e-12)
    assert built.blocks[0].attn.b == -math.log(32)


def test_qk_norm_normalises_every_head_before_rotation(generator):
    mixer = {"name": "sigmoid_attention", "qk_norm": True}
    built = zoo.sequence(mixer=mixer, position="rope", **SIZES).double()
    _, cache = built.run_with_cache(torch.randint(13, (2, 20), generator=generator))
    for name in ("hook_q", "hook_k"):
        x = cache[f"blocks.0.attn.{name}"]
        torch.testing.assert_close(x.mean(-1), torch.zeros_like(x[..., 0]), atol=1e-12, rtol=0)
        torch.testing.assert_close(x.var(-1, correction=0), torch.ones_like(x[..., 0]), atol=1e-2, rtol=0)
        assert not torch.allclose(cache[f"blocks.0.attn.{name.replace('hook_', 'hook_rot_')}"], x)


def test_qk_norm_is_part_of_a_step(generator):
    from microtome.lab.zoo.streaming import Stream

    built = model(qk_norm=True)
    tokens = torch.randint(13, (2, 20), generator=generator)
    stream = Stream(built, 2)
    out = torch.stack([stream.push(token) for token in tokens.unbind(1)], 1)
    torch.testing.assert_close(out, built(tokens), atol=1e-10, rtol=1e-8)


def test_layer_scale_multiplies_what_a_sublayer_writes(generator):
    options = {"mixer": "sigmoid_attention", **SIZES}
    plain = zoo.sequence(**options).double()
    scaled = zoo.sequence(norm={"name": "layer_scale", "start": 0.25}, **options).double()
    tokens = torch.randint(13, (2, 20), generator=generator)
    names = ["blocks.0.hook_attn_out", "blocks.0.attn.hook_z"]
    (_, one), (_, other) = (m.run_with_cache(tokens, names_filter=names) for m in (plain, scaled))
    torch.testing.assert_close(other["z", 0], one["z", 0])
    torch.testing.assert_close(other["attn_out", 0], 0.25 * one["attn_out", 0])
    torch.testing.assert_close(scaled.blocks[1].mlp.W_out, 0.25 * plain.blocks[1].mlp.W_out)
    assert sum("gamma" in name for name, _ in scaled.named_parameters()) == 4
    scaled(tokens).sum().backward()
    assert all(p.grad.abs().sum() > 0 for name, p in scaled.named_parameters() if "gamma" in name)
    with pytest.raises(ValueError, match="layer_scale must start above or below zero"):
        zoo.sequence(norm={"name": "layer_scale", "start": 0.0}, **options)


def test_published_sizes():
    built = zoo.build("sigmoid_attention", "one_block")
    assert sum(p.numel() for p in built.blocks.parameters()) == 1_771_136
    assert sum(p.numel() for p in built.parameters()) == 26_424_704
    assert built.blocks[0].attn.b == pytest.approx(-7.62, abs=5e-3)
    assert zoo.build("sigmoid_attention", "length_64").blocks[0].attn.b == -10


@pytest.mark.usefixtures("untyped")
def test_a_bias_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="b must be a finite number, or None for −log n_ctx, not nan"):
        model(b=float("nan"))


@pytest.mark.parametrize("n", numeric.LENGTHS)
def test_outputs_start_at_softmax_s_size_and_n_over_two_times_it_without_bias(n, generator):
    biased = numeric.norm_ratio(n, -math.log(n), generator)
    assert 0.5 <= biased.min() <= biased.max() <= 2
    assert ((numeric.norm_ratio(n, 0.0, generator) / (n / 2) - 1).abs() <= 0.2).all()


def test_the_jacobian_bound_holds_and_needs_its_slopes(generator):
    layers = [numeric.draw_layer(generator) for _ in range(60)]
    norms = [numeric.jacobian_norm(layer) for layer in layers]
    assert all(norm <= numeric.jacobian_bound(layer) * (1 + 1e-12) for norm, layer in zip(norms, layers, strict=True))
    assert any(norm > numeric.jacobian_bound(layer, slopes=0.0) for norm, layer in zip(norms, layers, strict=True))


def test_the_claim_holds_at_the_quick_budget():
    evidence = claims.load("sigmoid_attention").run(budget="quick", seed=0)
    assert evidence.verdict == "holds", evidence.to_json()


@pytest.mark.slow
def test_the_claim_holds_at_the_full_budget():
    evidence = claims.load("sigmoid_attention").run(budget="full", seed=0)
    assert evidence.verdict == "holds", evidence.to_json()
