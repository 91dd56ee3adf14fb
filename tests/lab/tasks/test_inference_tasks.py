"""Inference tasks (Whittle et al. 2025, distribution_transformers): their draws, and their posteriors two ways.

Each posterior meets brute force on a small instance, and calibration: P(x' < x | data) of the true x is uniform under
the right posterior. Calibration takes 2,000 problems and refuses at p < 1e-6, which is its false-alarm rate. Scores of
the exact posterior beat those of every rival by at least six standard errors on 2,000 problems of the same draw.
"""

import math

import pytest
import torch
from torch.distributions import Beta, InverseGamma, MultivariateNormal, Normal

from microtome.lab.bayes.densities import information_gain, log_density_gap
from microtome.lab.bayes.gaussian_mixture import GaussianMixture
from microtome.lab.bayes.inverse_gamma import LogInverseGamma
from microtome.lab.bayes.law import uniformity
from microtome.lab.bayes.linear_gaussian import LinearSensor
from microtome.lab.bayes.references import by_importance, by_quadrature
from microtome.lab.tasks.distributions import (
    ConjugateMixtures,
    FixedMixture,
    GaussianProcess,
    LinearGaussian,
    Qubit,
    SensorFusion,
    Variance,
)
from microtome.lab.tasks.distributions.fusion import BEARING_STD, REACH
from microtome.lab.tasks.draw import Draw

WIDE = ConjugateMixtures(2, concentration=1.0, floor=0.05)
PLANE = (LinearSensor(((1.0, 0.5),), ((0.5,),)), LinearSensor(((0.0, 1.0),), ((0.3,),)))
TASKS = {
    "mixtures": LinearGaussian(WIDE),
    "plane": LinearGaussian(ConjugateMixtures(3, 2), PLANE, points=2),
    "variance": Variance(mean=1.0, points=3),
    "qubit": Qubit(),
    "process": GaussianProcess(points=4),
    "fusion": SensorFusion(draws=500),
}


def problems(task, generator, count=2000):
    return task.sample(count, generator, dtype=torch.float64)


def below(density, x, grid):
    """P(x' < x) of a one-dimensional density by the trapezoidal rule on [point batch], and the whole mass."""
    values = density.log_prob(grid[..., None]).exp()
    cumulative = torch.cumulative_trapezoid(values, grid, dim=0)
    place = torch.searchsorted(grid.T.contiguous(), x).clamp(2, len(grid) - 1) - 1
    at = cumulative.T.gather(1, place - 1) + (x - grid.T.gather(1, place)) * values.T.gather(1, place)
    return at[:, 0], cumulative[-1]


