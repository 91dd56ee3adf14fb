"""In-context learning through the Bayesian prism (Panwar, Ahuja & Goyal 2024): its checks, on the side of the answers.

Calibration of every class's own posterior is refused below p = 1e-6 only: 2,000 independent prompts at one position.
"""

import math

import pytest
import torch

from microtome.lab import zoo
from microtome.lab.bayes import (
    BayesLinear,
    Prediction,
    Ridge,
    implicit_weights,
    integral_transform,
    mspd,
    squared_error,
    uniformity,
)
from microtome.lab.bayes.gaussian_prior import BayesGaussian
from microtome.lab.bayes.gaussian_process import FourierKernel
from microtome.lab.bayes.mixture import BayesMixture
from microtome.lab.bayes.pool import PoolPosterior
from microtome.lab.bayes.simplicity import frequency_content
from microtome.lab.tasks import LinearRegression
from microtome.lab.tasks.families import Subsets
from microtome.lab.tasks.features import Fourier, Haar, Monomials
from microtome.lab.tasks.mixtures import Mixture
from microtome.lab.tasks.priors import GaussianMixtureRegression, SignVector, TaskPool


def shift_form(mu, sigma, x, y, query, noise_std):
    """(μ + ΣXᵀ(XΣXᵀ + σ²I)⁻¹(y − Xμ))ᵀ query."""
    covariance = x @ sigma @ x.mT + noise_std**2 * torch.eye(x.shape[-2], dtype=x.dtype)
    step = torch.linalg.solve(covariance, (y - x @ mu)[..., None])
    return ((mu + (sigma @ x.mT @ step)[..., 0]) * query).sum(-1)


@pytest.mark.parametrize("noise_std", [0.0, 0.5])
def test_of_equal_components_the_answer_is_ridge_in_shift_form(noise_std, generator):
    mu = torch.tensor([3.0, 0.0, 0.0], dtype=torch.float64)
    sigma = torch.diag(torch.tensor([0.1, 1.0, 1.0], dtype=torch.float64))
    prompt = LinearRegression(3, noise_std).sample(5, 6, generator, dtype=torch.float64)
    one = BayesGaussian(mu, sigma, noise_std)
    said = BayesMixture((one, one), (0.5, 0.5)).predict(prompt.xs, prompt.ys).mean
    for k in range(1, 3 if noise_std == 0 else 6):
        x, y, query = prompt.xs[:, :k], prompt.ys[:, :k], prompt.xs[:, k]
        torch.testing.assert_close(said[:, k], shift_form(mu, sigma, x, y, query, noise_std), rtol=1e-8, atol=1e-8)


def test_responsibilities_sum_to_one_and_begin_at_the_prior(generator):
    task = GaussianMixtureRegression.two_sided()
    prompt = task.sample(64, 12, generator)
    belief = task.bayes().responsibilities(prompt.xs, prompt.ys)
    torch.testing.assert_close(belief.sum(-1), torch.ones(64, 12))
    torch.testing.assert_close(belief[:, 0], torch.full((64, 2), 0.5))
    own = belief.gather(-1, prompt.latents["component"][:, None, None].expand(-1, 12, 1))[..., 0]
    assert own[:, 11].min() > 0.99, "ten noiseless pairs tell the component"


def test_a_growing_pool_becomes_ridge(generator):
    """As M → ∞ dMMSE becomes ridge(σ²/τ²): at each sixteenfold pool the distance falls, in all by a factor of 20."""
    task = LinearRegression(2, noise_std=0.5)
    prompt = task.sample(256, 8, generator, dtype=torch.float64)
    ridge = Ridge(0.25).predict(prompt.xs, prompt.ys)
    pools = [TaskPool(2, tasks, noise_std=0.5, seed=3).bayes() for tasks in (4, 64, 1024, 16384)]
    distances = [mspd(pool.predict(prompt.xs, prompt.ys), ridge, 2).item() for pool in pools]
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < distances[0] / 20


