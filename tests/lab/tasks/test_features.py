"""Functions linear in features (Panwar, Ahuja & Goyal 2024, icl_bayesian_prism, its Checks among these tests).

A mean of independent draws is refused beyond 4.9 standard errors and a χ² statistic outside its central 1 − 1e-6; there
are about 30 of these, so that the file raises a false alarm less than once in 10,000 runs.
"""

import math
from dataclasses import replace

import pytest
import torch
from scipy.stats import chi2, kstest
from torch import Tensor

from microtome.lab.bayes import BayesLinear
from microtome.lab.bayes.features import BayesFeatures
from microtome.lab.tasks import Inputs, Spectrum
from microtome.lab.tasks.expansion import Chosen, Expansion
from microtome.lab.tasks.families import Subsets
from microtome.lab.tasks.features import Fourier, Haar, Monomials
from microtome.lab.train.curriculum import over_coordinates, over_frequencies
from microtome.lab.train.objective import InContextRegression

TASKS = {
    "monomials": Monomials(5, Subsets(4), noise_std=0.2),
    "monomials of 3 sets": Monomials(5, Subsets(4, count=3), noise_std=0.2),
    "monomials held out": Monomials(5, Subsets(4, count=3, held_out=True), noise_std=0.2),
    "monomials of any set": Monomials(5, Subsets(4, count=None), noise_std=0.2),
    "fourier": Fourier(4, noise_std=0.2),
    "fourier upto": Fourier(4, law="upto", noise_std=0.2),
    "fourier from": Fourier(4, law="from", noise_std=0.2),
    "fourier of 3 sets": Fourier(6, subsets=Subsets(2, count=3), noise_std=0.2),
    "fourier of any set": Fourier(6, subsets=Subsets(2, count=None), noise_std=0.2),
    "haar": Haar(2, noise_std=0.2),
}
LISTED = [name for name in TASKS if "held out" not in name and "any set" not in name]
every_task = pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)


def close(values: Tensor, mean: float) -> bool:
    """Whether the mean of independent values is within 4.9 standard errors."""
    return abs(values.double().mean().item() - mean) < 4.9 * values.double().std().item() / math.sqrt(len(values))


@every_task
def test_labels_are_linear_in_the_features(task: Expansion, generator: torch.Generator) -> None:
    prompt = task.sample(1000, 12, generator, dtype=torch.float64)
    noise = prompt.ys - torch.einsum("bpf,bf->bp", task.features(prompt.xs), prompt.latents["w"])
    assert chi2.ppf(5e-7, 12_000) <= (noise / 0.2).square().sum() <= chi2.ppf(1 - 5e-7, 12_000)


@every_task
def test_weights_are_normal_on_the_features_in_use(task: Expansion, generator: torch.Generator) -> None:
    latents = task.sample(4000, 1, generator, dtype=torch.float64).latents
    w, active = latents["w"], latents["active"]
    assert (w[~active] == 0).all()
    terms = (active[:, 1 : task.frequencies + 1] if isinstance(task, Fourier) else active).sum(1)
    standard = (w * terms.sqrt()[:, None])[active]
    assert chi2.ppf(5e-7, len(standard)) <= standard.square().sum() <= chi2.ppf(1 - 5e-7, len(standard))


@every_task
def test_label_std_is_that_of_labels(task: Expansion, generator: torch.Generator) -> None:
    """Labels of prompts of one point are independent, but for a rest: a fixed set of few is not the average one."""
    labels = task.sample(20_000, 1, generator, dtype=torch.float64).ys[:, 0]
    assert close(labels.square(), task.label_std**2)


@pytest.mark.parametrize("frequencies", [1, 3, 10])
def test_fourier_labels_have_variance_of_n_plus_one_over_n(frequencies: int, generator: torch.Generator) -> None:
    task = Fourier(frequencies)
    assert task.label_std**2 == pytest.approx((frequencies + 1) / frequencies)
    assert close(task.sample(20_000, 1, generator, dtype=torch.float64).ys[:, 0].square(), task.label_std**2)


