"""The claim of icl_boolean: what is known of the functions holds, and the trained parts are not refuted."""

import pytest

from microtome.theory import claims
from microtome.theory.statements.icl_boolean_exhaustive import consistent


def test_the_claim_does_not_fail_at_the_quick_budget() -> None:
    evidence = claims.load("icl_boolean").run(budget="quick", seed=0)
    assert evidence.verdict in ("holds", "inconclusive"), evidence.to_json()
    exhaustive = [part for part in evidence.parts if part.kind == "exhaustive"]
    assert len(exhaustive) == 3
    assert all(part.verdict == "holds" for part in exhaustive)
    assert not any(part.control.passes for part in evidence.parts)


@pytest.mark.parametrize("monotone", [True, False])
def test_shorter_teaching_sequences_leave_more(monotone: bool) -> None:
    assert (consistent(3, monotone) == 1).all()
    assert (consistent(3, monotone, dropped=1) > 1).all()


@pytest.mark.slow
def test_the_claim_holds_at_the_full_budget() -> None:
    evidence = claims.load("icl_boolean").run(budget="full", seed=0)
    assert evidence.verdict == "holds", evidence.to_json()
