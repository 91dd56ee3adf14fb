"""The exact posterior and filter of mixtures, against Kalman's equations and against brute force."""

import math
from functools import partial

import pytest
import torch
from torch.distributions import MultivariateNormal, Normal

from microtome.lab.bayes.gaussian_mixture import GaussianMixture
from microtome.lab.bayes.linear_gaussian import LinearMotion, LinearSensor, filtered, posterior, predicted
from microtome.lab.tasks.distributions import ConjugateMixtures
from microtome.lab.tasks.draw import Draw

SENSOR = LinearSensor(((1.0, 0.5, 0.0), (0.0, 1.0, -1.0)), ((0.5, 0.1), (0.1, 0.3)))
UNIT = LinearSensor(((1.0,),), ((1.0,),))
MOTION = LinearMotion(((0.9,),), ((math.sqrt(0.19),),))


def drawn(generator, batch=6, components=3, dim=3):
    return ConjugateMixtures(components, dim).sample(batch, Draw(generator, torch.float64))


def test_one_component_is_the_kalman_update(generator):
    prior = drawn(generator, components=1)
    z = torch.randn(6, 1, 2, generator=generator, dtype=torch.float64)
    got = posterior(prior, (SENSOR,), (z,))
    mean, cov, sees = prior.means[:, 0], prior.covariances[:, 0], SENSOR.map
    s = sees @ cov @ sees.mT + SENSOR.covariance
    gain = cov @ sees.mT @ torch.linalg.inv(s)
    wanted = mean + (gain @ (z[:, 0] - mean @ sees.mT)[..., None])[..., 0]
    torch.testing.assert_close(got.means[:, 0], wanted, atol=1e-9, rtol=1e-7)
    torch.testing.assert_close(got.covariances[:, 0], cov - gain @ sees @ cov, atol=1e-7, rtol=1e-6)
    torch.testing.assert_close(got.weights, torch.ones(6, 1, dtype=torch.float64))


def test_the_posterior_is_prior_times_likelihood_over_a_constant(generator):
    prior = drawn(generator)
    z = torch.randn(6, 2, 2, generator=generator, dtype=torch.float64)
    x = torch.randn(9, 6, 3, generator=generator, dtype=torch.float64)
    likelihood = MultivariateNormal((x @ SENSOR.map.mT)[..., None, :], SENSOR.covariance).log_prob(z).sum(-1)
    left = prior.log_prob(x) + likelihood - posterior(prior, (SENSOR,), (z,)).log_prob(x)
    torch.testing.assert_close(left, left[:1].expand(9, 6), atol=1e-8, rtol=1e-8)


def test_the_posterior_is_brute_force_on_a_grid(generator):
    prior = GaussianMixture.of(
        torch.tensor([0.3, 0.7]), torch.tensor([[-1.5], [1.0]]), torch.tensor([[[0.4]], [[0.1]]])
    )
    z = torch.tensor([[0.2], [-0.4]])
    grid = torch.linspace(-8, 8, 4001, dtype=torch.float64)
    joint = prior.to(torch.float64).log_prob(grid[:, None]).exp()
    for reading in z.double():
        joint = joint * Normal(grid, 1.0).log_prob(reading).exp()
    density = joint / torch.trapezoid(joint, grid)
    got = posterior(prior, (UNIT,), (z,)).log_prob(grid[:, None]).exp()
    torch.testing.assert_close(got, density, atol=1e-6, rtol=1e-6)


def test_neither_the_order_of_readings_nor_of_components_matters(generator):
    prior, order = drawn(generator), torch.tensor([2, 0, 1])
    z = torch.randn(6, 4, 2, generator=generator, dtype=torch.float64)
    x = torch.randn(6, 3, generator=generator, dtype=torch.float64)
    once = posterior(prior, (SENSOR,), (z,)).log_prob(x)
    torch.testing.assert_close(posterior(prior, (SENSOR,), (z.flip(1),)).log_prob(x), once)
    torch.testing.assert_close(posterior(prior.permuted(order), (SENSOR,), (z,)).log_prob(x), once)
    two = posterior(prior, (SENSOR, SENSOR), (z[:, :1], z[:, 1:]))
    torch.testing.assert_close(two.log_prob(x), once)


