"""In-context learning through the Bayesian prism (Panwar, Ahuja & Goyal 2024): its claim."""

import pytest
import torch

from microtome.lab.bayes import squared_error
from microtome.lab.bayes.gaussian_prior import BayesGaussian
from microtome.theory import claims
from microtome.theory.claims import icl_bayesian_prism as claim


def test_the_answer_of_the_own_component_knows_the_component(generator):
    prompt = claim.MIXTURE.sample(64, claim.POINTS, generator, dtype=torch.float64)
    said = claim.own_component(prompt)
    centre = torch.tensor(claim.MIXTURE.means, dtype=torch.float64)[prompt.latents["component"]]
    torch.testing.assert_close(said.mean[:, 0], (centre * prompt.xs[:, 0]).sum(-1))
    mixed = claim.MIXTURE.bayes().predict(prompt.xs, prompt.ys)
    assert squared_error(said, prompt.ys).mean() < squared_error(mixed, prompt.ys).mean()


@pytest.mark.parametrize("answer", ["mixture", "one side"])
def test_distances_tell_who_is_followed(answer, generator):
    """Exact predictors in the learner's place: that of the mixture passes every check, that of one component fails."""
    predictor = claim.MIXTURE.bayes() if answer == "mixture" else claim.ONE_SIDED.bayes()
    found = claim.distances(predictor, seed=0)
    assert (found["mixture"].max() < 1e-9) == (answer == "mixture")
    ratio = found["mixture"][0] / found["own"][0]
    assert (ratio <= 0.3) == (answer == "mixture")


def test_one_component_is_the_gaussian_of_its_law():
    assert claim.ONE_SIDED.means == claim.MIXTURE.means[:1]
    own = claim.ONE_SIDED.bayes().components[0]
    assert isinstance(own, BayesGaussian)
    assert torch.equal(own.mean, torch.tensor([3.0, 0.0, 0.0], dtype=torch.float64))


def test_the_claim_does_not_fail_at_the_quick_budget():
    evidence = claims.load("icl_bayesian_prism").run(budget="quick", seed=0)
    assert evidence.verdict in ("holds", "inconclusive"), evidence.to_json()
    derived = [part for part in evidence.parts if part.kind != "empirical"]
    assert derived
    assert all(part.verdict == "holds" for part in derived)


@pytest.mark.slow
def test_the_claim_holds_at_the_full_budget():
    evidence = claims.load("icl_bayesian_prism").run(budget="full", seed=0)
    assert evidence.verdict == "holds", evidence.to_json()
