"""Gaussian processes and regression on features: against written-out conditioning, and against each other.

Calibration is refused below p = 1e-6 only (2,000 independent prompts at one position); of log scores the paired gap is
held against 5 standard errors, which chance exceeds with probability below 1e-6.
"""

import math

import pytest
import torch
from sklearn.gaussian_process import GaussianProcessRegressor

from microtome.lab.bayes import BayesLinear, integral_transform, uniformity
from microtome.lab.bayes.features import BayesFeatures
from microtome.lab.bayes.gaussian_process import FourierKernel, GaussianProcess, ReLUKernel

HARMONICS = 4


def fourier(xs):
    """Features whose inner product is the kernel of the class, N = 4, L = 5."""
    phase = xs * (math.pi / 5) * torch.arange(1, HARMONICS + 1, dtype=xs.dtype)
    return torch.cat([torch.ones_like(xs), phase.cos(), phase.sin()], dim=-1) / math.sqrt(HARMONICS)


def prompts(batch, points, noise_std, generator):
    xs = 10 * torch.rand(batch, points, 1, generator=generator, dtype=torch.float64) - 5
    w = torch.randn(batch, 2 * HARMONICS + 1, 1, generator=generator, dtype=torch.float64)
    noise = noise_std * torch.randn(batch, points, generator=generator, dtype=torch.float64)
    return xs, (fourier(xs) @ w)[..., 0] + noise


FEATURES = BayesFeatures(fourier, 0.3)
PROCESS = GaussianProcess(FourierKernel(HARMONICS), 0.3)