def test_monomials_with_squares_exceed_unit_variance(generator: torch.Generator) -> None:
    """Of the seed's set exactly (|S| + 2·squares)/|S|; the set of all products has d squares among d(d + 1)/2."""
    task = Monomials(4, Subsets(10))  # all ten products, four of them squares
    assert task.label_std**2 == pytest.approx(1.8)
    labels = task.sample(20_000, 1, generator, dtype=torch.float64).ys[:, 0]
    assert close(labels.square(), 1.8)
    assert labels.square().mean() > 1.5
    without = next(seed for seed in range(100) if Monomials(4, Subsets(3, seed=seed)).label_std == 1)
    assert close(Monomials(4, Subsets(3, seed=without)).sample(20_000, 1, generator).ys[:, 0].square(), 1.0)


@pytest.mark.parametrize("n", range(1, 11))
def test_transform_of_a_pure_cosine_peaks_at_its_frequency(n: int) -> None:
    task = Fourier(10, half_period=5.0)
    grid = torch.arange(40, dtype=torch.float64) / 40 * 10 - 5
    cosine = task.features(grid[None, :, None])[0, :, n]
    power = torch.fft.rfft(cosine).abs().square()
    assert power.argmax() == n
    assert power[n] / power.sum() == pytest.approx(1.0)


def test_fourier_features_are_the_series() -> None:
    xs = torch.tensor([[[-2.0], [0.5], [4.9]]], dtype=torch.float64)
    feats = Fourier(2, half_period=5.0).features(xs)
    for i, x in enumerate(xs.flatten().tolist()):
        angle = math.pi * x / 5
        expected = [1, math.cos(angle), math.cos(2 * angle), math.sin(angle), math.sin(2 * angle)]
        assert feats[0, i].tolist() == pytest.approx(expected, abs=1e-12)


def test_fourier_inputs_are_uniform(generator: torch.Generator) -> None:
    xs = Fourier(2, half_period=3.0).sample(1000, 10, generator, dtype=torch.float64).xs
    assert kstest(xs.flatten().numpy(), "uniform", (-3, 6)).pvalue > 1e-6


@pytest.mark.parametrize(("law", "lowest"), [("upto", True), ("from", False)])
def test_frequencies_of_a_mixture_are_a_run_of_uniform_length(law: str, lowest: bool, generator) -> None:
    used = Fourier(5, law=law).sample(5000, 1, generator).latents["active"]
    assert not used[:, 0].any()  # no constant
    assert torch.equal(used[:, 1:6], used[:, 6:])
    run = used[:, 1:6] if lowest else used[:, 1:6].flip(1)
    assert (run[:, :-1] >= run[:, 1:]).all()
    counts = torch.bincount(run.sum(1), minlength=6)[1:]
    assert ((counts - 1000) ** 2 / 1000).sum() < chi2.ppf(1 - 1e-6, 4)


def test_monomial_features_are_the_products() -> None:
    task = Monomials(3, Subsets(2))
    xs = torch.tensor([[[2.0, 3.0, 5.0]]])
    assert task.features(xs).tolist() == [[[4.0, 6.0, 10.0, 9.0, 15.0, 25.0]]]
    assert [xs[0, 0, i] * xs[0, 0, j] for i, j in task.products] == task.features(xs)[0, 0].tolist()


def test_published_monomials_have_the_published_numbers() -> None:
    assert len(Monomials().products) == 210
    assert int(Monomials().families.active.sum()) == 20
    assert len(Monomials(10, Subsets(10)).products) == 55


@pytest.mark.parametrize("levels", [0, 1, 3])
def test_haar_features_are_orthonormal_and_have_constant_power(levels: int) -> None:
    """On the midpoints of the finest pieces, where the basis is an orthogonal matrix."""
    count = 2 ** (levels + 1)
    grid = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    feats = Haar(levels).features(grid[None, :, None])[0]
    torch.testing.assert_close(feats.T @ feats / count, torch.eye(count, dtype=torch.float64))
    torch.testing.assert_close(feats.square().sum(1), torch.full((count,), float(count), dtype=torch.float64))