def test_nearly_singular_priors_keep_positive_covariances(generator):
    prior = ConjugateMixtures(4, 4, scale=16.0).sample(2000, Draw(generator, torch.float64))
    sensor = LinearSensor(((1.0, 0.0, 0.0, 0.0),), ((1e-4,),))
    z = torch.randn(2000, 5, 1, generator=generator, dtype=torch.float64)
    after = posterior(prior, (sensor,), (z,))
    assert torch.isfinite(after.log_prob(torch.zeros(4, dtype=torch.float64))).all()
    torch.testing.assert_close(after.weights.sum(-1), torch.ones(2000, dtype=torch.float64))


def test_the_filter_is_brute_force_on_a_grid(generator):
    """Three steps of the chain by matrix products over a grid."""
    prior = GaussianMixture.of(torch.tensor([0.5, 0.5]), torch.tensor([[-1.5], [1.5]]), torch.full((2, 1, 1), 0.36))
    readings = torch.randn(3, 1, 1, generator=generator, dtype=torch.float64)
    laws = filtered(prior, MOTION, lambda law, z: posterior(law, (UNIT,), z), [(z,) for z in readings])
    grid = torch.linspace(-7, 7, 1401, dtype=torch.float64)
    step = grid[1] - grid[0]
    density = prior.to(torch.float64).log_prob(grid[:, None]).exp()
    move = Normal(0.9 * grid, math.sqrt(0.19)).log_prob(grid[:, None]).exp() * step
    for i, (law, z) in enumerate(zip(laws, readings, strict=True)):
        density = (move @ density if i else density) * Normal(grid, 1.0).log_prob(z[0]).exp()
        density = density / (density.sum() * step)
        torch.testing.assert_close(law.log_prob(grid[:, None]).exp(), density, atol=1e-6, rtol=1e-5)


def test_prediction_is_the_law_of_moved_draws(generator):
    """Mean and covariance of 40,000 moved draws, to six standard errors."""
    law = drawn(generator, batch=1, dim=2).to(torch.float64)
    motion = LinearMotion(((1.0, 0.6), (0.0, 0.4)), ((0.1,), (0.2,)))
    moved = motion.sample(law.sample(generator, 40_000), generator)
    after = predicted(law, motion)
    assert ((moved.mean(0) - after.mean) / (moved.std(0) / 200)).abs().max() < 6
    away = moved - after.mean
    products = away[..., :, None] * away[..., None, :]
    assert ((products.mean(0) - after.covariance) / (products.std(0) / 200)).abs().max() < 6


def test_readings_have_the_sensors_law(generator):
    """Mean and covariance of 40,000 readings, to six standard errors."""
    x = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64).expand(40_000, 3)
    away = SENSOR.sample(x, generator) - x @ SENSOR.map.mT
    assert (away.mean(0) / (away.std(0) / 200)).abs().max() < 6
    products = away[..., :, None] * away[..., None, :]
    assert ((products.mean(0) - SENSOR.covariance) / (products.std(0) / 200)).abs().max() < 6


@pytest.mark.parametrize(
    ("z", "words"),
    [
        (torch.zeros(6, 1, 3), r"observations must be \[\*batch points size=2\], not \[6, 1, 3\]"),
        (torch.full((6, 1, 2), math.nan), "observations must be finite"),
        (None, "1 sensors cannot have given 0 tensors of observations"),
    ],
)
def test_bad_observations_are_refused(z, words, generator):
    with pytest.raises(ValueError, match=words):
        posterior(drawn(generator), (SENSOR,), () if z is None else (z,))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (partial(LinearSensor, ((1.0,),), ((-1.0,),)), "noise must be symmetric and positive definite"),
        (partial(LinearSensor, ((1.0,),), ((1.0, 0.0), (0.0, 1.0))), "noise must be 1 × 1"),
        (partial(LinearSensor, ((1.0, 2.0), (1.0,)), ((1.0,),)), "matrix must be rows of equally many finite numbers"),
        (partial(LinearMotion, ((1.0, 0.0),), ((1.0,),)), "motion's matrix must be square"),
    ],
)
def test_what_is_no_sensor_or_motion_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_dimensions_must_fit(generator):
    with pytest.raises(ValueError, match="the sensor reads 1 dimensions and the prior has 3"):
        posterior(drawn(generator), (UNIT,), (torch.zeros(6, 1, 1),))
    with pytest.raises(ValueError, match="the motion is 1-dimensional and the mixture 3-dimensional"):
        predicted(drawn(generator), MOTION)
