"""Mixtures of classes, one class a prompt (Panwar, Ahuja & Goyal 2024, icl_bayesian_prism).

A mean of independent draws is refused beyond 4.9 standard errors and a χ² statistic outside its central 1 − 1e-6, so
that the file raises a false alarm less than once in 10,000 runs.
"""

import math
from functools import partial

import pytest
import torch
from scipy.stats import chi2
from torch import Tensor

from microtome.lab.bayes import BayesLinear, SpikeAndSlab
from microtome.lab.bayes.rescaled import Prefixed, Rescaled
from microtome.lab.tasks import Inputs, LinearRegression, Spectrum
from microtome.lab.tasks.features import Fourier, Monomials
from microtome.lab.tasks.mixtures import Mixture
from microtome.lab.tasks.networks import ReLUNetwork
from microtome.lab.tasks.priors import SignVector, TaskPool
from microtome.lab.tasks.trees import DecisionTree
from microtome.lab.train.curriculum import Curriculum, Ramp
from microtome.lab.train.objective import InContextRegression

DENSE, SPARSE, SIGNS = LinearRegression(6), LinearRegression(6, sparsity=2), SignVector(6)
THREE = Mixture((DENSE, SPARSE, SIGNS), (0.5, 0.3, 0.2))


def close(values: Tensor, mean: float) -> bool:
    """Whether the mean of independent values is within 4.9 standard errors."""
    return abs(values.double().mean().item() - mean) < 4.9 * values.double().std().item() / math.sqrt(len(values))


def test_every_prompt_draws_its_own_component(generator: torch.Generator) -> None:
    component = THREE.sample(6000, 1, generator).latents["component"]
    expected = torch.tensor([3000.0, 1800.0, 1200.0])
    assert ((torch.bincount(component) - expected) ** 2 / expected).sum() < chi2.ppf(1 - 1e-6, 2)
    # One class a batch, as the paper's code has it, would make neighbours equal: Σ of equal neighbours is binomial.
    assert close((component[1::2] == component[::2]).double(), 0.5**2 + 0.3**2 + 0.2**2)


def test_prompts_are_those_of_their_component(generator: torch.Generator) -> None:
    prompt = THREE.sample(600, 8, generator, dtype=torch.float64)
    w, component = prompt.latents["w"], prompt.latents["component"]
    scale = torch.tensor(THREE.scales, dtype=torch.float64)[component]
    assert THREE.scales == pytest.approx((math.sqrt(6), math.sqrt(2), math.sqrt(6)))
    torch.testing.assert_close(prompt.ys * scale[:, None], torch.einsum("bpd,bd->bp", prompt.xs, w))
    assert ((w[component == 1] != 0).sum(1) == 2).all()
    assert (w[component == 2].abs() == 1).all()
    assert (w[component == 0].abs() != 1).all()


@pytest.mark.parametrize(
    "tasks",
    [
        (DENSE, SPARSE, SIGNS),
        (DENSE, DecisionTree(6), ReLUNetwork(6)),
        (LinearRegression(6, noise_std=2.0), TaskPool(6, 3), Monomials(6)),
    ],
    ids=["linear", "trees and networks", "noise, pool, monomials"],
)
def test_normalised_labels_have_unit_variance_in_each_component(tasks, generator: torch.Generator) -> None:
    mixture = Mixture(tasks, (0.4, 0.3, 0.3))
    prompt = mixture.sample(20_000, 1, generator, dtype=torch.float64)
    assert mixture.label_std == pytest.approx(1.0)
    for index in range(3):
        assert close(prompt.ys[prompt.latents["component"] == index, 0].square(), 1.0)


def test_labels_that_are_not_normalised_keep_their_scale(generator: torch.Generator) -> None:
    mixture = Mixture((DENSE, SPARSE), (0.5, 0.5), normalise=False)
    assert mixture.label_std == pytest.approx(2.0)
    assert close(mixture.sample(20_000, 1, generator, dtype=torch.float64).ys[:, 0].square(), 4.0)


