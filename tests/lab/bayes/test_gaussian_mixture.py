"""Gaussian mixtures as densities: against torch.distributions, by sampling, and what they refuse.

Tests by sampling allow six standard errors, so that one of their numbers errs with probability 2e-9.
"""

import math

import pytest
import torch
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from microtome.lab.bayes.densities import Density, information_gain, log_density_gap
from microtome.lab.bayes.gamma_draws import log_dirichlet, log_gamma, wishart
from microtome.lab.bayes.gaussian_mixture import GaussianMixture
from microtome.lab.bayes.mixture_tokens import detokenise, token_width, tokenise


def random_mixture(generator, batch=(5,), components=3, dim=2):
    like = {"generator": generator, "dtype": torch.float64}
    factor = torch.randn(*batch, components, dim, dim, **like)
    weights = torch.rand(*batch, components, **like) + 0.1
    covariances = factor @ factor.mT + 0.1 * torch.eye(dim, dtype=torch.float64)
    means = torch.randn(*batch, components, dim, **like)
    return GaussianMixture.of(weights / weights.sum(-1, keepdim=True), means, covariances)


@pytest.fixture
def mixture(generator):
    return random_mixture(generator)


@pytest.mark.parametrize("dim", [1, 2, 4])
@pytest.mark.parametrize("sample", [(), (7,), (2, 3)], ids=str)
def test_log_density_and_moments_are_those_of_torch(dim, sample, generator):
    mixture = random_mixture(generator, dim=dim)
    parts = MultivariateNormal(mixture.means, scale_tril=mixture.scale_trils)
    torchs = MixtureSameFamily(Categorical(mixture.weights), parts)
    x = torch.randn(*sample, 5, dim, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(mixture.log_prob(x), torchs.log_prob(x))
    torch.testing.assert_close(mixture.mean, torchs.mean)
    torch.testing.assert_close(mixture.covariance.diagonal(dim1=-2, dim2=-1), torchs.variance)
    assert isinstance(mixture, Density)


def test_draws_have_the_mixtures_moments(mixture, generator):
    x = mixture.sample(generator, 40_000)
    assert x.shape == (40_000, 5, 2)
    assert mixture.sample(generator).shape == (5, 2)
    error = (x.mean(0) - mixture.mean) / mixture.covariance.diagonal(dim1=-2, dim2=-1).div(40_000).sqrt()
    assert error.abs().max() < 6
    products = x[..., :, None] * x[..., None, :]
    second = mixture.covariance + mixture.mean[..., :, None] * mixture.mean[..., None, :]
    assert ((products.mean(0) - second) / (products.std(0) / 200)).abs().max() < 6


def test_draws_come_from_the_generator_alone(mixture):
    draws = [mixture.sample(torch.Generator().manual_seed(seed), 4) for seed in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_a_permuted_mixture_is_the_same_law(mixture, generator):
    x = torch.randn(5, 2, generator=generator, dtype=torch.float64)
    order = torch.tensor([2, 0, 1])
    torch.testing.assert_close(mixture.permuted(order).log_prob(x), mixture.log_prob(x))
    assert not torch.equal(mixture.permuted(order).means, mixture.means)


def test_weights_beyond_floating_point_keep_their_logarithm():
    log_weights = torch.tensor([-2000.0, 0.0])
    mixture = GaussianMixture(log_weights, torch.tensor([[0.0], [1e4]]), torch.ones(2, 1, 1))
    normal = -math.log(2 * math.pi) / 2
    assert mixture.log_prob(torch.zeros(1)).item() == pytest.approx(-2000 + normal)


def test_the_gap_is_kl_and_never_negative(generator):
    """KL of two normal laws in closed form, from 40,000 draws, to six standard errors."""
    one, other = (
        GaussianMixture.of(torch.ones(1), torch.tensor([[m]]), torch.tensor([[[v]]]))
        for m, v in ((0.0, 1.0), (1.0, 2.0))
    )
    x = one.sample(generator, 40_000)
    gaps = log_density_gap(one, other, x)
    wanted = (math.log(2) + (1 + 1) / 2 - 1) / 2
    assert abs(gaps.mean() - wanted) < 6 * gaps.std() / 200
    assert torch.equal(information_gain(other, one, x), gaps)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"weights": torch.tensor([0.5, 0.6])}, "weights must be a distribution .* 1.1"),
        ({"weights": torch.tensor([1.5, -0.5])}, "the least is -0.5"),
        (
            {"covariances": torch.tensor([[[1.0, 2.0], [2.0, 1.0]]]).expand(2, 2, 2)},
            "positive definite.* eigenvalue -1",
        ),
        ({"covariances": torch.tensor([[[1.0, 0.5], [0.0, 1.0]]]).expand(2, 2, 2)}, "covariances must be symmetric"),
        ({"means": torch.full((2, 2), math.nan)}, "means must be finite"),
        ({"weights": torch.ones(3) / 3}, r"weights must be \[\*batch component\]"),
        ({"means": torch.zeros(2, 3)}, r"covariances \[\*batch component dim dim\], none empty"),
        ({"means": torch.zeros(0, 2), "weights": torch.zeros(0), "covariances": torch.zeros(0, 2, 2)}, "none empty"),
    ],
)
def test_what_is_no_mixture_is_refused(change, words):
    good = {
        "weights": torch.tensor([0.5, 0.5]),
        "means": torch.zeros(2, 2),
        "covariances": torch.eye(2).expand(2, 2, 2),
    }
    GaussianMixture.of(**good)
    with pytest.raises(ValueError, match=words):
        GaussianMixture.of(**good | change)