def test_haar_is_the_textbooks() -> None:
    feats = Haar(1).features(torch.tensor([[[0.0], [0.2], [0.3], [0.6], [0.99]]], dtype=torch.float64))[0]
    root = math.sqrt(2)
    assert feats[:, 1].tolist() == [1, 1, 1, -1, -1]
    assert feats[:, 2].tolist() == pytest.approx([root, root, -root, 0, 0])
    assert feats[:, 3].tolist() == pytest.approx([0, 0, 0, root, -root])


def test_listed_subsets_are_fixed_different_and_equally_likely(generator: torch.Generator) -> None:
    law = Subsets(3, count=6, seed=2)
    listed = law.listed(8)
    assert torch.equal(listed, Subsets(3, count=6, seed=2).listed(8))
    assert not torch.equal(listed, Subsets(3, count=6, seed=3).listed(8))
    assert (listed.sum(1) == 3).all()
    assert len(listed.unique(dim=0)) == 6
    drawn = Monomials(8, Subsets(2, count=4)).sample(4000, 1, generator).latents["active"]
    sets, counts = drawn.unique(dim=0, return_counts=True)
    assert len(sets) == 4
    assert ((counts - 1000) ** 2 / 1000).sum() < chi2.ppf(1 - 1e-6, 3)


def test_all_subsets_can_be_listed() -> None:
    assert len(Subsets(2, count=10).listed(5).unique(dim=0)) == 10


def test_held_out_subsets_are_uniform_on_the_others(generator: torch.Generator) -> None:
    task = Fourier(5, subsets=Subsets(2, count=5, held_out=True))
    used = task.sample(5000, 1, generator).latents["active"][:, 1:6]
    sets, counts = used.unique(dim=0, return_counts=True)
    listed = task.subsets.listed(5)
    assert len(sets) == 5
    assert not any(torch.equal(each, kept) for each in sets for kept in listed)
    assert ((counts - 1000) ** 2 / 1000).sum() < chi2.ppf(1 - 1e-6, 4)


@pytest.mark.parametrize("name", LISTED)
def test_exact_answer_is_a_mixture_of_ridges_on_features(name: str, generator: torch.Generator) -> None:
    """Against brute force: every family's Gaussian evidence of the pairs before, and its ridge."""
    task = TASKS[name]
    prompt = task.sample(3, 7, generator, dtype=torch.float64)
    feats = task.features(prompt.xs)
    expected = torch.zeros_like(prompt.ys)
    for b in range(3):
        for k in range(7):
            evidence, means = [], []
            for active, std in zip(task.families.active, task.families.std, strict=True):
                phi = feats[b, : k + 1, active] * std
                gram = phi @ phi.T + 0.04 * torch.eye(k + 1, dtype=torch.float64)
                law = torch.distributions.MultivariateNormal(torch.zeros(k, dtype=torch.float64), gram[:k, :k])
                evidence.append(law.log_prob(prompt.ys[b, :k]) if k else torch.zeros((), dtype=torch.float64))
                means.append(gram[k, :k] @ torch.linalg.solve(gram[:k, :k], prompt.ys[b, :k]))
            expected[b, k] = torch.stack(evidence).softmax(0) @ torch.stack(means)
    found = task.bayes().predict(prompt.xs, prompt.ys).mean
    # The mixture adds its jitter of 1e-4 to the labels' σ = 0.2 where components are weighed.
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_one_family_is_one_ridge() -> None:
    task = Monomials(4, Subsets(3))
    exact = task.bayes()
    assert isinstance(exact, BayesFeatures)
    assert isinstance(exact.features, Chosen)
    assert exact.prior_std == pytest.approx(3**-0.5)
    assert len(exact.features.places) == 3
    prompt = task.sample(4, 6, torch.Generator().manual_seed(0), dtype=torch.float64)
    ridge = BayesLinear(0.0, 3**-0.5).predict(exact.features(prompt.xs), prompt.ys)
    torch.testing.assert_close(exact.predict(prompt.xs, prompt.ys).mean, ridge.mean)


