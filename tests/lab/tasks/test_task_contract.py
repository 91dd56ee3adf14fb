"""The contract of every task: what is drawn, from what, and that the exact answer is exact.

Statistical tests here have a false-alarm rate below 1e-6 each, so below 1e-4 together: a χ² statistic of exactly
known law is refused outside its central 1 − 1e-6, and a mean of independent prompts beyond 5 standard errors.
"""

import math

import pytest
import torch
from scipy.stats import chi2
from torch import Tensor

from microtome.lab import bayes
from microtome.lab.bayes import BayesLinear, Prediction, Predictor
from microtome.lab.tasks import Inputs, LinearRegression, Spectrum, Task

DIM, POINTS = 6, 18
FIXED = Spectrum.power_law(DIM, rotation="fixed")
TASKS = {
    "dense": LinearRegression(DIM, prior_std=1.5),
    "noisy": LinearRegression(DIM, noise_std=0.7, prior_std=1.5),
    "skewed, random axes": LinearRegression(DIM, noise_std=0.5, inputs=Inputs(Spectrum.power_law(DIM))),
    "skewed, fixed axes": LinearRegression(DIM, noise_std=0.5, inputs=Inputs(FIXED)),
    "sparse": LinearRegression(DIM, noise_std=0.5, prior_std=1.5, sparsity=2),
    "sparse without noise": LinearRegression(DIM, sparsity=2),
}
every_task = pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)


def central(statistic: float, dof: int) -> bool:
    """Whether a χ² statistic lies where it does but once in a million times."""
    return chi2.ppf(5e-7, dof) <= statistic <= chi2.ppf(1 - 5e-7, dof)


@every_task
@pytest.mark.parametrize(("batch", "points"), [(1, 1), (3, 1), (1, POINTS), (5, 4)])
def test_shapes_dtypes_and_device(task: Task, batch: int, points: int, generator: torch.Generator) -> None:
    for dtype in (torch.float32, torch.float64):
        prompt = task.sample(batch, points, generator, dtype=dtype, device="cpu")
        assert prompt.xs.shape == (batch, points, task.dim)
        assert prompt.ys.shape == (batch, points)
        assert prompt.xs.dtype == prompt.ys.dtype == dtype
        for latent in prompt.latents.values():
            assert latent.shape[0] == batch
            assert latent.dtype in (dtype, torch.bool)


@every_task
def test_generator_decides_everything(task: Task) -> None:
    def drawn(seed: int) -> Tensor:
        prompt = task.sample(4, 5, torch.Generator().manual_seed(seed))
        return torch.cat([prompt.xs.flatten(), prompt.ys.flatten(), *(t.flatten() for t in prompt.latents.values())])

    assert torch.equal(drawn(3), drawn(3))
    assert not torch.equal(drawn(3), drawn(4))


@every_task
def test_global_generator_is_left_alone(task: Task) -> None:
    before = torch.get_rng_state()
    task.bayes().predict(*_pairs(task.sample(4, 5, torch.Generator().manual_seed(0))))
    assert torch.equal(torch.get_rng_state(), before)


@every_task
def test_prompts_of_a_batch_differ(task: Task, generator: torch.Generator) -> None:
    prompt = task.sample(2, 5, generator)
    assert not torch.equal(prompt.xs[0], prompt.xs[1])
    assert not torch.equal(prompt.latents["w"][0], prompt.latents["w"][1])


@every_task
def test_exact_answer_is_calibrated(task: Task, generator: torch.Generator) -> None:
    """(y − mean)²/variance has mean 1; for a Gaussian law the sum is exactly χ², one degree for each label."""
    prompt = task.sample(2000, POINTS, generator, dtype=torch.float64)
    prediction = task.bayes().predict(*_pairs(prompt))
    # Once w is known without noise nothing is left to standardise. The variance knows nothing of y_i (nor, in the
    # Gaussian law, of the labels before), so that to choose by it does not bend the statistic.
    open_ = prediction.variance > 1e-9
    standard = ((prompt.ys - prediction.mean)[open_]).square() / prediction.variance[open_]
    if isinstance(task.bayes(), BayesLinear):
        assert central(standard.sum().item(), standard.numel())
    else:
        assert abs(standard.mean() - 1) < 5 * standard.std() / math.sqrt(standard.numel())
    known = (prompt.ys - prediction.mean)[~open_]
    assert known.numel() == 0 or known.abs().max() < 6 * 1e-9**0.5


def test_calibration_test_sees_a_wrong_law(generator: torch.Generator) -> None:
    task = TASKS["noisy"]
    prompt = task.sample(2000, POINTS, generator, dtype=torch.float64)
    for wrong in (BayesLinear(0.75, 1.5), BayesLinear(0.7, 2.0)):
        prediction = wrong.predict(*_pairs(prompt))
        standard = (prompt.ys - prediction.mean).square() / prediction.variance
        assert not central(standard.sum().item(), standard.numel())


def gap(prediction: Prediction, than: Prediction, ys: Tensor) -> float:
    """By how many standard errors the first has more squared error, prompt by prompt; 0 if they are the same."""
    more = (bayes.squared_error(prediction, ys) - bayes.squared_error(than, ys)).mean(1)
    if more.abs().max() < 1e-9:
        return 0.0
    return (more.mean() / (more.std() / math.sqrt(len(more)))).item()


@every_task
def test_exact_answer_has_the_least_risk_of_all(task: LinearRegression, generator: torch.Generator) -> None:
    prompt = task.sample(2000, POINTS, generator, dtype=torch.float64)
    exact = task.bayes().predict(*_pairs(prompt))
    gaps = {
        other.name: gap(other.predict(*_pairs(prompt)), exact, prompt.ys)
        for other in bayes.listed(DIM, task.noise_std, task.prior_std)
    }
    assert {name: value for name, value in gaps.items() if value < -5} == {}
    # The sample is large enough to see what is worse.
    assert gaps["averaging"] > 5
    assert gaps["3-nn"] > 5


def test_least_risk_test_sees_an_answer_that_is_not_exact(generator: torch.Generator) -> None:
    task = TASKS["noisy"]
    prompt = task.sample(2000, POINTS, generator, dtype=torch.float64)
    not_exact: Predictor = bayes.Ridge(4 * task.bayes().ridge)
    assert gap(task.bayes().predict(*_pairs(prompt)), not_exact.predict(*_pairs(prompt)), prompt.ys) < -5


@pytest.mark.usefixtures("untyped")
@every_task
def test_bad_calls_get_a_sentence(task: Task, generator: torch.Generator) -> None:
    with pytest.raises(ValueError, match="batch must be at least 1, not 0"):
        task.sample(0, 5, generator)
    with pytest.raises(ValueError, match="points must be at least 1, not 0"):
        task.sample(5, 0, generator)
    with pytest.raises(TypeError, match=r"generator must be a torch\.Generator, not int"):
        task.sample(5, 5, 0)
    with pytest.raises(TypeError, match=r"dtype must be floating-point, not torch\.int64"):
        task.sample(5, 5, generator, dtype=torch.long)


def _pairs(prompt) -> tuple[Tensor, Tensor]:
    return prompt.xs, prompt.ys