def test_fourier_labels_have_variance_n_plus_one_over_n():
    xs = torch.linspace(-5, 5, 9, dtype=torch.float64)[None, :, None]
    for n in (1, 4, 10):
        variance = FourierKernel(n)(xs, xs).diagonal(dim1=1, dim2=2)
        torch.testing.assert_close(variance, torch.full_like(variance, (n + 1) / n))
        law = Fourier(n).bayes().law(xs, torch.zeros(1, 9))
        assert law.variance[0, 0].item() == pytest.approx((n + 1) / n)


def test_monomials_with_squares_have_a_variance_above_one(generator):
    """Of 40,000 labels; the mean of squares of the class's law is (1 + 2·share of squares), 5 standard errors away."""
    task = Monomials(3, Subsets(4))
    ys = task.sample(40_000, 1, generator, dtype=torch.float64).ys[:, 0]
    squares = ys.square()
    assert squares.mean() - 1 > 5 * squares.std() / 200
    assert abs(squares.mean() - task.label_std**2) < 5 * squares.std() / 200


@pytest.mark.parametrize("n", [1, 3, 10])
def test_the_transform_of_a_pure_cosine_peaks_at_its_frequency(n, generator):
    """Said by the exact answer of the class after it has seen enough of the cosine."""
    xs = 10 * torch.rand(2, 30, 1, generator=generator, dtype=torch.float64) - 5
    ys = (n * math.pi / 5 * xs[..., 0]).cos()
    content = frequency_content(Fourier(10).bayes(), xs, ys)
    assert (content.argmax(-1) == n).all()
    assert content[:, n].min() > 0.99


def test_the_training_law_decides_which_frequencies_are_used(generator):
    """After few pairs of a slow function the exact answer of a fixed bandwidth uses all frequencies, that of mixed
    bandwidths the low ones, and that of a mixture biased to high ones those."""
    xs = 10 * torch.rand(64, 5, 1, generator=generator, dtype=torch.float64) - 5
    w = torch.randn(64, 2, 1, generator=generator, dtype=torch.float64)
    angle = math.pi / 5 * xs
    ys = (torch.cat([angle.cos(), angle.sin()], -1) @ w)[..., 0]
    content = {law: frequency_content(Fourier(10, law=law).bayes(), xs, ys).mean(0) for law in ("all", "upto", "from")}
    low = {law: share[:3].sum().item() for law, share in content.items()}
    high = {law: share[6:11].sum().item() for law, share in content.items()}
    assert low["upto"] > low["all"] > low["from"]
    assert high["upto"] < high["all"] < high["from"]


SPARSE = LinearRegression(4, sparsity=1, noise_std=0.2)
CLASSES = {
    "gaussian mixture": GaussianMixtureRegression(
        3, ((2.0, 0.0, 0.0), (-2.0, 0.0, 0.0)), ((0.1, 1.0, 1.0),) * 2, (0.5, 0.5), noise_std=0.3
    ),
    "gaussian mixture without noise": GaussianMixtureRegression.two_sided(6),
    "signs": SignVector(4, noise_std=0.5),
    "sparse": SPARSE,
    "pool": TaskPool(3, 5, noise_std=0.5),
    "dense and sparse": Mixture((LinearRegression(4, noise_std=0.2), SPARSE), (0.5, 0.5)),
    "dense, sparse and signs": Mixture(
        (LinearRegression(4, noise_std=0.2), SPARSE, SignVector(4, noise_std=0.2)), (1 / 3, 1 / 3, 1 / 3)
    ),
    "fourier": Fourier(3, noise_std=0.2),
    "fourier, mixed bandwidths": Fourier(4, law="upto", noise_std=0.2),
    "monomials": Monomials(3, Subsets(4), noise_std=0.2),
    "haar": Haar(2, noise_std=0.2),
}