@pytest.mark.parametrize("noise_std", [0.3, 2.0])
def test_process_and_features_of_a_finite_basis_agree(noise_std, generator):
    xs, ys = prompts(4, 25, noise_std, generator)
    a = GaussianProcess(FourierKernel(HARMONICS), noise_std).predict(xs, ys)
    b = BayesFeatures(fourier, noise_std).predict(xs, ys)
    torch.testing.assert_close(a.mean, b.mean, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(a.variance, b.variance, rtol=1e-9, atol=1e-9)


def test_without_noise_they_agree_to_the_floor(generator):
    xs, ys = prompts(4, 25, 0.0, generator)
    process = GaussianProcess(FourierKernel(HARMONICS), 0.0).predict(xs, ys)
    features = BayesFeatures(fourier).predict(xs, ys)
    torch.testing.assert_close(features.mean[:, 12:], ys[:, 12:], rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(process.mean[:, 20:], ys[:, 20:], rtol=1e-3, atol=1e-3)
    assert features.variance[:, 9:].max() < 1e-9, "nine features are known after nine pairs"


@pytest.mark.parametrize(
    ("kernel", "dim"), [(FourierKernel(3, 2.0), 1), (ReLUKernel(), 3)], ids=["fourier", "relu network"]
)
def test_process_is_conditioning(kernel, dim, generator):
    xs = torch.randn(2, 7, dim, generator=generator, dtype=torch.float64)
    ys = torch.randn(2, 7, generator=generator, dtype=torch.float64)
    said = GaussianProcess(kernel, 0.5).predict(xs, ys)
    for k in range(7):
        x, query = xs[:, :k], xs[:, k : k + 1]
        covariance = kernel(x, x) + 0.25 * torch.eye(k, dtype=torch.float64)
        gain = torch.linalg.solve(covariance, kernel(x, query))[..., 0]
        torch.testing.assert_close(said.mean[:, k], (gain * ys[:, :k]).sum(-1))
        spread = kernel(query, query)[:, 0, 0] - (gain * kernel(x, query)[..., 0]).sum(-1)
        torch.testing.assert_close(said.variance[:, k], spread + 0.25)


def test_agrees_with_scikit_learn(generator):
    """Of the linear kernel xᵀx′."""
    from sklearn.gaussian_process.kernels import DotProduct

    xs = torch.randn(1, 9, 3, generator=generator, dtype=torch.float64)
    ys = torch.randn(1, 9, generator=generator, dtype=torch.float64)
    process = GaussianProcess(lambda a, b: a @ b.mT, 0.5)
    judge = GaussianProcessRegressor(DotProduct(0.0, "fixed"), alpha=0.25, optimizer=None)
    judge.fit(xs[0, :8].numpy(), ys[0, :8].numpy())
    mean, std = judge.predict(xs[0, 8:].numpy(), return_std=True)
    said = process.predict(xs, ys)
    assert said.mean[0, 8].item() == pytest.approx(mean[0], rel=1e-8)
    assert said.variance[0, 8].item() == pytest.approx(std[0] ** 2 + 0.25, rel=1e-8)
    evidence = GaussianProcessRegressor(DotProduct(0.0, "fixed"), alpha=0.25, optimizer=None)
    evidence.fit(xs[0].numpy(), ys[0].numpy())
    assert process.log_evidence(xs, ys).item() == pytest.approx(evidence.log_marginal_likelihood_value_, rel=1e-8)


def test_relu_kernel_is_the_covariance_of_networks(generator):
    """200,000 networks of width 1: the error of a mean product is below 5 standard errors but with chance 1e-6."""
    xs = torch.randn(1, 4, 3, generator=generator, dtype=torch.float64)
    w = torch.randn(200_000, 3, generator=generator, dtype=torch.float64)
    a = torch.randn(200_000, 1, generator=generator, dtype=torch.float64)
    f = math.sqrt(2) * a * (w @ xs[0].mT).clamp(min=0)
    products = f[:, :, None] * f[:, None]
    error = (products.mean(0) - ReLUKernel()(xs, xs)[0]).abs()
    assert (error < 5 * products.std(0) / math.sqrt(len(f))).all()


def test_a_later_point_changes_nothing(generator):
    for predictor in (FEATURES, PROCESS, GaussianProcess(FourierKernel(HARMONICS), 0.0)):
        xs, ys = prompts(2, 8, 0.3, generator)
        before = predictor.predict(xs, ys)
        xs, ys = xs.clone(), ys.clone()
        xs[:, 5:], ys[:, 4:] = 1.0, 9.0
        after = predictor.predict(xs, ys)
        assert torch.equal(after.mean[:, :5], before.mean[:, :5])
        assert torch.equal(after.variance[:, :5], before.variance[:, :5])
        assert (predictor.predict(xs, ys).mean[:, 5] != before.mean[:, 5]).all()


def test_single_precision_is_kept(generator):
    xs, ys = prompts(2, 8, 0.3, generator)
    for predictor in (FEATURES, PROCESS):
        said = predictor.predict(xs.float(), ys.float())
        assert said.mean.dtype == said.variance.dtype == torch.float32
        torch.testing.assert_close(said.mean, predictor.predict(xs, ys).mean.float(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("point", [0, 4, 11])
@pytest.mark.parametrize("predictor", [FEATURES, PROCESS], ids=["features", "process"])
def test_is_calibrated(predictor, point, generator):
    xs, ys = prompts(2000, 12, 0.3, generator)

    def p_value(judged) -> float:
        return uniformity(integral_transform(judged.law(xs, ys), ys, generator)[:, point])

    assert p_value(predictor) > 1e-6
    assert p_value(BayesFeatures(fourier, 0.3, prior_std=3.0) if point < 11 else BayesFeatures(fourier, 1.0)) < 1e-6


def test_log_score_beats_other_classes(generator):
    xs, ys = prompts(2000, 12, 0.3, generator)
    own = FEATURES.law(xs, ys).log_prob(ys)
    others = (
        BayesLinear(0.3),
        GaussianProcess(FourierKernel(HARMONICS - 1), 0.3),
        GaussianProcess(FourierKernel(HARMONICS + 2), 0.3),
        GaussianProcess(ReLUKernel(), 0.3),
    )
    for other in others:
        gap = (own - other.law(xs, ys).log_prob(ys)).mean(1)
        assert gap.mean() > 5 * gap.std() / math.sqrt(len(gap)), other.name


def test_posterior_weights_carry_the_prediction(generator):
    xs, ys = prompts(2, 12, 0.3, generator)
    posterior = FEATURES.posterior(xs, ys)
    torch.testing.assert_close((posterior.weights * fourier(xs)).sum(-1), posterior.prediction.mean)


def test_inputs_at_zero_say_nothing_of_a_relu_network():
    said = GaussianProcess(ReLUKernel(), 0.0).predict(torch.zeros(1, 3, 2), torch.ones(1, 3))
    assert not said.mean.any()
    assert torch.isfinite(said.variance).all()


@pytest.mark.usefixtures("untyped")
def test_bad_input_gets_a_sentence():
    xs, ys = torch.zeros(2, 3, 1), torch.zeros(2, 3)
    with pytest.raises(ValueError, match=r"features must map xs \[2, 3, 1\]"):
        BayesFeatures(lambda x: x[:, :2]).predict(xs, ys)
    with pytest.raises(ValueError, match="infinity or a NaN"):
        BayesFeatures(lambda x: x.log()).predict(xs, ys)
    with pytest.raises(ValueError, match="kernel must give"):
        GaussianProcess(lambda a, b: a, 0.1).predict(xs, ys)
    with pytest.raises(ValueError, match="not positive semidefinite"):
        GaussianProcess(lambda a, b: -(a + 1) @ (b + 1).mT, 0.1).predict(xs, ys)
    with pytest.raises(ValueError, match="one-dimensional x, not of 2"):
        GaussianProcess(FourierKernel(2), 0.1).predict(torch.zeros(2, 3, 2), ys)
    with pytest.raises(ValueError, match="noise_std"):
        GaussianProcess(ReLUKernel(), -0.1)
    with pytest.raises(ValueError, match="harmonics"):
        FourierKernel(0)
    with pytest.raises(ValueError, match="noise_std"):
        BayesFeatures(fourier, math.nan)
