"""Normalised ReLU attention against its formula, loop by loop; the general laws of mixers are tested with all parts."""

import math

import pytest
import torch

from microtome.lab import zoo


@torch.no_grad()
def by_loops(model, x, causal, visible):
    """(1/#visible) Σ ReLU(⟨q, k⟩) v of each head, from the model's weights."""
    attn = model.blocks[0].attn
    q, k, v = (
        torch.einsum("pd,hde->hpe", x, w) + b[:, None]
        for w, b in ((attn.W_Q, attn.b_Q), (attn.W_K, attn.b_K), (attn.W_V, attn.b_V))
    )
    z = torch.zeros_like(v)
    for h in range(len(q)):
        for i in range(len(x)):
            seen = [j for j in range(len(x)) if visible[j] and (j <= i or not causal)]
            for j in seen:
                z[h, i] += max(float(q[h, i] @ k[h, j]), 0.0) * v[h, j] / len(seen)
    return torch.einsum("hpe,hed->pd", z, attn.W_O) + attn.b_O


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("padded", [0, 2])
def test_the_formula(causal, padded, generator):
    model = zoo.sequence(
        d_vocab=7, mixer="relu", norm="none", d_model=8, n_layers=1, n_heads=2, n_ctx=6, causal=causal
    ).double()
    tokens = torch.randint(7, (1, 6), generator=generator)
    visible = torch.arange(6) < 6 - padded
    _, cache = model.run_with_cache(tokens, mask=visible[None])
    wanted = by_loops(model, cache["resid_pre", 0][0], causal, visible)
    torch.testing.assert_close(cache["attn_out", 0][0, visible], wanted[visible])


def test_entropy_of_rows_that_sum_to_anything(generator):
    model = zoo.sequence(d_vocab=7, mixer="relu", d_model=8, n_layers=1, n_heads=2, n_ctx=6).double()
    tokens = torch.randint(7, (3, 6), generator=generator)
    names = ["blocks.0.attn.hook_row_entropy", "blocks.0.attn.hook_pattern"]
    _, cache = model.run_with_cache(tokens, names_filter=names)
    entropy, pattern = (cache[name] for name in names)
    assert (entropy >= 0).all()
    assert (entropy <= math.log(6) + 1e-12).all()
    for row, found in zip(pattern.flatten(0, 2), entropy.flatten(), strict=True):
        share = row[row > 0] / row.sum()
        assert found.item() == pytest.approx(-(share * share.log()).sum().item(), abs=1e-12)


def test_one_key_has_weight_relu_of_its_score(generator):
    """No softmax: a first token that scores below zero looks nowhere."""
    model = zoo.sequence(d_vocab=7, mixer="relu", d_model=8, n_layers=1, n_heads=2, n_ctx=6).double()
    tokens = torch.arange(7)[:, None]
    _, cache = model.run_with_cache(tokens)
    scores, pattern = cache["attn_scores", 0], cache["pattern", 0]
    torch.testing.assert_close(pattern, scores.relu())
    assert (pattern == 0).any()
    assert (pattern > 0).any()