def test_x_of_another_dimension_is_refused(mixture):
    with pytest.raises(ValueError, match="x must be 2-dimensional as the mixture is, not 3-dimensional"):
        mixture.log_prob(torch.zeros(5, 3))


@pytest.mark.parametrize("dim", [1, 2, 4])
def test_tokens_and_back(dim, generator):
    mixture = random_mixture(generator, dim=dim)
    tokens = tokenise(mixture)
    assert tokens.shape == (5, 3, 1 + dim + dim * (dim + 1) // 2) == (5, 3, token_width(dim))
    back = detokenise(tokens, dim)
    torch.testing.assert_close(back.weights, mixture.weights)
    torch.testing.assert_close(back.means, mixture.means)
    torch.testing.assert_close(back.covariances, mixture.covariances, atol=1e-5, rtol=1e-5)  # 1e-6 on the diagonal


def test_a_token_holds_the_papers_numbers(mixture):
    token = tokenise(mixture)[0, 0]
    factor = mixture.scale_trils[0, 0]
    wanted = [mixture.weights[0, 0].logit(), *mixture.means[0, 0], factor[0, 0].log(), factor[1, 1].log(), factor[1, 0]]
    torch.testing.assert_close(token, torch.stack(wanted))


@pytest.mark.parametrize("dim", [1, 3])
def test_any_numbers_are_a_mixture(dim, generator):
    tokens = torch.randn(50, 4, token_width(dim), generator=generator)
    covariances = detokenise(2 * tokens, dim).to(torch.float64).covariances
    assert (torch.linalg.cholesky_ex(covariances).info == 0).all()
    wild = detokenise(100 * tokens, dim)
    torch.testing.assert_close(wild.weights.sum(-1), torch.ones(50))
    assert torch.isfinite(wild.log_prob(torch.zeros(50, dim))).all()
    diagonal = wild.scale_trils.diagonal(dim1=-2, dim2=-1)
    assert diagonal.min() >= math.exp(-11)
    assert diagonal.max() <= math.exp(14) * 1.0001


def test_weights_are_sigmoids_over_their_sum_and_not_a_softmax():
    logits = torch.tensor([[2.0, -1.0, 0.5]])
    weights = detokenise(torch.stack([logits, *torch.zeros(2, 1, 3)], dim=-1), 1).weights
    torch.testing.assert_close(weights, logits.sigmoid() / logits.sigmoid().sum())
    assert (weights - logits.softmax(-1)).abs().max() > 0.05


def test_sure_weights_have_finite_tokens():
    sure = GaussianMixture.of(torch.tensor([1.0, 0.0]), torch.zeros(2, 1), torch.ones(2, 1, 1))
    alone = GaussianMixture.of(torch.ones(1), torch.zeros(1, 1), torch.ones(1, 1, 1))
    top = torch.logit(torch.tensor(1 - 1e-6, dtype=torch.float64)).item()
    assert tokenise(sure)[:, 0].tolist() == pytest.approx([top, -top])
    assert tokenise(alone)[:, 0].tolist() == pytest.approx([top])
    assert detokenise(tokenise(alone), 1).weights.item() == 1
    with pytest.raises(ValueError, match="floor must lie between 0 and ½"):
        tokenise(sure, floor=0.0)
    with pytest.raises(ValueError, match="tokens of a 2-dimensional mixture have 6 numbers, not 3"):
        detokenise(torch.zeros(1, 3), 2)


def test_log_gamma_has_gammas_moments(generator):
    """E log G = ψ(a), Var log G = ψ'(a), for shapes whose draws underflow too; 40,000 draws, six standard errors."""
    for a in (1e-3, 0.5, 4.0):
        draws = log_gamma(torch.full((40_000,), a, dtype=torch.float64), generator)
        shape = torch.tensor(a, dtype=torch.float64)
        assert torch.isfinite(draws).all()
        assert abs(draws.mean() - torch.digamma(shape)) < 6 * draws.std() / 200
        variance = torch.polygamma(1, shape)
        squares = (draws - torch.digamma(shape)).square()
        assert abs(squares.mean() - variance) < 6 * squares.std() / 200


def test_dirichlet_and_wishart_have_their_means(generator):
    concentration = torch.tensor([0.2, 1.0, 3.0], dtype=torch.float64)
    weights = log_dirichlet(concentration.expand(40_000, 3), generator).exp()
    torch.testing.assert_close(weights.sum(-1), torch.ones(40_000, dtype=torch.float64))
    assert ((weights.mean(0) - concentration / 4.2) / (weights.std(0) / 200)).abs().max() < 6
    draws = wishart((40_000,), 3, 4, 0.5, generator, torch.float64)
    assert (torch.linalg.eigvalsh(draws) > 0).all()
    assert ((draws.mean(0) - 4 * 0.5 * torch.eye(3)) / (draws.std(0) / 200)).abs().max() < 6
    # Var Λ_ij = freedom·scale²(δ_ij + 1)
    wanted = 4 * 0.25 * (torch.eye(3, dtype=torch.float64) + 1)
    squares = (draws - 2 * torch.eye(3)).square()
    assert ((squares.mean(0) - wanted) / (squares.std(0) / 200)).abs().max() < 6