def test_inputs_whose_labels_have_no_known_spread_can_be_mixed_as_they_are(generator: torch.Generator) -> None:
    tasks = tuple(each(6, inputs=Inputs(Spectrum.power_law(6))) for each in (partial(TaskPool, tasks=3), SignVector))
    assert Mixture(tasks, (0.5, 0.5), normalise=False).sample(4, 5, generator).xs.shape == (4, 5, 6)
    with pytest.raises(ValueError, match="known for isotropic inputs only"):
        Mixture(tasks, (0.5, 0.5)).sample(4, 5, generator)


def test_a_mixture_of_one_is_its_component() -> None:
    alone = Mixture((DENSE,), (1.0,), normalise=False).sample(500, 9, torch.Generator().manual_seed(1))
    torch.testing.assert_close(alone.ys, torch.einsum("bpd,bd->bp", alone.xs, alone.latents["w"]))
    assert not alone.latents["component"].any()


def test_latents_are_those_that_all_components_share(generator: torch.Generator) -> None:
    """Also when a small batch happens to have one component only: the names must not depend on the draw."""
    mixture = Mixture((DENSE, DecisionTree(6)), (0.5, 0.5))
    for _ in range(20):
        assert set(mixture.sample(1, 3, generator).latents) == {"component"}
    assert set(THREE.sample(1, 3, generator).latents) == {"component", "w"}


def test_mixtures_can_be_mixed(generator: torch.Generator) -> None:
    inner = Mixture((SPARSE, SIGNS), (0.5, 0.5))
    outer = Mixture((DENSE, inner), (0.5, 0.5))
    assert outer.label_std == pytest.approx(1.0)
    assert close(outer.sample(20_000, 1, generator, dtype=torch.float64).ys[:, 0].square(), 1.0)


def test_exact_answer_weighs_components_by_their_evidence(generator: torch.Generator) -> None:
    """Two Gaussian priors of different width: brute force over the pairs before."""
    tasks = (LinearRegression(3, noise_std=0.5), LinearRegression(3, noise_std=0.5, prior_std=3.0))
    mixture = Mixture(tasks, (0.3, 0.7), normalise=False)
    prompt = mixture.sample(3, 6, generator, dtype=torch.float64)
    expected = torch.zeros_like(prompt.ys)
    for b in range(3):
        for k in range(6):
            x, y = prompt.xs[b], prompt.ys[b]
            scores, means = [], []
            for weight, task in zip(mixture.weights, tasks, strict=True):
                gram = task.prior_std**2 * x @ x.T + 0.25 * torch.eye(6, dtype=torch.float64)
                law = torch.distributions.MultivariateNormal(torch.zeros(k, dtype=torch.float64), gram[:k, :k])
                scores.append(math.log(weight) + (law.log_prob(y[:k]).item() if k else 0.0))
                means.append(gram[k, :k] @ torch.linalg.solve(gram[:k, :k], y[:k]))
            beta = torch.tensor(scores, dtype=torch.float64).softmax(0)
            expected[b, k] = beta @ torch.stack(means)
    found = mixture.bayes().predict(prompt.xs, prompt.ys).mean
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_exact_answer_of_normalised_labels_is_that_of_scaled_weights(generator: torch.Generator) -> None:
    mixture = Mixture((LinearRegression(4, noise_std=1.0), LinearRegression(4, noise_std=1.0, sparsity=1)), (0.5, 0.5))
    prompt = mixture.sample(5, 7, generator, dtype=torch.float64)
    dense, sparse = (part.predict(prompt.xs, prompt.ys) for part in mixture.bayes().components)
    a, b = mixture.scales
    torch.testing.assert_close(dense.mean, BayesLinear(1 / a, 1 / a).predict(prompt.xs, prompt.ys).mean)
    expected = SpikeAndSlab(4, 1, 1 / b, 1 / b).predict(prompt.xs, prompt.ys)
    torch.testing.assert_close(sparse.mean, expected.mean)
    torch.testing.assert_close(sparse.variance, expected.variance)


def test_law_in_another_unit_is_that_law(generator: torch.Generator) -> None:
    prompt = LinearRegression(3, noise_std=0.5).sample(4, 5, generator, dtype=torch.float64)
    found = Rescaled(BayesLinear(1.0, 2.0), 0.5).law(prompt.xs, prompt.ys)
    expected = BayesLinear(0.5, 1.0).law(prompt.xs, prompt.ys)
    torch.testing.assert_close(found.log_prob(prompt.ys), expected.log_prob(prompt.ys))


