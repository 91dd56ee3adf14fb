"""Linear functions with other priors (Garg et al. 2022; Panwar, Ahuja & Goyal 2024, icl_bayesian_prism).

Each statistic below has an exactly known law, or is the mean of many independent draws, and is refused outside its
central 1 − 1e-6 (4.9 standard errors): together they raise a false alarm less than once in 10,000 suites.
"""

import math
from dataclasses import replace

import pytest
import torch
from scipy.stats import chi2
from torch import Tensor

from microtome.lab.bayes import BayesLinear, squared_error
from microtome.lab.tasks import Inputs, LinearRegression, Prompt, Spectrum
from microtome.lab.tasks.families import Subsets
from microtome.lab.tasks.features import Monomials
from microtome.lab.tasks.priors import GaussianMixtureRegression, LowRank, SignVector, TaskPool
from microtome.lab.train.curriculum import Curriculum, Ramp
from microtome.lab.train.objective import InContextRegression

SKEWED = Inputs(Spectrum.power_law(4))
TASKS = {
    "signs": SignVector(5, noise_std=0.3),
    "low rank": LowRank(side=3, rank=2, noise_std=0.3),
    "two-sided": replace(GaussianMixtureRegression.two_sided(4), noise_std=0.3),
    "pool": TaskPool(4, tasks=3, noise_std=0.3, prior_std=2.0),
}
every_task = pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)


def close(values: Tensor, mean: float) -> bool:
    """Whether the mean of independent values is within 4.9 standard errors."""
    return abs(values.mean().item() - mean) < 4.9 * values.std().item() / math.sqrt(values.numel())


def linear_part(prompt: Prompt) -> Tensor:
    return torch.einsum("bpd,bd->bp", prompt.xs, prompt.latents["w"])


@every_task
def test_labels_are_linear_with_noise(task, generator: torch.Generator) -> None:
    prompt = task.sample(1000, 12, generator, dtype=torch.float64)
    standard = (prompt.ys - linear_part(prompt)) / 0.3
    assert chi2.ppf(5e-7, 12_000) <= standard.square().sum() <= chi2.ppf(1 - 5e-7, 12_000)
    without = replace(task, noise_std=0.0).sample(50, 12, generator, dtype=torch.float64)
    assert (without.ys - linear_part(without)).abs().max() < 1e-12


@every_task
def test_label_std_is_that_of_labels(task, generator: torch.Generator) -> None:
    """Over 20,000 prompts of one point each, so that labels are independent."""
    labels = task.sample(20_000, 1, generator, dtype=torch.float64).ys
    assert close(labels.square(), task.label_std**2)


@every_task
def test_draws_follow_the_generator(task) -> None:
    first, again, other = (task.sample(4, 5, torch.Generator().manual_seed(seed)) for seed in (3, 3, 4))
    assert torch.equal(first.xs, again.xs)
    assert torch.equal(first.ys, again.ys)
    assert not torch.equal(first.ys, other.ys)


def test_sign_vectors_are_uniform(generator: torch.Generator) -> None:
    """Each of the 8 vectors in 3 dimensions an eighth of the time: χ² with 7 degrees of freedom."""
    w = SignVector(3).sample(8000, 1, generator).latents["w"]
    assert set(w.unique().tolist()) == {-1.0, 1.0}
    counts = torch.bincount(((w > 0) * torch.tensor([1, 2, 4])).sum(1), minlength=8)
    assert ((counts - 1000) ** 2 / 1000).sum() < chi2.ppf(1 - 1e-6, 7)


