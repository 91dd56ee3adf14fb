"""LeanAttention (Sanovar et al. 2024): its checks, the picture of a deal, and its claim.

That the GPU kernel gives the emulator's result, and grouped heads those of repeated keys, is in
tests/kernels/test_lean_attention.py.
"""

import pytest
import torch

from microtome.kernels.lean_attention import Schedule, schedule
from microtome.lab.report.lean_attention import schedule_figure
from microtome.theory import claims
from microtome.theory.claims.lean_attention import (
    CASES,
    DIVISIBLE,
    Case,
    flash_attention_2,
    flash_decoding,
    lean,
    ragged_deal,
    splits,
)
from microtome.theory.statements.lean_attention_exhaustive import deals, full_spans, gaps, imbalance, lean_spans
from microtome.theory.statements.lean_attention_numeric import TOLERANCES, average, error_of_cuts, random_tree


@pytest.mark.parametrize("dtype", list(TOLERANCES), ids=str)
def test_random_cuts_and_random_merge_trees_give_attention(generator, dtype):
    assert error_of_cuts(random_tree, dtype, 40, generator) <= TOLERANCES[dtype]


def test_averages_of_normalised_parts_do_not(generator):
    assert error_of_cuts(average, torch.float64, 5, generator) > 1e-2


def test_the_ranges_partition_the_tiles_and_equal_ones_leave_some_idle():
    every = list(deals(20))
    assert all(gaps(deal, lean_spans) == 0 and imbalance(deal, lean_spans) <= 1 for deal in every)
    assert any(imbalance(deal, full_spans) > 1 for deal in every)


def test_makespans_of_the_four_cases():
    assert [round(flash_attention_2(case) / lean(case), 2) for case in CASES] == [3.37, 1.92, 1.91, 8.98]
    assert [lean(case) for case in CASES] == [19, 266, 67, 228]
    assert all(flash_decoding(case) / lean(case) >= 1.1 for case in CASES)


def test_splits_are_the_fewest_that_fill_the_waves():
    assert splits(CASES[0]) == 3
    assert splits(DIVISIBLE) == 1
    assert splits(Case(1, 1, 2)) == 2, "no more splits than tiles"


def test_the_published_speed_up_vanishes_where_heads_fill_the_slots():
    assert flash_attention_2(DIVISIBLE) == lean(DIVISIBLE) == flash_decoding(DIVISIBLE)


def test_the_ragged_batch_of_1560_tiles():
    deal = ragged_deal()
    assert deal.total == 1560
    assert {len(deal.span(cta)) for cta in range(deal.grid)} <= {deal.longest, deal.longest - 1}


def test_the_picture_has_a_bar_for_each_segment():
    deal = schedule((2300, 700), 2, 256, 4)
    axes = schedule_figure(deal).axes[0]
    assert len(axes.patches) == sum(len(list(deal.segments(cta))) for cta in range(deal.grid))
    hatched = sum(bool(patch.get_hatch()) for patch in axes.patches)
    assert hatched == sum(not s.host for cta in range(deal.grid) for s in deal.segments(cta)) > 0
    with pytest.raises(ValueError, match="drawn with 1 to 48 CTAs, not 0"):
        schedule_figure(Schedule((), 0))


def test_the_claim_holds_at_the_quick_budget():
    evidence = claims.load("lean_attention").run(budget="quick", seed=0)
    assert evidence.verdict == "holds", evidence.to_json()


@pytest.mark.slow
def test_the_claim_holds_at_the_full_budget():
    evidence = claims.load("lean_attention").run(budget="full", seed=0)
    assert evidence.verdict == "holds", evidence.to_json()
