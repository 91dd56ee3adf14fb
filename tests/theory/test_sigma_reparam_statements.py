"""What the σReparam statements (Zhai et al. 2023) rest on: the bound, its tight row, and the certified search."""

import math

import pytest
import sympy as sp
import torch
from flint import arb
from hypothesis import given, settings
from hypothesis import strategies as st

from microtome.theory.constructions.sigma_reparam import BALLS, entropy_bound, two_level_entropy, two_levels
from microtome.theory.constructions.sigma_reparam_search import circle_above, three_blocks
from microtome.theory.statements import sigma_reparam_certified as certified
from microtome.theory.statements import sigma_reparam_numeric as numeric
from microtome.theory.statements import sigma_reparam_symbolic as symbolic


def tight_row(keys, norm):
    high, low = two_levels(keys, 1, norm, math)
    return torch.tensor([high] + [low] * (keys - 1), dtype=torch.float64)


@pytest.mark.parametrize(("keys", "norm"), certified.GRID)
def test_the_tight_row_has_the_norm_and_the_entropy_of_the_bound(keys, norm):
    row = tight_row(keys, norm)
    assert row.sum().item() == pytest.approx(0, abs=1e-12)
    assert row.norm().item() == pytest.approx(norm, rel=1e-12)
    assert numeric.entropy(row).item() == pytest.approx(entropy_bound(keys, norm, math), abs=1e-12)


def test_the_published_figure():
    assert entropy_bound(16, 4.0, math) == pytest.approx(1.018040, abs=5e-7)
    assert entropy_bound(16, 0.0, math) == pytest.approx(math.log(16))


@settings(max_examples=50)
@given(keys=st.integers(2, 40), norm=st.floats(0.01, 12), seed=st.integers(0, 2**31))
def test_no_row_of_any_size_lies_below_the_bound(keys, norm, seed):
    generator = torch.Generator().manual_seed(seed)
    direction = torch.randn(200, keys, generator=generator, dtype=torch.float64) ** 3
    near_tight = tight_row(keys, 1.0) + 0.05 * torch.randn(200, keys, generator=generator, dtype=torch.float64)
    for rows in (direction, near_tight):
        logits = norm * rows / rows.norm(dim=-1, keepdim=True)
        assert numeric.entropy(logits).min().item() >= entropy_bound(keys, norm, math) - 1e-12


@pytest.mark.parametrize("keys", [4, 16, 64])
def test_random_rows_have_at_most_the_norm_and_half_of_them_all_of_it(keys, generator):
    norms = numeric.random_rows(keys, 3.0, generator).norm(dim=-1)
    assert len(norms) == 10_000
    assert norms.max() <= 3.0 + 1e-12
    assert (norms > 3.0 - 1e-9).sum() == 5_000


def test_minimising_reaches_the_bound_at_two_keys_too(generator):
    norms = torch.tensor([0.5, 3.0], dtype=torch.float64)
    found = numeric.minimised_entropy(2, norms, restarts=4, steps=300, generator=generator)
    # Two keys have one direction of mean zero; the free minimum must find it.
    wanted = [entropy_bound(2, s, math) for s in norms.tolist()]
    torch.testing.assert_close(found, torch.tensor(wanted, dtype=torch.float64), atol=1e-9, rtol=0)


def test_one_formula_in_three_arithmetics():
    for keys, norm in certified.GRID:
        ball = entropy_bound(arb(keys), arb(norm), BALLS)
        exact = sp.N(entropy_bound(sp.Integer(keys), sp.Rational(norm), sp), 40)
        assert ball.overlaps(arb(str(exact)))
        assert float(ball) == pytest.approx(entropy_bound(keys, norm, math), abs=1e-14)


def test_sympy_proves_every_fact_for_one_winner_and_not_the_bound_for_two():
    assert set(symbolic.unproved_tightness(1).values()) == {0}
    assert symbolic.unproved_tightness(2)["norm is s"] == 0
    assert symbolic.distance_at_a_point(2) > 0.5


@pytest.mark.parametrize("winners", [2, 3, 8, 15])
def test_two_level_rows_have_the_entropy_that_the_closed_form_gives(winners):
    high, low = two_levels(16, winners, 4.0, math)
    row = torch.tensor([high] * winners + [low] * (16 - winners), dtype=torch.float64)
    assert row.norm().item() == pytest.approx(4.0)
    assert numeric.entropy(row).item() == pytest.approx(two_level_entropy(16, winners, high - low, math), abs=1e-12)


@pytest.mark.parametrize("norm", [0.5, 8.0])
def test_the_weights_give_the_tight_row_in_float64(norm):
    keys = 16
    produced = certified.tight_logits(keys, norm)
    logits = torch.tensor([float(produced[key, 0]) for key in range(keys)], dtype=torch.float64)
    torch.testing.assert_close(logits, tight_row(keys, norm), atol=1e-12, rtol=0)


def test_the_reflection_is_exactly_orthogonal_and_no_permutation():
    X = certified.reflection(5)
    assert [[float(entry) for entry in row] for row in (X * X.transpose()).tolist()] == torch.eye(5).tolist()
    assert all(entry != 0 for row in X.tolist() for entry in row)


def test_every_split_into_three_blocks_is_there_once():
    assert three_blocks(4) == [(1, 1, 2)]
    assert len(three_blocks(16)) == 21
    assert all(sum(blocks) == 16 and blocks == tuple(sorted(blocks)) for blocks in three_blocks(16))


def test_the_search_certifies_what_holds_and_finds_what_does_not():
    bound = entropy_bound(arb(16), arb(4), BALLS)
    for blocks in three_blocks(16):
        assert circle_above(blocks, arb(4), bound - arb("1e-12")).certified
    broken = circle_above((1, 1, 14), arb(4), bound + arb("1e-6"))
    assert not broken.certified
    assert broken.below is not None


@pytest.mark.parametrize("blocks", [(1, 5, 10), (1, 1, 14), (2, 3, 11)])
def test_the_search_agrees_with_a_dense_scan(blocks):
    """A floor just under the scanned minimum is certified, one just above is refuted."""
    counts = torch.tensor(blocks, dtype=torch.float64)
    weights = torch.repeat_interleave(torch.eye(3, dtype=torch.float64), counts.long(), dim=0)
    centred = weights - weights.mean(0)
    basis = torch.linalg.svd(centred, full_matrices=False).U[:, :2]
    theta = torch.linspace(0, 2 * math.pi, 20_001, dtype=torch.float64)
    rows = 3.0 * (theta.cos()[:, None] * basis[:, 0] + theta.sin()[:, None] * basis[:, 1])
    lowest = numeric.entropy(rows).min().item()
    assert circle_above(blocks, arb(3), arb(lowest - 1e-6)).certified
    assert circle_above(blocks, arb(3), arb(lowest + 1e-6)).below is not None
