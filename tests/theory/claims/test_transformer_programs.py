"""Learning Transformer Programs (Friedman et al. 2023): its claim; the checks of the modules stand with the modules."""

import pytest

from microtome.theory import claims


def test_the_claim_is_not_refuted_at_the_quick_budget():
    evidence = claims.load("transformer_programs").run(budget="quick", seed=0)
    assert evidence.verdict in ("holds", "inconclusive"), evidence.to_json()
    (agreement,) = (part for part in evidence.parts if part.kind == "exhaustive")
    assert agreement.verdict == "holds", agreement.to_json()


@pytest.mark.slow
def test_the_claim_holds_at_the_full_budget():
    evidence = claims.load("transformer_programs").run(budget="full", seed=0)
    assert evidence.verdict == "holds", evidence.to_json()
