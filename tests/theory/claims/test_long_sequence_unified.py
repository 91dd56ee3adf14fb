"""The unified view of long-sequence models (2023): its checks on the zoo's own mixers and workers, and its claim.

The entries of FNet, MLP-Mixer, gMLP and convolution stand in `tests/lab/zoo/test_static_mixers.py`, processes and
gradients of the ring in `tests/kernels/test_long_sequence_unified_ring.py`.
"""

import pytest
import torch
import torch.nn.functional as F

from microtome.kernels.long_sequence_unified import Traffic, shares, simulated_attention
from microtome.lab import zoo
from microtome.lab.zoo import registry
from microtome.theory import claims
from microtome.theory.statements import long_sequence_unified_numeric as numeric

ROWS = ("softmax", "linear_attention", "fnet", "mlp_mixer", "gmlp", "convolution", "s4d")


def templates():
    return {name: registry.load("mixers", name).Part.template for name in zoo.names("mixers")}


def test_one_worker_is_scaled_dot_product_attention(generator):
    q, k, v = (torch.randn(2, 3, 50, 8, generator=generator, dtype=torch.float64) for _ in range(3))
    for causal in (False, True):
        z = simulated_attention(q, k, v, sizes=(50,), causal=causal, tile=16)
        wanted = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
        torch.testing.assert_close(z, wanted, atol=1e-12, rtol=0)


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_workers_send_two_p_minus_one_l_d_words(workers, generator):
    q, k, v = (torch.randn(1, 1, 4096, 4, generator=generator) for _ in range(3))
    traffic = Traffic()
    z = simulated_attention(q, k, v, sizes=shares(4096, workers), traffic=traffic)
    assert traffic.forward.words == 2 * (workers - 1) * 4096 * 4
    torch.testing.assert_close(z, F.scaled_dot_product_attention(q, k, v), atol=1e-5, rtol=0)


def test_without_the_rescale_the_sums_are_wrong(generator):
    q, k, v = (torch.randn(1, 1, 64, 8, generator=generator) for _ in range(3))
    whole = F.scaled_dot_product_attention(q, k, v)
    broken = simulated_attention(q, k, v, sizes=(16,) * 4, fold=numeric.fold_without_rescale)
    assert (broken - whole).abs().max() > 1e-2
    one_block = simulated_attention(q, k, v, sizes=(64,), fold=numeric.fold_without_rescale)
    torch.testing.assert_close(one_block, whole, atol=1e-5, rtol=0)


@pytest.mark.parametrize("mixer", ["softmax", "linear_attention"])
@pytest.mark.parametrize("causal", [False, True])
def test_rows_of_softmax_and_of_the_normalised_kernel_sum_to_one(mixer, causal):
    matrix = numeric.mixed(mixer, causal, (2, 40), torch.float64, seed=1).effective.matrix
    torch.testing.assert_close(matrix.sum(-1), torch.ones(2, 2, 40, dtype=torch.float64), atol=1e-12, rtol=0)


def test_the_kernel_s_matrix_has_the_rank_of_its_features():
    of_kernel = numeric.mixed("linear_attention", False, (2, 40), torch.float64, seed=1).effective.matrix
    assert (torch.linalg.matrix_rank(of_kernel) <= numeric.WIDTH // numeric.HEADS).all()
    of_softmax = numeric.mixed("softmax", False, (2, 40), torch.float64, seed=1).effective.matrix
    assert (torch.linalg.matrix_rank(of_softmax, rtol=1e-15) > numeric.WIDTH // numeric.HEADS).all()


@pytest.mark.parametrize("mixer", ["convolution", "s4d"])
def test_matrices_said_to_be_toeplitz_are(mixer):
    matrix = numeric.mixed(mixer, True, (1, 30), torch.float64, seed=1).effective.matrix[0]
    torch.testing.assert_close(matrix[:, 1:, 1:], matrix[:, :-1, :-1], atol=1e-12, rtol=0)


def test_every_row_of_the_table_is_a_mixer_that_states_it():
    stated = templates()
    assert set(ROWS) <= set(stated)
    assert stated["fnet"].depends == "nothing"
    assert {name for name in ("mlp_mixer", "gmlp") if "n_ctx" in stated[name].lengths} == {"mlp_mixer", "gmlp"}
    assert stated["linear_attention"].low_rank == "d_head"


@pytest.mark.parametrize("mixer", zoo.names("mixers"))
def test_lengths_are_bound_where_the_template_says_so(mixer, generator):
    """A model built for 16 positions reads 40 of them exactly if its mixer's template says any length."""
    part = registry.load("mixers", mixer).Part
    model = zoo.sequence(
        mixer=mixer, d_vocab=5, d_model=16, n_heads=2, n_layers=1, n_ctx=16, causal=part.causal_only, position="none"
    )
    tokens = torch.randint(5, (1, 40), generator=generator)
    if part.template.lengths == "any":
        assert model(tokens).shape == (1, 40, 5)
    else:
        with pytest.raises(ValueError, match="takes at most"):
            model(tokens)


@pytest.mark.parametrize("mixer", zoo.names("mixers"))
def test_only_static_matrices_are_the_same_for_all_inputs(mixer):
    part = registry.load("mixers", mixer).Part
    matrix = numeric.mixed(mixer, part.causal_only, (4, 24), torch.float64, seed=2).effective.matrix
    same = torch.allclose(matrix, matrix[:1].expand_as(matrix), atol=1e-12)
    assert same == (part.template.depends != "input")


def test_no_constant_matrix_is_mlp_mixer():
    fitted = numeric.mixed("mlp_mixer", False, (64, 32), torch.float64, seed=0)
    assert fitted.static_residual > 1e-2
    assert fitted.error < 1e-10, "its own matrix, which has seen the input, is exact"


def test_the_claim_holds_at_the_quick_budget():
    evidence = claims.load("long_sequence_unified").run(budget="quick", seed=0)
    assert evidence.verdict == "holds", evidence.to_json()


@pytest.mark.slow
def test_the_claim_holds_at_the_full_budget():
    evidence = claims.load("long_sequence_unified").run(budget="full", seed=0)
    assert evidence.verdict == "holds", evidence.to_json()
