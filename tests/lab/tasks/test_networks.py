"""Random ReLU networks (Garg et al. 2022): the labels beside the plainest forward pass, and their variance.

Statistics are refused beyond 4.9 standard errors (1e-6 each), so that the file raises a false alarm less than once in
100,000 runs.
"""

import math

import pytest
import torch
from scipy.stats import chi2

from microtome.lab.tasks import Inputs, Spectrum
from microtome.lab.tasks.networks import ReLUNetwork


def test_labels_are_those_of_the_network(generator: torch.Generator) -> None:
    prompt = ReLUNetwork(3, hidden=4).sample(2, 5, generator, dtype=torch.float64)
    for b in range(2):
        w_in, w_out = prompt.latents["W_in"][b], prompt.latents["W_out"][b]
        for i in range(5):
            neurons = [max(0.0, float(w_in[:, j] @ prompt.xs[b, i])) for j in range(4)]
            expected = math.sqrt(2 / 4) * sum(a * n for a, n in zip(w_out.tolist(), neurons, strict=True))
            assert prompt.ys[b, i].item() == pytest.approx(expected, rel=1e-12)


def test_weights_are_standard_normal(generator: torch.Generator) -> None:
    latents = ReLUNetwork(5, hidden=20).sample(300, 1, generator, dtype=torch.float64).latents
    for name, count in (("W_in", 30_000), ("W_out", 6_000)):
        assert chi2.ppf(5e-7, count) <= latents[name].square().sum() <= chi2.ppf(1 - 5e-7, count)


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_label_variance_is_that_of_a_linear_function(scale: float, generator: torch.Generator) -> None:
    task = ReLUNetwork(8, hidden=10, noise_std=0.5, inputs=Inputs(scale=scale))
    assert task.label_std == pytest.approx(math.sqrt(8 * scale**2 + 0.25))
    squares = task.sample(20_000, 1, generator, dtype=torch.float64).ys.square()
    assert abs(squares.mean() - task.label_std**2) < 4.9 * squares.std() / math.sqrt(20_000)


REFUSED = {
    "no dimension": (lambda: ReLUNetwork(0), "dim must be at least 1, not 0"),
    "no neuron": (lambda: ReLUNetwork(3, hidden=0), "hidden must be at least 1, not 0"),
    "noise": (lambda: ReLUNetwork(3, noise_std=-1.0), "noise_std must be finite"),
    "inputs": (lambda: ReLUNetwork(3, inputs=Inputs(Spectrum((1.0,)))), "1 eigenvalues, but the task 3 dimensions"),
    "posterior": (lambda: ReLUNetwork(3).bayes(), r"use the baselines TwoLayerNetwork\(\)"),
}


@pytest.mark.parametrize(("make", "sentence"), REFUSED.values(), ids=REFUSED)
def test_impossible_laws_are_refused(make, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        make()
