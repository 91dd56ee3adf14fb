"""Gibbs sampling against enumeration, with the error that it states.

64 chains: the error of a mean in units of its stated standard error follows Student's t with 63 degrees of freedom
where the chains mix, and |t| > 7 has probability below 1e-8 for one of the entries here. The floor of a hundredth of
a weight allows for modes of small probability that no chain visits.
"""

import pytest
import torch

from microtome.lab.bayes import SpikeAndSlab
from microtome.lab.bayes.sampling import Chains, SampledPrediction, SignVectorGibbs, SparseGibbs
from microtome.lab.bayes.sign_vector import SignVectorPosterior
from microtome.lab.tasks import LinearRegression

CHAINS = Chains(count=64, sweeps=100, burn_in=50)
FEW = Chains(count=4, sweeps=10, burn_in=5)


def sign_prompts(dim, batch, points, noise_std, generator):
    w = torch.randint(2, (batch, dim), generator=generator).double() * 2 - 1
    xs = torch.randn(batch, points, dim, generator=generator, dtype=torch.float64)
    noise = noise_std * torch.randn(batch, points, generator=generator, dtype=torch.float64)
    return xs, (xs @ w[..., None])[..., 0] + noise


def assert_within_its_error(said, exact):
    assert isinstance(said, SampledPrediction)
    allowed = 7 * said.standard_error + 0.01
    assert ((said.mean - exact.mean).abs() < allowed).all()
    spread = (said.variance - exact.variance).abs() / (1 + exact.variance)
    assert spread.mean() < 0.05
    assert said.standard_error.median() < 0.1, "and the error is small"


@pytest.mark.parametrize("noise_std", [1.0, 2.0])
def test_signs_agree_with_enumeration(noise_std, generator):
    xs, ys = sign_prompts(7, 4, 9, noise_std, generator)
    said = SignVectorGibbs(7, noise_std, chains=CHAINS).predict(xs, ys)
    assert_within_its_error(said, SignVectorPosterior(7, noise_std).predict(xs, ys))


@pytest.mark.parametrize("sparsity", [1, 2, 4])
def test_supports_agree_with_enumeration(sparsity, generator):
    prompt = LinearRegression(6, noise_std=0.7, prior_std=1.5, sparsity=sparsity).sample(
        4, 8, generator, dtype=torch.float64
    )
    said = SparseGibbs(6, sparsity, 0.7, 1.5, CHAINS).predict(prompt.xs, prompt.ys)
    assert_within_its_error(said, SpikeAndSlab(6, sparsity, 0.7, 1.5).predict(prompt.xs, prompt.ys))


def test_more_sweeps_lessen_the_error(generator):
    """Sixteen times the sweeps would quarter it for independent draws; half is asked for."""
    xs, ys = sign_prompts(7, 8, 8, 2.0, generator)
    few = SignVectorGibbs(7, 2.0, chains=Chains(32, 20, 50)).predict(xs, ys)
    many = SignVectorGibbs(7, 2.0, chains=Chains(32, 320, 50)).predict(xs, ys)
    assert many.standard_error.mean() < 0.5 * few.standard_error.mean()


def test_stuck_chains_state_a_large_error(generator):
    """With little noise the chains end in different modes; what they say together is far off and they say so."""
    xs, ys = sign_prompts(10, 4, 6, 0.05, generator)
    said = SignVectorGibbs(10, 0.05, chains=Chains(16, 20, 20)).predict(xs, ys)
    exact = SignVectorPosterior(10, 0.05).predict(xs, ys)
    late = slice(3, None)
    assert (said.mean - exact.mean)[:, late].abs().max() > 0.5
    assert said.standard_error[:, late].max() > 0.25


@pytest.mark.parametrize(
    "sampler", [SignVectorGibbs(4, 1.0, chains=FEW), SparseGibbs(4, 2, 1.0, 1.0, FEW)], ids=["signs", "sparse"]
)
def test_entry_depends_on_pairs_before_and_nothing_else(sampler, generator):
    xs, ys = sign_prompts(4, 3, 6, 1.0, generator)
    said = sampler.predict(xs, ys)
    changed_xs, changed_ys = xs.clone(), ys.clone()
    changed_xs[:, 4:], changed_ys[:, 3:] = 1.0, 9.0
    torch.testing.assert_close(sampler.predict(changed_xs, changed_ys).mean[:, :4], said.mean[:, :4])
    torch.testing.assert_close(sampler.predict(xs[1:2], ys[1:2]).mean, said.mean[1:2])
    assert (sampler.predict(changed_xs, changed_ys).mean[:, 4] != said.mean[:, 4]).any()
    assert torch.equal(sampler.predict(xs, ys).mean, said.mean), "the seed decides"


@pytest.mark.parametrize("kind", [SignVectorGibbs, lambda d, s: SparseGibbs(d, 2, s)], ids=["signs", "sparse"])
def test_bad_laws_get_a_sentence(kind):
    with pytest.raises(ValueError, match="above 0 here: without noise"):
        kind(4, 0.0)
    with pytest.raises(ValueError, match="noise_std must be finite"):
        kind(4, -1.0)
    with pytest.raises(ValueError, match="in 4 dimensions, but xs has 3"):
        kind(4, 1.0).predict(torch.zeros(1, 2, 3), torch.zeros(1, 2))


def test_bad_chains_get_a_sentence():
    for wrong in ({"count": 1}, {"sweeps": 0}, {"burn_in": -1}):
        with pytest.raises(ValueError, match="chains need count"):
            Chains(**wrong)
    with pytest.raises(ValueError, match="sparsity must be between 1 and dim = 4"):
        SparseGibbs(4, 5, 1.0)