@pytest.mark.parametrize("rank", [1, 2, 4])
def test_low_rank_weights_are_wishart(rank: int, generator: torch.Generator) -> None:
    w = LowRank(side=4, rank=rank).sample(1000, 1, generator, dtype=torch.float64).latents["w"].unflatten(1, (4, 4))
    torch.testing.assert_close(w, w.mT)
    values = torch.linalg.eigvalsh(w)
    assert values.min() > -1e-9
    assert (torch.linalg.matrix_rank(w) == rank).all()
    # The trace is the sum of r·m squared standard normal numbers.
    traces = values.sum().item()
    assert chi2.ppf(5e-7, 1000 * rank * 4) <= traces <= chi2.ppf(1 - 5e-7, 1000 * rank * 4)
    assert close(w[:, 0, 1] * w[:, 0, 1], rank)  # E (Σ_r b_r0 b_r1)² = r


def test_two_sided_mixture_is_the_published_one(generator: torch.Generator) -> None:
    task = GaussianMixtureRegression.two_sided(dim=10)
    assert task.noise_std == 0
    prompt = task.sample(4000, 1, generator, dtype=torch.float64)
    w, component = prompt.latents["w"], prompt.latents["component"]
    side = 3.0 - 6.0 * component
    standard = (w[:, 0] - side) / 1e-4
    assert chi2.ppf(5e-7, 4000) <= standard.square().sum() <= chi2.ppf(1 - 5e-7, 4000)
    assert chi2.ppf(5e-7, 36_000) <= w[:, 1:].square().sum() <= chi2.ppf(1 - 5e-7, 36_000)
    assert close(component.double(), 0.5)


def test_components_come_with_their_weights_and_laws(generator: torch.Generator) -> None:
    task = GaussianMixtureRegression(2, ((1.0, 0.0), (-2.0, 5.0)), ((1.0, 4.0), (0.25, 1.0)), (0.8, 0.2))
    latents = task.sample(20_000, 1, generator, dtype=torch.float64).latents
    assert close((latents["component"] == 1).double(), 0.2)
    of_second = latents["w"][latents["component"] == 1]
    assert close(of_second[:, 0], -2.0)
    assert close((of_second[:, 0] + 2).square(), 0.25)
    assert close(of_second[:, 1], 5.0)


def test_narrowed_mixture_keeps_the_first_coordinates() -> None:
    assert GaussianMixtureRegression.two_sided(6).narrowed(4) == GaussianMixtureRegression.two_sided(4)


@pytest.mark.parametrize("task", [LowRank(3), Monomials(9, Subsets(20))], ids=["low rank", "monomials"])
def test_curriculum_zeroes_coordinates_where_fewer_make_no_smaller_task(task, generator: torch.Generator) -> None:
    narrow = task.narrowed(4)
    xs = narrow.sample(5, 6, generator).xs
    assert xs.shape == (5, 6, 9)
    assert not xs[..., 4:].any()
    assert xs[..., :4].all()
    assert task.narrowed(9) == task
    objective = InContextRegression(task, 5, 8, Curriculum(Ramp(4, 9, 1, 10), Ramp(3, 8, 1, 10)))
    assert not objective.batch(0, generator).inputs[0][..., 4:].any()
    with pytest.raises(ValueError, match="active must be between 1 and dim = 9, not 10"):
        task.narrowed(10)
    with pytest.raises(ValueError, match="only isotropic inputs can be confined"):
        narrow.narrowed(3)


def test_pool_is_fixed_and_uniformly_drawn(generator: torch.Generator) -> None:
    task = TaskPool(4, tasks=5, prior_std=2.0, seed=1)
    prompt = task.sample(5000, 1, generator, dtype=torch.float64)
    torch.testing.assert_close(prompt.latents["w"], task.pool[prompt.latents["task"]])
    counts = torch.bincount(prompt.latents["task"], minlength=5)
    assert ((counts - 1000) ** 2 / 1000).sum() < chi2.ppf(1 - 1e-6, 4)
    assert torch.equal(task.pool, TaskPool(4, tasks=5, prior_std=2.0, seed=1).pool)
    assert not torch.equal(task.pool, TaskPool(4, tasks=5, prior_std=2.0, seed=2).pool)


