"""ALBERT's embedding: a narrow table and a map, one table to those who read weights."""

import pytest
import torch

from microtome.lab import zoo


def build(d_embed, **sizes):
    stem = {"name": "tokens", "d_vocab": 50, "d_embed": d_embed}
    return zoo.sequence(stem=stem, **{"d_model": 32, "n_layers": 2, "n_heads": 2, "n_ctx": 8, **sizes})


def test_it_is_the_product_of_both(generator):
    model = build(4)
    tokens = torch.randint(50, (2, 8), generator=generator)
    torch.testing.assert_close(model.embed(tokens), model.W_E[tokens])
    wanted = model.embed.table.weight @ model.embed.up.weight.T + model.embed.up.bias
    torch.testing.assert_close(model.W_E, wanted)
    assert torch.linalg.matrix_rank(model.W_E - model.embed.up.bias) == 4


def test_it_has_v_e_plus_e_h_weights():
    def count(model):
        return sum(p.numel() for p in model.embed.parameters())

    assert count(build(None)) == 50 * 32
    assert count(build(4)) == 50 * 4 + 4 * 32 + 32


def test_a_description_keeps_it():
    model = build(4)
    assert zoo.sequence(**model.spec.describe()).spec == model.spec


def test_no_width_is_refused():
    with pytest.raises(ValueError, match="d_embed must be at least 1, not 0"):
        build(0)