def test_prefix_names_the_component(generator: torch.Generator) -> None:
    mixture = Mixture((DENSE, SIGNS), (0.5, 0.5), prefix=True)
    prompt = mixture.sample(200, 5, generator, dtype=torch.float64)
    assert prompt.xs.shape == (200, 5, 6)
    assert (prompt.ys[:, 0] == 0).all()
    assert torch.equal(prompt.xs[:, 0], torch.nn.functional.one_hot(prompt.latents["component"], 6).double())
    w = prompt.latents["w"] / math.sqrt(6)
    torch.testing.assert_close(prompt.ys[:, 1:], torch.einsum("bpd,bd->bp", prompt.xs[:, 1:], w))


def test_exact_answer_under_a_prefix_is_the_components_own(generator: torch.Generator) -> None:
    mixture = Mixture((DENSE, SIGNS), (0.5, 0.5), prefix=True)
    prompt = mixture.sample(20, 5, generator, dtype=torch.float64)
    said = mixture.bayes().predict(prompt.xs, prompt.ys).mean
    assert (said[:, 0] == 0).all()
    for index, task in enumerate(mixture.tasks):
        rows = prompt.latents["component"] == index
        own = task.bayes().predict(prompt.xs[rows, 1:], prompt.ys[rows, 1:] * math.sqrt(6)).mean / math.sqrt(6)
        torch.testing.assert_close(said[rows, 1:], own)
    with pytest.raises(ValueError, match="first point of every prompt must name one of 2 classes"):
        Prefixed((BayesLinear(), BayesLinear())).predict(prompt.xs.flip(1), prompt.ys.flip(1))


def test_curriculum_narrows_every_component(generator: torch.Generator) -> None:
    curriculum = Curriculum(Ramp(3, 6, 1, 10), Ramp(4, 9, 1, 10))
    xs, ys = InContextRegression(THREE, 5000, 9, curriculum).batch(0, generator).inputs
    assert xs.shape == (5000, 4, 6)
    assert not xs[..., 3:].any()
    assert close(ys[:, 0].square(), 1.0)


REFUSED = {
    "no component": (lambda: Mixture((), ()), ValueError, "one weight for each of the 0 tasks, at least one"),
    "weights": (lambda: Mixture((DENSE, SIGNS), (0.5, 0.6)), ValueError, "weights must be above 0 and sum to 1"),
    "one weight": (lambda: Mixture((DENSE, SIGNS), (1.0,)), ValueError, "each of the 2 tasks, at least one, not 1"),
    "dimensions": (lambda: Mixture((DENSE, SignVector(5)), (0.5, 0.5)), ValueError, "same dim and the same inputs"),
    "inputs": (
        lambda: Mixture((DENSE, SignVector(6, inputs=Inputs(scale=2.0))), (0.5, 0.5)),
        ValueError,
        "same dim and the same inputs",
    ),
    "series": (lambda: Mixture((Fourier(),), (1.0,)), TypeError, "Gaussian inputs and a label_std, not Fourier"),
    "prefix within": (
        lambda: Mixture((Mixture((DENSE, SIGNS), (0.5, 0.5), prefix=True), DENSE), (0.5, 0.5)),
        ValueError,
        "a mixture with a prefix cannot be a component",
    ),
    "prefix": (
        lambda: Mixture((LinearRegression(1), SignVector(1)), (0.5, 0.5), prefix=True),
        ValueError,
        "names at most 1 tasks, not 2",
    ),
    "posterior": (lambda: Mixture((DENSE, DecisionTree(6)), (0.5, 0.5)).bayes(), ValueError, "too many for an exact"),
    "unit": (lambda: Rescaled(BayesLinear(), 0.0), ValueError, "factor must be finite and above 0, not 0.0"),
}


@pytest.mark.parametrize(("make", "kind", "sentence"), REFUSED.values(), ids=REFUSED)
def test_impossible_laws_are_refused(make, kind: type, sentence: str) -> None:
    with pytest.raises(kind, match=sentence):
        make()


def test_prefix_alone_is_no_prompt(generator: torch.Generator) -> None:
    with pytest.raises(ValueError, match="prompts with a prefix have at least 2 points"):
        Mixture((DENSE, SIGNS), (0.5, 0.5), prefix=True).sample(3, 1, generator)
