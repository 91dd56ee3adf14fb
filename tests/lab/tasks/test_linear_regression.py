"""The law of linear regression: every factor of it, from the latents.

Each χ² statistic below has an exactly known law and is refused outside its central 1 − 1e-6. The smallest has 10,000
degrees of freedom and may then stray by 7 %, so that a variance that is wrong by 10 % is seen.
"""

import math

import pytest
import torch
from scipy.stats import chi2
from torch import Tensor

from microtome.lab.tasks import Inputs, LinearRegression, Prompt, Spectrum

DIM = 5


def assert_standard_normal(values: Tensor) -> None:
    """Mean 0 and variance 1, by exact laws, if the values are independent; false-alarm rate below 3e-6."""
    n = values.numel()
    assert abs(values.sum().item()) / math.sqrt(n) < 4.9  # P(|Z| > 4.9) < 1e-6
    assert chi2.ppf(5e-7, n) <= values.square().sum().item() <= chi2.ppf(1 - 5e-7, n)


def noise(prompt: Prompt) -> Tensor:
    return prompt.ys - torch.einsum("bpd,bd->bp", prompt.xs, prompt.latents["w"])


def test_isotropic_law(generator: torch.Generator) -> None:
    prompt = LinearRegression(DIM, noise_std=0.4, prior_std=3.0).sample(2000, 12, generator, dtype=torch.float64)
    assert_standard_normal(prompt.xs)
    assert_standard_normal(prompt.latents["w"] / 3.0)
    assert_standard_normal(noise(prompt) / 0.4)
    assert set(prompt.latents) == {"w"}
    # Neighbouring draws, across coordinates, points and prompts, are uncorrelated: Σ x_i x_{i+1} has variance n.
    flat = prompt.xs.flatten()
    assert abs((flat[1:] * flat[:-1]).sum().item()) / math.sqrt(len(flat)) < 4.9


def test_without_noise_labels_are_exact(generator: torch.Generator) -> None:
    prompt = LinearRegression(DIM).sample(50, 12, generator, dtype=torch.float64)
    assert noise(prompt).abs().max() < 1e-13


@pytest.mark.parametrize("rotation", ["random", "fixed", "none"])
def test_skewed_law(rotation: str, generator: torch.Generator) -> None:
    spectrum = Spectrum.power_law(DIM, exponent=2.0, rotation=rotation, seed=4)
    assert sum(spectrum.eigenvalues) == pytest.approx(DIM)
    assert spectrum.eigenvalues[0] / spectrum.eigenvalues[3] == pytest.approx(16)
    prompt = LinearRegression(DIM, inputs=Inputs(spectrum)).sample(1000, 12, generator, dtype=torch.float64)
    axes = prompt.latents.get("axes", torch.eye(DIM, dtype=torch.float64).expand(1000, -1, -1))
    along = torch.einsum("bpd,bda->bpa", prompt.xs, axes)
    assert_standard_normal(along / torch.tensor(spectrum.eigenvalues).double().sqrt())
    if rotation == "none":
        assert "axes" not in prompt.latents
    else:
        torch.testing.assert_close(axes @ axes.mT, torch.eye(DIM).double().expand(1000, -1, -1))
        assert torch.equal(axes[0], axes[1]) == (rotation == "fixed")


def test_fixed_axes_are_decided_by_their_own_seed(generator: torch.Generator) -> None:
    def axes(seed: int) -> Tensor:
        task = LinearRegression(3, inputs=Inputs(Spectrum((1.0, 2.0, 3.0), "fixed", seed)))
        return task.sample(1, 1, generator).latents["axes"][0]

    assert torch.equal(axes(0), axes(0))
    assert not torch.equal(axes(0), axes(1))