@pytest.mark.parametrize("task", CLASSES.values(), ids=CLASSES)
def test_the_posterior_of_every_class_is_calibrated(task, generator):
    prompt = task.sample(2000, 5, generator, dtype=torch.float64)
    transform = integral_transform(task.bayes().law(prompt.xs, prompt.ys), prompt.ys, generator)
    for point in (0, 2, 4):
        assert uniformity(transform[:, point]) > 1e-6


@pytest.mark.parametrize("task", CLASSES.values(), ids=CLASSES)
def test_the_posterior_of_every_class_has_a_better_log_score_than_a_dense_one(task, generator):
    """The dense one has the class's label variance; the paired gap is 5 standard errors from zero by chance with
    probability below 1e-6."""
    prompt = task.sample(2000, 6, generator, dtype=torch.float64)
    dense = BayesLinear(0.1 * task.label_std, task.label_std / math.sqrt(task.dim))
    own, other = (p.law(prompt.xs, prompt.ys).log_prob(prompt.ys) for p in (task.bayes(), dense))
    gap = (own - other).mean(1)
    assert gap.mean() > 5 * gap.std() / math.sqrt(len(gap))


class Opaque:
    """A predictor that shows its predictions only."""

    name = "opaque"

    def __init__(self, predictor):
        self._predictor = predictor

    def predict(self, xs, ys):
        return Prediction(self._predictor.predict(xs, ys).mean)


def test_probing_finds_the_weights_of_dmmse(generator):
    """With 2d + 1 fresh inputs, as published."""
    predictor = PoolPosterior(torch.randn(6, 3, generator=generator, dtype=torch.float64), 0.5)
    prompt = LinearRegression(3, 0.5).sample(4, 5, generator, dtype=torch.float64)
    queries = torch.randn(4, 7, 3, generator=generator, dtype=torch.float64)
    longer = torch.cat([prompt.xs, queries[:, :1]], dim=1)
    wanted = predictor.weights(longer, torch.nn.functional.pad(prompt.ys, (0, 1)))[:, -1]
    torch.testing.assert_close(implicit_weights(Opaque(predictor), prompt.xs, prompt.ys, queries), wanted)


@pytest.mark.parametrize(("variant", "count"), [("tiny", 164_417), ("small", 1_218_561)])
def test_learners_have_the_published_number_of_parameters(variant, count):
    learner = zoo.build("icl_bayesian_prism", variant)
    assert sum(parameter.numel() for parameter in learner.parameters()) == count


def test_a_learner_pads_labels_and_may_do_without_positions(generator):
    learner = zoo.build("icl_bayesian_prism", "tiny", dim=3, points=5, position="none")
    prompt = LinearRegression(3).sample(2, 5, generator)
    tokens = learner.interleave(prompt.xs, prompt.ys)
    assert tokens.shape == (2, 10, 3)
    assert torch.equal(tokens[:, 0::2], prompt.xs)
    assert torch.equal(tokens[:, 1::2, 0], prompt.ys)
    assert not tokens[:, 1::2, 1:].any()
    assert learner(prompt.xs, prompt.ys).shape == (2, 5)
    published = zoo.build("icl_bayesian_prism", "tiny")
    bare = zoo.build("icl_bayesian_prism", "tiny", position="none")
    sizes = [sum(p.numel() for p in model.parameters()) for model in (published, bare)]
    assert sizes[0] - sizes[1] == 202 * 64, "the table of positions that many runs do not use"


def test_dense_labels_of_the_published_size_have_the_published_error(generator):
    """Squared error of the exact answer for d = 20 at k = 0 is d = 20 and at k = 10 it is 10; the published learner's
    are 20.0 and 10.2, and .011 at k = 40, where the answer has none."""
    prompt = LinearRegression(20).sample(4000, 41, generator, dtype=torch.float64)
    error = squared_error(BayesLinear().predict(prompt.xs, prompt.ys), prompt.ys).mean(0)
    assert error[0].item() == pytest.approx(20, rel=0.15)
    assert error[10].item() == pytest.approx(10, rel=0.15)
    assert error[40].item() < 1e-10