@pytest.mark.parametrize("name", TASKS)
def test_problems_are_drawn_from_the_generator_alone(name):
    task = TASKS[name]
    first, again, other = (task.sample(3, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first.target, again.target)
    assert not torch.equal(first.target, other.target)
    assert first.target.shape == (3, task.dim)
    assert first.target.dtype == torch.float32
    assert tuple(z.shape[2] for z in first.observations) == task.observation_sizes
    for z, same in zip(first.observations, again.observations, strict=True):
        assert torch.equal(z, same)
    if task.parameters is not None:
        assert first.prior.shape == (3, sum(task.parameters))


@pytest.mark.parametrize("name", TASKS)
def test_one_problem_is_enough_and_none_is_refused(name, generator, untyped):
    task = TASKS[name]
    problem = task.sample(1, generator)
    assert torch.isfinite(task.posterior(problem).log_prob(problem.target.double())).all()
    with pytest.raises(ValueError, match="batch must be at least 1, not 0"):
        task.sample(0, generator)
    with pytest.raises(TypeError, match=r"generator must be a torch\.Generator, not int"):
        task.sample(1, 3)
    with pytest.raises(TypeError, match="dtype must be floating-point"):
        task.sample(1, generator, dtype=torch.int64)


@pytest.mark.parametrize("name", ["mixtures", "plane", "variance", "qubit", "process"])
def test_the_posterior_beats_the_prior(name, generator):
    task = TASKS[name]
    problem = problems(task, generator, 500)
    gain = information_gain(task.prior(problem), task.posterior(problem), problem.target)
    assert gain.mean() > 6 * gain.std() / math.sqrt(500)


def test_the_mixture_posterior_beats_the_kalman_update_of_one_matched_gaussian(generator):
    task = TASKS["mixtures"]
    problem = problems(task, generator, 20_000)
    exact, prior = task.posterior(problem), problem.prior
    matched = GaussianMixture.of(
        torch.ones(20_000, 1, dtype=torch.float64), prior.mean[:, None], prior.covariance[:, None]
    )
    kalman = task.posterior(type(problem)(matched, problem.observations, problem.target))
    gap = log_density_gap(exact, kalman, problem.target)
    assert gap.mean() > 6 * gap.std() / math.sqrt(20_000)


def test_data_lower_the_entropy_on_average(generator):
    """E H(x | z) ≤ H(x): one prior, 2,000 data, entropies by 64 draws of each posterior; to six standard errors."""
    prior = FixedMixture((0.5, 0.5), ((-1.5,), (1.5,)), (((0.36,),), ((0.36,),)))
    task = LinearGaussian(prior)
    problem = problems(task, generator)
    exact = task.posterior(problem)
    after = -exact.log_prob(exact.sample(generator, 64)).mean(0)
    before = -problem.prior.log_prob(problem.prior.sample(generator, 64)).mean(0)
    fall = before - after
    assert fall.mean() > 6 * fall.std() / math.sqrt(2000)
    gain = information_gain(problem.prior, exact, problem.target)
    assert abs(gain.mean() - fall.mean()) < 6 * math.hypot(gain.std(), fall.std()) / math.sqrt(2000)


def test_mixture_posteriors_are_calibrated(generator):
    problem = problems(TASKS["mixtures"], generator)
    exact = TASKS["mixtures"].posterior(problem)
    cdf = Normal(exact.means[..., 0], exact.scale_trils[..., 0, 0]).cdf(problem.target)
    assert uniformity((exact.weights * cdf).sum(-1)) > 1e-6
    prior = problem.prior
    cdf = Normal(prior.means[..., 0], 0.7 * prior.scale_trils[..., 0, 0]).cdf(problem.target)
    assert uniformity((prior.weights * cdf).sum(-1)) < 1e-6, "the test sees a law that is too narrow"


def test_plane_posteriors_are_calibrated_along_a_direction(generator):
    problem = problems(TASKS["plane"], generator)
    exact, along = TASKS["plane"].posterior(problem), torch.tensor([0.6, 0.8], dtype=torch.float64)
    std = (along @ exact.covariances @ along).sqrt()
    cdf = Normal(exact.means @ along, std).cdf((problem.target @ along)[:, None])
    assert uniformity((exact.weights * cdf).sum(-1)) > 1e-6


def test_meta_priors_have_their_laws(generator):
    """Means of 20,000 draws to six standard errors; for D = 1 the precision is a floor + an exponential of mean 2s."""
    law = ConjugateMixtures(3, 1, scale=2.0, floor=0.1)
    drawn = law.sample(20_000, Draw(generator, torch.float64))
    precision = 1 / drawn.covariances[:, 0, 0, 0]
    assert precision.min() >= 0.1
    for values, wanted in (
        (precision, 4.1),
        (precision.square(), 2 * 16 + 2 * 0.1 * 4 + 0.01),
        (drawn.means[:, 0, 0].square(), 2.0),
        (drawn.weights[:, 0], 1 / 3),
        (drawn.weights[:, 0].square(), (1 / 3) * (4 / 3) / 2),
    ):
        assert abs(values.mean() - wanted) < 6 * values.std() / math.sqrt(20_000)


def test_the_variance_law_is_torchs(generator):
    a, b = (torch.rand(2, 5, generator=generator, dtype=torch.float64) + 0.5).unbind(0)
    u = torch.randn(3, 5, 1, generator=generator, dtype=torch.float64)
    wanted = InverseGamma(a, b).log_prob(u[..., 0].exp()) + u[..., 0]
    torch.testing.assert_close(LogInverseGamma.of(a, b).log_prob(u), wanted)


def test_the_variance_posterior_is_conjugate_and_prior_times_likelihood(generator):
    a, b = torch.tensor([2.0], dtype=torch.float64), torch.tensor([3.0], dtype=torch.float64)
    z = torch.tensor([[[0.5], [-1.5]]], dtype=torch.float64)
    prior = LogInverseGamma.of(a, b)
    after = prior.posterior(z)
    assert after.log_concentration.exp().item() == pytest.approx(3.0)
    assert after.log_rate.exp().item() == pytest.approx(3.0 + 0.5 * (0.25 + 2.25))
    u = torch.linspace(-2, 3, 9, dtype=torch.float64)[:, None, None]
    likelihood = Normal(0.0, (u / 2).exp()).log_prob(z[0].T).sum(-1)
    left = prior.log_prob(u) + likelihood - after.log_prob(u)
    torch.testing.assert_close(left, left[:1].expand(9, 1))


def test_variance_posteriors_are_calibrated(generator):
    problem = problems(TASKS["variance"], generator)
    after = TASKS["variance"].posterior(problem)
    rate = (after.log_rate - problem.target[:, 0]).exp()
    assert uniformity(torch.special.gammaincc(after.log_concentration.exp(), rate)) > 1e-6


def test_quadrature_is_the_closed_form(generator):
    problem = problems(TASKS["variance"], generator, 20)
    prior, residuals = TASKS["variance"].prior(problem), problem.observations[0] - 1.0
    centre = prior.log_rate - prior.log_concentration
    ends = 40 / prior.log_concentration.exp() + 10
    grid = centre + ends * torch.linspace(-1, 1, 20_001, dtype=torch.float64)[:, None]
    weights = (ends / 10_000).log().expand_as(grid)

    def likelihood(u):
        return Normal(0.0, (u / 2).exp()).log_prob(residuals[..., 0]).sum(-1)

    found = by_quadrature(prior, likelihood, grid, weights)
    exact = prior.posterior(residuals)
    torch.testing.assert_close(found.log_prob(problem.target), exact.log_prob(problem.target), atol=1e-6, rtol=0)
    assert torch.equal(found.standard_error, torch.zeros(20, dtype=torch.float64))


def test_importance_is_the_closed_form_within_its_error(generator):
    """The mixture posterior's evidence; 200 problems, errors within six of their standard errors."""
    task = TASKS["mixtures"]
    problem = problems(task, generator, 200)
    z = problem.observations[0][:, 0, 0]

    def likelihood(x):
        return Normal(x[..., 0], 1.0).log_prob(z)

    found = by_importance(problem.prior, likelihood, 5000, generator)
    error = found.log_prob(problem.target) - task.posterior(problem).log_prob(problem.target)
    assert (error.abs() < 6 * found.standard_error + 1e-3).all()
    assert found.standard_error.median() < 0.02
    with pytest.raises(ValueError, match="needs at least 2 draws, not 1"):
        by_importance(problem.prior, likelihood, 1, generator)


def test_the_qubits_chances_are_those_of_schroedingers_equation(generator):
    """Matrix exponentials of blurred states and times: 4,000 for each of three δ, to six standard errors."""
    task, draw = Qubit(), Draw(generator, torch.float64)
    for logit in (-2.0, 0.3, 4.0):
        delta = torch.tensor(logit, dtype=torch.float64).sigmoid()
        hamiltonian = torch.stack([torch.stack([1 - delta, delta]), torch.stack([delta, delta - 1])])
        for m, (state, time) in ((0, ((1.0, 0.0), 1.0)), (6, ((0.0, 1.0), 2.0)), (9, ((1.0, 1.0), 3.0))):
            states = torch.tensor(state, dtype=torch.float64) + 0.1 * draw.normal(4000, 2)
            states = states / states.norm(dim=-1, keepdim=True)
            times = time + 0.05 * draw.normal(4000)
            turn = torch.matrix_exp(-1j * times[:, None, None] * hamiltonian)
            chances = (turn @ states[..., None].to(turn.dtype))[:, 0, 0].abs().square()
            wanted = task.chances(torch.tensor([logit], dtype=torch.float64))[m]
            assert abs(chances.mean() - wanted) < 6 * chances.std() / math.sqrt(4000)


def test_the_qubits_outcomes_have_these_chances(generator):
    """20,000 problems, by measurement and by δ below or above one half; to six standard errors."""
    task = Qubit()
    problem = problems(task, generator, 20_000)
    outcomes = torch.cat(problem.observations, dim=1)[..., 0]
    chances = task.chances(problem.target)
    for half in (problem.target[:, 0] < 0, problem.target[:, 0] >= 0):
        away = (outcomes - chances)[half]
        assert (away.mean(0).abs() < 6 * away.std(0) / math.sqrt(int(half.sum()))).all()


def test_qubit_posteriors_integrate_to_one_and_are_calibrated(generator):
    task = Qubit()
    problem = problems(task, generator)
    logit = torch.tensor([[[-1.0]], [[2.0]]], dtype=torch.float64)
    a, b = problem.prior[:1].exp().unbind(-1)
    delta = logit.sigmoid()[..., 0]
    wanted = Beta(a, b).log_prob(delta) + (delta * (1 - delta)).log()
    torch.testing.assert_close(task.prior(problem).log_prob(logit)[:, :1], wanted)
    a, b = problem.prior.exp().unbind(-1)
    low, high = -torch.asinh(20 / a + 10), torch.asinh(20 / b + 10)
    grid = (low + (high - low) * torch.linspace(0, 1, 401, dtype=torch.float64)[:, None]).sinh()
    transform, total = below(task.posterior(problem), problem.target, grid)
    assert (total - 1).abs().max() < 1e-3
    assert uniformity(transform.clamp(0, 1)) > 1e-6


def test_the_process_posterior_is_brute_force(generator):
    """The evidence and the label's law by torch's MultivariateNormal, on a grid of lengthscales of its own."""
    task = GaussianProcess(points=3)
    problem = task.sample(1, generator, dtype=torch.float64)
    mean, log_variance, log_a, log_b = problem.prior[0]
    pairs, new = problem.observations
    times = torch.cat([pairs[0, :, 0], new[0, 0]])
    u = torch.linspace(-3, 15, 3001, dtype=torch.float64)
    square = (times[:, None] - times).square()
    kernel = (log_variance.exp() - 1e-3) * (-square / (2 * (2 * u).exp()[:, None, None])).exp()
    covariance = kernel + 1e-3 * torch.eye(4, dtype=torch.float64)
    hyper = InverseGamma(log_a.exp(), log_b.exp()).log_prob(u.exp()) + u
    seen = MultivariateNormal(mean.expand(3), covariance[:, :3, :3]).log_prob(pairs[0, :, 1])
    evidence = torch.trapezoid((hyper + seen).exp(), u).log()
    for y in (-0.4, 0.7):
        labels = torch.cat([pairs[0, :, 1], torch.tensor([y], dtype=torch.float64)])
        joint = hyper + MultivariateNormal(mean.expand(4), covariance).log_prob(labels) - evidence
        x = torch.stack([torch.full_like(u, y), u], dim=-1)[:, None]
        torch.testing.assert_close(task.posterior(problem).log_prob(x)[:, 0], joint, atol=1e-5, rtol=1e-5)


def test_process_posteriors_of_the_lengthscale_are_calibrated(generator):
    task = TASKS["process"]
    problem = problems(task, generator)
    grid = torch.linspace(-3, 17, 401, dtype=torch.float64)[:, None].expand(401, 2000)
    transform, total = below(task.lengthscale(problem), problem.target[:, 1:].contiguous(), grid)
    assert (total - 1).abs().max() < 1e-6
    assert uniformity(transform.clamp(0, 1)) > 1e-6


def test_process_labels_are_calibrated(generator):
    """The label given the true lengthscale is normal; so its standardised value is uniform after the normal's cdf."""
    task = TASKS["process"]
    problem = problems(task, generator)
    mean, variance = task.posterior(problem).process.label(problem.target[:, 1])
    assert uniformity(Normal(mean, variance.sqrt()).cdf(problem.target[:, 0])) > 1e-6


def test_the_likelihood_of_range_and_bearing_integrates_to_one():
    task = SensorFusion(draws=2)
    ranges = torch.linspace(-8, 60, 3401, dtype=torch.float64)
    bearings = torch.linspace(-math.pi, math.pi, 801, dtype=torch.float64)

    def density(state, reading, bearing):
        count = max(len(reading), len(bearing))
        seen = tuple(z.expand(count)[:, None, None] for z in (reading, bearing))
        return task.log_likelihood(seen, torch.tensor(state, dtype=torch.float64).expand(count, 4)).exp()

    one = torch.ones(1, dtype=torch.float64)
    for state in ([3.0, 0.0, 4.0, 0.0], [-0.1, 1.0, -5.0, 2.0]):
        # The density is a product of the two, so its integral is one of those along and around, over what they share.
        along = torch.trapezoid(density(state, ranges, one), ranges)
        around = torch.trapezoid(density(state, one, bearings), bearings)
        assert (along * around / density(state, one, one)).item() == pytest.approx(1, abs=0.01)


def test_readings_of_range_and_bearing_have_that_law(generator):
    """The probability integral transforms of 2,000 readings of one state are uniform."""
    task, x = SensorFusion(draws=2), torch.tensor([[3.0, 0.0, -4.0, 0.0]], dtype=torch.float64)
    reading, bearing = (z[:, 0, 0] for z in task.read(x.expand(2000, 4), Draw(generator, torch.float64)))
    short = torch.where(reading > 0, 1 - (-reading).exp(), 0.0)
    cdf = 0.7 * Normal(5.0, 0.6).cdf(reading) + 0.2 * short + 0.1 * (reading / REACH).clamp(0, 1)
    assert uniformity(cdf) > 1e-6
    angle = math.atan2(3.0, -4.0)
    off = (bearing - angle + math.pi).remainder(2 * math.pi) - math.pi
    assert uniformity(Normal(0.0, BEARING_STD).cdf(off)) > 1e-6
    assert bearing.abs().max() <= math.pi


def test_the_fusion_reference_says_its_error(generator):
    """Two references of other draws differ by their standard errors: 100 problems, six of them, and fewer with more."""
    task = SensorFusion(draws=4000)
    problem = problems(task, generator, 100)
    one, other = (task.posterior(problem, seed=seed) for seed in (1, 2))
    error = torch.hypot(one.standard_error, other.standard_error)
    sure = error < 0.2
    assert sure.sum() > 60
    assert ((one.log_evidence - other.log_evidence).abs()[sure] < 6 * error[sure]).all()
    fewer = SensorFusion(draws=1000).posterior(problem, seed=1).standard_error
    assert (fewer[sure] / one.standard_error[sure]).median() == pytest.approx(2, rel=0.2)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ConjugateMixtures(0), "n_components must be at least 1, not 0"),
        (lambda: ConjugateMixtures(2, scale=-1.0), "scale must be positive and finite, not -1.0"),
        (lambda: ConjugateMixtures(2, floor=0.0), "floor must be positive and finite"),
        (lambda: ConjugateMixtures(2, concentration=math.inf), "concentration must be positive and finite"),
        (lambda: FixedMixture((0.5, 0.6), ((0.0,), (1.0,)), (((1.0,),), ((1.0,),))), "weights must be a distribution"),
        (lambda: FixedMixture((1.0,), ((0.0,),), (((-1.0,),),)), "covariances must be positive definite"),
        (lambda: LinearGaussian(WIDE, PLANE), "a sensor reads 2 dimensions and the priors have 1"),
        (lambda: LinearGaussian(WIDE, ()), "sensors must be at least 1, not 0"),
        (lambda: LinearGaussian(WIDE, points=0), "points must be at least 1"),
        (lambda: Variance(mean=math.nan), "mean must be finite"),
        (lambda: Qubit(time_std=0.0), "time_std must be positive and finite"),
        (lambda: GaussianProcess(noise_variance=0.0), "noise_variance must be positive and finite"),
        (lambda: SensorFusion(WIDE), "the state has 4 dimensions, and these priors have 1"),
        (lambda: LogInverseGamma.of(torch.ones(2), torch.zeros(2)), "rate must be positive and finite"),
        (lambda: LogInverseGamma.of(torch.ones(2), torch.ones(3)), r"one shape, not \[2\] and \[3\]"),
    ],
)
def test_bad_options_are_refused_in_one_sentence(make, words, untyped):
    with pytest.raises(ValueError, match=words):
        make()


def test_bad_data_of_a_variance_are_refused(untyped):
    law = LogInverseGamma.of(torch.ones(2), torch.ones(2))
    with pytest.raises(ValueError, match=r"observations must be \[\*batch points 1\], not \[2, 3\]"):
        law.posterior(torch.zeros(2, 3))
    with pytest.raises(ValueError, match="observations must be finite"):
        law.posterior(torch.full((2, 3, 1), math.nan))