def test_zero_eigenvalues_keep_coordinates_at_zero(generator: torch.Generator) -> None:
    task = LinearRegression(4, inputs=Inputs(Spectrum((1.0, 1.0, 0.0, 0.0), "none")))
    prompt = task.sample(6, 8, generator, dtype=torch.float64)
    assert (prompt.xs[..., 2:] == 0).all()
    assert (prompt.xs[..., :2] != 0).all()
    # Two pairs then tell all that matters.
    prediction = task.bayes().predict(prompt.xs, prompt.ys)
    torch.testing.assert_close(prediction.mean[:, 2:], prompt.ys[:, 2:], rtol=1e-9, atol=1e-9)
    assert (prediction.variance[:, 2:] == 0).all()


def test_scaled_inputs(generator: torch.Generator) -> None:
    prompt = LinearRegression(DIM, inputs=Inputs(scale=3.0)).sample(500, 12, generator, dtype=torch.float64)
    assert_standard_normal(prompt.xs / 3)


def test_orthogonal_query_tells_nothing(generator: torch.Generator) -> None:
    task = LinearRegression(DIM, inputs=Inputs(query="orthogonal"))
    prompt = task.sample(50, DIM, generator, dtype=torch.float64)
    assert (prompt.xs[:, :-1] @ prompt.xs[:, -1:].mT).abs().max() < 1e-13
    assert (prompt.xs[:, -1].norm(dim=-1) > 1e-6).all()
    assert task.bayes().predict(prompt.xs, prompt.ys).mean[:, -1].abs().max() < 1e-12
    with pytest.raises(ValueError, match=f"most {DIM} points"):
        task.sample(1, DIM + 1, generator)


def test_query_in_the_opposite_orthant(generator: torch.Generator) -> None:
    xs = LinearRegression(DIM, inputs=Inputs(query="orthant")).sample(50, 7, generator).xs
    assert (xs[:, :-1].sign() == xs[:, :1].sign()).all()
    assert (xs[:, -1].sign() == -xs[:, 0].sign()).all()


def test_sparse_law(generator: torch.Generator) -> None:
    s, batch = 2, 5000
    task = LinearRegression(DIM, prior_std=1.5, sparsity=s)
    prompt = task.sample(batch, 1, generator, dtype=torch.float64)
    support, w = prompt.latents["support"], prompt.latents["w"]
    assert (support.sum(1) == s).all()
    assert torch.equal(w != 0, support)
    assert_standard_normal(w[support] / 1.5)
    # All ten supports alike often: Pearson's statistic, nearly χ² with nine degrees for 500 expected in each cell.
    kinds, counts = support.unique(dim=0, return_counts=True)
    expected = batch / math.comb(DIM, s)
    assert len(kinds) == math.comb(DIM, s)
    assert ((counts - expected).square() / expected).sum() < chi2.ppf(1 - 1e-6, len(kinds) - 1)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: LinearRegression(0), "dim must be at least 1, not 0"),
        (lambda: LinearRegression(3, noise_std=-0.1), "noise_std must be finite and at least 0, not -0.1"),
        (lambda: LinearRegression(3, prior_std=0.0), "prior_std must be finite and above 0, not 0.0"),
        (lambda: LinearRegression(3, sparsity=4), "sparsity must be between 1 and dim = 3, or None, not 4"),
        (lambda: LinearRegression(3, inputs=Inputs("skewed")), "\"isotropic\" or a Spectrum, not 'skewed'"),
        (lambda: LinearRegression(3, inputs=Inputs(Spectrum((1.0, 2.0)))), "2 eigenvalues, but the task 3 dim"),
        (lambda: LinearRegression(3, inputs=Inputs(scale=0.0)), "scale must be finite and above 0, not 0.0"),
        (lambda: LinearRegression(3, inputs=Inputs(query="far")), "one of same, orthogonal, orthant, not 'far'"),
        (lambda: Spectrum((1.0, -1.0)), r"at least 0 and not all 0, not \[1.0, -1.0\]"),
        (lambda: Spectrum((0.0, 0.0)), "not all 0"),
        (lambda: Spectrum((1.0, 1.0), rotation="randon"), "one of random, fixed, none, not 'randon'"),
        (lambda: Spectrum.power_law(0), "dim must be at least 1, not 0"),
    ],
)
def test_impossible_laws_get_a_sentence(make, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        make()
