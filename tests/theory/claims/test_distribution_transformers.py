"""Distribution transformers (Whittle et al. 2025): the identities that hold exactly, and the claim."""

import pytest
import torch

from microtome.lab import zoo
from microtome.theory import claims, registry
from microtome.theory.claims import distribution_transformers as claim


@pytest.mark.parametrize("seed", [0, 1])
def test_the_identities_hold_and_their_controls_fail(seed):
    found = list(registry.run_all(slug="distribution_transformers", seed=seed))
    assert len(found) == 3
    for evidence in found:
        assert evidence.verdict == "holds", evidence.to_json()
        assert not evidence.control.passes


def test_exact_laws_beat_an_untrained_network_and_the_filters_start_alike():
    model = zoo.build("distribution_transformers", d_model=32, n_layers=1, n_heads=4, d_mlp=8)
    problem = claim.RANDOM.sample(2000, torch.Generator().manual_seed(0), dtype=torch.float64)
    behind = claim.gaps(model, claim.RANDOM, problem)
    assert behind.mean() > 6 * behind.std() / 2000**0.5
    ran = claim.run_filters({"every prior": model}, seed=0, count=50)
    assert len(ran["exact"].laws) == claim.LENGTH
    assert torch.equal(ran["exact"].astray(ran["exact"]), torch.zeros(claim.LENGTH, dtype=torch.float64))
    assert (ran["every prior"].astray(ran["exact"]) > 0.25).any()


def test_the_chains_are_stationary_with_variance_near_one():
    """0.9²·1 + 0.19 = 1: of 2,000 chains the last states have second moment 1, to six standard errors."""
    truth, readings = claim.chains(seed=0)
    assert len(truth) == len(readings) == claim.LENGTH
    start = 0.36 + 1.5**2
    wanted = 1 + 0.81**19 * (start - 1)
    squares = truth[-1].square()
    assert abs(squares.mean() - wanted) < 6 * squares.std() / 2000**0.5


def test_the_claim_does_not_fail_at_the_quick_budget():
    evidence = claims.load("distribution_transformers").run(budget="quick", seed=0)
    assert evidence.verdict in ("holds", "inconclusive"), evidence.to_json()
    for part in evidence.parts:
        assert part.figure is None or part.figure().axes


@pytest.mark.slow
def test_the_claim_holds_at_the_full_budget():
    evidence = claims.load("distribution_transformers").run(budget="full", seed=0)
    assert evidence.verdict == "holds", evidence.to_json()
