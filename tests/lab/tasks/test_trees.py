"""Decision trees (Garg et al. 2022): the descent beside the plainest one, and the law of what is drawn.

Statistics are refused outside their central 1 − 1e-6, so that the file raises a false alarm less than once in 100,000
runs.
"""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from microtome.lab.tasks import Inputs, Spectrum
from microtome.lab.tasks.trees import DecisionTree, descend


def walked(x: list[float], coordinates: list[int], depth: int) -> int:
    """The leaf of one x: node i has the children 2i + 1, left, and 2i + 2."""
    node = 0
    for _ in range(depth):
        node = 2 * node + (2 if x[coordinates[node]] > 0 else 1)
    return node - len(coordinates)


@settings(max_examples=25)
@given(depth=st.integers(1, 6), dim=st.integers(1, 5), seed=st.integers(0, 2**31))
def test_descent_is_that_of_one_point_at_a_time(depth: int, dim: int, seed: int) -> None:
    task = DecisionTree(dim, depth)
    prompt = task.sample(3, 4, torch.Generator().manual_seed(seed))
    leaves = descend(prompt.xs, prompt.latents["coordinates"])
    for b in range(3):
        for i in range(4):
            leaf = walked(prompt.xs[b, i].tolist(), prompt.latents["coordinates"][b].tolist(), depth)
            assert leaves[b, i] == leaf
            assert prompt.ys[b, i] == prompt.latents["leaves"][b, leaf]


def test_zero_is_not_positive() -> None:
    xs = torch.tensor([[[0.0], [-0.0], [1e-30], [-1.0]]])
    assert descend(xs, torch.tensor([[0]])).tolist() == [[0, 0, 1, 0]]


def test_coordinates_and_leaves_have_their_laws(generator: torch.Generator) -> None:
    latents = DecisionTree(dim=6, depth=3).sample(3000, 1, generator, dtype=torch.float64).latents
    counts = torch.bincount(latents["coordinates"].flatten(), minlength=6)
    assert ((counts - 3500) ** 2 / 3500).sum() < chi2.ppf(1 - 1e-6, 5)
    assert chi2.ppf(5e-7, 24_000) <= latents["leaves"].square().sum() <= chi2.ppf(1 - 5e-7, 24_000)


def test_every_leaf_is_reached_alike_where_no_question_is_asked_twice(generator: torch.Generator) -> None:
    xs = torch.randn(1, 8000, 7, generator=generator)
    counts = torch.bincount(descend(xs, torch.arange(7)[None]).flatten(), minlength=8)
    assert ((counts - 1000) ** 2 / 1000).sum() < chi2.ppf(1 - 1e-6, 7)


@pytest.mark.parametrize("noise_std", [0.0, 0.5])
def test_label_std(noise_std: float, generator: torch.Generator) -> None:
    task = DecisionTree(4, noise_std=noise_std)
    labels = task.sample(10_000, 1, generator, dtype=torch.float64).ys
    # One leaf a prompt, N(0, 1): the labels are independent normal numbers.
    power = (labels / task.label_std).square().sum()
    assert chi2.ppf(5e-7, 10_000) <= power <= chi2.ppf(1 - 5e-7, 10_000)
    assert task.label_std == pytest.approx(math.sqrt(1 + noise_std**2))


REFUSED = {
    "no dimension": (lambda: DecisionTree(0), "dim must be at least 1, not 0"),
    "no test": (lambda: DecisionTree(3, depth=0), "depth must be between 1 and 16, not 0"),
    "too deep": (lambda: DecisionTree(3, depth=17), "depth must be between 1 and 16, not 17"),
    "noise": (lambda: DecisionTree(3, noise_std=math.inf), "noise_std must be finite"),
    "inputs": (lambda: DecisionTree(3, inputs=Inputs(Spectrum((1.0,)))), "1 eigenvalues, but the task 3 dimensions"),
    "posterior": (lambda: DecisionTree(3).bayes(), r"use the baselines Tree\(max_depth, signs\)"),
}


@pytest.mark.parametrize(("make", "sentence"), REFUSED.values(), ids=REFUSED)
def test_impossible_laws_are_refused(make, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        make()
