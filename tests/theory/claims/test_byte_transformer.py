"""ByteTransformer (Zhai et al. 2022): its claim, and the checks that are not in tests/kernels or tests/lab/zoo.

Packing, the visitor, the merge of tiles, neighbours bit by bit and the ratio of 0.4439 are in
tests/kernels/test_byte_transformer.py, whole models in tests/lab/zoo/test_byte_transformer_model.py.
"""

import pytest
import torch

from microtome.kernels.byte_transformer.visitor import score_tiles, visit
from microtome.lab import zoo
from microtome.theory import claims
from microtome.theory.claims.byte_transformer import LONGEST, SHARES, draw, packed, padded, times
from microtome.theory.statements.byte_transformer_exhaustive import faults, visit_without_carry


@pytest.mark.parametrize("share", SHARES)
def test_lengths_have_the_share_asked_for(share):
    """The mean of 4,000 uniform lengths of half width h·L has standard deviation h/√12,000 ≤ 0.0037: six are 0.022."""
    mean = sum(sum(draw(share, seed).lengths) for seed in range(500)) / (4000 * LONGEST)
    assert abs(mean - share) < 0.022
    assert share < 1 or mean == 1


def test_a_visitor_that_forgets_earlier_windows_is_caught():
    counts = score_tiles([130] * 40, 1)
    assert faults(counts, 100, visit) == (0, 0)
    assert faults(counts[:32], 100, visit_without_carry) == (0, 0), "one window has nothing to carry"
    assert faults(counts, 100, visit_without_carry).uneven > 0


def test_times_are_taken_of_both_runs_at_every_share(monkeypatch):
    monkeypatch.setattr("microtome.theory.claims.byte_transformer.ROUNDS", 1)
    model = zoo.build("byte_transformer", "small")
    with torch.no_grad():
        found = times(model, {0.3: draw(0.3, 0)})
    assert set(found) == {(padded.__name__, 0.3), (packed.__name__, 0.3)}
    assert all(seconds > 0 for seconds in found.values())


def test_at_the_quick_budget_all_but_the_times_holds():
    evidence = claims.load("byte_transformer").run(budget="quick", seed=0)
    *measured, times = evidence.parts
    assert {part.verdict for part in measured} == {"holds"}, evidence.to_json()
    assert times.verdict == evidence.verdict == "inconclusive"


@pytest.mark.slow
def test_the_claim_holds_at_the_full_budget_but_for_times_that_a_busy_machine_may_spoil():
    evidence = claims.load("byte_transformer").run(budget="full", seed=0)
    *exact, timed = evidence.parts
    assert timed.statement.name == "time falls with padding"
    assert all(part.verdict == "holds" for part in exact), evidence.to_json()