def test_pool_weights_are_normal() -> None:
    pool = TaskPool(8, tasks=10_000, prior_std=0.5).pool / 0.5
    assert chi2.ppf(5e-7, 80_000) <= pool.square().sum() <= chi2.ppf(1 - 5e-7, 80_000)


def test_half_subspace_inputs_are_a_spectrum(generator: torch.Generator) -> None:
    half = Inputs(Spectrum((2.0,) * 3 + (0.0,) * 3))
    xs = SignVector(6, inputs=half).sample(500, 12, generator, dtype=torch.float64).xs
    assert (torch.linalg.matrix_rank(xs, atol=1e-9, rtol=0.0) == 3).all()
    power = xs.square().sum().item() / 2
    assert chi2.ppf(5e-7, 18_000) <= power <= chi2.ppf(1 - 5e-7, 18_000)  # E‖x‖² = d, as for N(0, I)


def test_linear_regression_tells_its_label_std(generator: torch.Generator) -> None:
    inputs = Inputs(Spectrum.power_law(6), scale=2.0)
    task = LinearRegression(6, noise_std=1.0, prior_std=1.5, inputs=inputs, sparsity=2)
    assert task.label_std == pytest.approx(math.sqrt(1.5**2 * 2 * 4 + 1))
    assert close(task.sample(20_000, 1, generator, dtype=torch.float64).ys.square(), task.label_std**2)


@pytest.mark.parametrize("name", ["signs", "two-sided", "pool"])
def test_exact_answer_beats_a_ridge_that_does_not_know_the_prior(name: str, generator: torch.Generator) -> None:
    """By more than 5 standard errors over 500 prompts: the exact answer could not fall behind by chance."""
    task = TASKS[name]
    prompt = task.sample(500, 8, generator, dtype=torch.float64)
    pairs = prompt.xs, prompt.ys
    exact, ridge = (each.predict(*pairs) for each in (task.bayes(), BayesLinear(0.3, task.label_std / task.dim**0.5)))
    gain = (squared_error(ridge, prompt.ys) - squared_error(exact, prompt.ys)).mean(1)
    assert gain.mean() > 5 * gain.std() / math.sqrt(500)


REFUSED = {
    "no dimension": (lambda: SignVector(0), "dim must be at least 1, not 0"),
    "noise": (lambda: SignVector(3, noise_std=-1.0), "noise_std must be finite and at least 0, not -1"),
    "eigenvalues": (lambda: SignVector(3, inputs=SKEWED), "covariance has 4 eigenvalues, but the task 3 dimensions"),
    "rank": (lambda: LowRank(3, rank=4), "rank must be between 1 and side = 3, not 4"),
    "posterior of low rank": (lambda: LowRank(3).bayes(), r"use the baselines NuclearNorm\(\)"),
    "no component": (lambda: GaussianMixtureRegression(1, (), (), ()), "one weight for each of the 0 means"),
    "weights": (lambda: GaussianMixtureRegression(1, ((0.0,),), ((1.0,),), (0.5,)), "sum to 1"),
    "variances": (lambda: GaussianMixtureRegression(1, ((0.0,),), ((0.0,),), (1.0,)), "variances must be above 0"),
    "means": (lambda: GaussianMixtureRegression(2, ((0.0,),), ((1.0, 1.0),), (1.0,)), "tuples of dim = 2"),
    "one tuple": (lambda: GaussianMixtureRegression(1, ((0.0,),), (), (1.0,)), "1 means, but 0 tuples of variances"),
    "pool": (lambda: TaskPool(3, tasks=0), "tasks must be at least 1, not 0"),
    "spread of a pool": (lambda: TaskPool(4, 2, inputs=SKEWED).label_std, "known for isotropic inputs only"),
}


@pytest.mark.parametrize(("make", "sentence"), REFUSED.values(), ids=REFUSED)
def test_impossible_laws_are_refused(make, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        make()