def test_curriculum_over_frequencies_keeps_labels_near_unit_variance(generator: torch.Generator) -> None:
    """1 → 10 frequencies, 7 → 43 points, the division by √N going along (Panwar et al. 2024)."""
    objective = InContextRegression(Fourier(10), batch=5000, points=43, curriculum=over_frequencies())
    for step, frequencies, points in ((0, 1, 7), (2000, 2, 11), (18_000, 10, 43), (50_000, 10, 43)):
        batch = objective.batch(step, generator)
        xs, ys = batch.inputs
        assert xs.shape == (5000, points, 1)
        assert close(ys[:, 0].square(), (frequencies + 1) / frequencies)


def test_published_curriculum_over_coordinates() -> None:
    curriculum = over_coordinates(20)
    assert [(curriculum.dims.at(step), curriculum.points.at(step)) for step in (0, 1999, 2000, 30_000, 10**6)] == [
        (5, 11),
        (5, 11),
        (6, 13),
        (20, 41),
        (20, 41),
    ]


SKEWED = Inputs(Spectrum((1.0, 2.0)))
REFUSED = {
    "set too large": (lambda: Monomials(2, Subsets(4)), "size must be at most the 3 terms there are, not 4"),
    "too many sets": (lambda: Monomials(2, Subsets(2, count=4)), "3 subsets of 2 of 3 terms, of which at most 3"),
    "too many held out": (lambda: Monomials(2, Subsets(2, 2, held_out=True)), "at most 1 can be held out, not 2"),
    "nothing to hold out": (lambda: Subsets(2, count=None, held_out=True), "held_out needs a count"),
    "no term": (lambda: Subsets(0), "size must be at least 1, not 0"),
    "no set": (lambda: Subsets(1, count=0), "count must be at least 1, not 0"),
    "frequencies": (lambda: Fourier(0), "frequencies must be at least 1, not 0"),
    "period": (lambda: Fourier(half_period=0.0), "half_period must be finite and above 0, not 0.0"),
    "law": (lambda: Fourier(law="below"), "law must be one of all, upto, from, not 'below'"),
    "two laws": (lambda: Fourier(law="upto", subsets=Subsets(2)), 'law must be "all" with them'),
    "subset of frequencies": (lambda: Fourier(3, subsets=Subsets(4)), "at most the 3 terms"),
    "levels": (lambda: Haar(-1), "levels must be between 0 and 10, not -1"),
    "noise": (lambda: Haar(noise_std=-1.0), "noise_std must be finite and at least 0"),
    "spread of skewed": (lambda: Monomials(2, Subsets(2), inputs=SKEWED).label_std, "isotropic inputs only"),
    "posterior of any set": (lambda: TASKS["fourier of any set"].bayes(), r"use the best .* prior_std=0\.4385\)"),
    "posterior of many sets": (lambda: Monomials(20, Subsets(20, 513)).bayes(), "only up to 512 listed families"),
}


@pytest.mark.parametrize(("make", "sentence"), REFUSED.values(), ids=REFUSED)
def test_impossible_laws_are_refused(make, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        make()


def test_best_linear_predictor_of_the_refusal_beats_zero(generator: torch.Generator) -> None:
    """What the refusal names in the place of an exact answer is worth something: 5 standard errors on 500 prompts."""
    task = replace(TASKS["fourier of any set"], noise_std=0.0)
    prompt = task.sample(500, 20, generator, dtype=torch.float64)
    said = BayesFeatures(task.features, 0.0, 0.4385).predict(prompt.xs, prompt.ys)
    gain = prompt.ys[:, -1].square() - (said.mean - prompt.ys)[:, -1].square()
    assert gain.mean() > 5 * gain.std() / math.sqrt(500)
