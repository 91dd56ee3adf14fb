"""Baselines that are fitted anew for every prefix: convex programs, trees and networks, and how many pairs they need.

Statistical tests are refused beyond 4.5 standard errors (7e-6 each) or, for counts, where a stated tail is below 1e-6.
"""

import math
import sys

import numpy as np
import pytest
import torch
from scipy.stats import binom
from torch import Tensor

from microtome.lab.bayes import OLS, LinearPredictor, Predictor, squared_error
from microtome.lab.bayes.nonlinear import Boosting, Tree, TwoLayerNetwork
from microtome.lab.bayes.optimised import Lasso, MinimumInfinityNorm, NuclearNorm
from microtome.lab.bayes.recovery import low_rank_points, sign_points, sparse_points
from microtome.lab.bayes.refitted import Refitted, RefittedLinear
from microtome.lab.tasks import LinearRegression
from microtome.lab.tasks.networks import ReLUNetwork
from microtome.lab.tasks.priors import LowRank, SignVector
from microtome.lab.tasks.trees import DecisionTree

PREDICTORS = {
    "lasso": Lasso(0.01),
    "infinity": MinimumInfinityNorm(),
    "nuclear": NuclearNorm(),
    "tree": Tree(),
    "tree on signs": Tree(2, signs=True),
    "network": TwoLayerNetwork(hidden=8, steps=20),
}
every_predictor = pytest.mark.parametrize("predictor", PREDICTORS.values(), ids=PREDICTORS)
DIM, POINTS = 4, 7


def prompts(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Labels without noise, so that some weights agree with them."""
    prompt = LinearRegression(DIM).sample(3, POINTS, generator, dtype=torch.float64)
    return prompt.xs, prompt.ys


@every_predictor
def test_is_a_predictor_that_begins_at_zero(predictor: Refitted, generator: torch.Generator) -> None:
    xs, ys = prompts(generator)
    assert isinstance(predictor, Predictor)
    assert isinstance(predictor, LinearPredictor) == isinstance(predictor, RefittedLinear)
    prediction = predictor.predict(xs, ys)
    assert prediction.variance is None
    assert prediction.mean.shape == (3, POINTS)
    assert (prediction.mean[:, 0] == 0).all()
    assert torch.isfinite(prediction.mean).all()
    assert predictor.predict(xs[:, :1], ys[:, :1]).mean.tolist() == [[0.0]] * 3


@every_predictor
def test_single_context_lengths_are_entries_of_all(predictor: Refitted, generator: torch.Generator) -> None:
    xs, ys = prompts(generator)
    whole = predictor.predict(xs, ys).mean
    torch.testing.assert_close(predictor.at(xs, ys, (5, 0, 2)), whole[:, [5, 0, 2]], rtol=1e-9, atol=1e-9)
    cut = predictor.at(xs[:, :3], ys[:, :3], (2,))
    torch.testing.assert_close(cut, whole[:, [2]], rtol=1e-9, atol=1e-9)


@every_predictor
def test_entry_reads_pairs_before_it_only(predictor: Refitted, generator: torch.Generator) -> None:
    xs, ys = prompts(generator)
    whole = predictor.predict(xs, ys).mean
    changed_xs, changed_ys = xs.clone(), ys.clone()
    changed_xs[:, 3:] = -xs[:, 3:]
    changed_ys[:, 2:] += 7.0
    # Pairs 2 and on now agree with no weights, so that only entries up to 2 can be asked for.
    torch.testing.assert_close(predictor.at(changed_xs, changed_ys, (0, 1, 2)), whole[:, :3], rtol=1e-9, atol=1e-9)
    moved = ys.clone()
    moved[:, 0] *= 3.0
    assert (predictor.at(xs, moved, (1,)) != whole[:, [1]]).all()


@every_predictor
def test_prompts_do_not_see_each_other(predictor: Refitted, generator: torch.Generator) -> None:
    xs, ys = prompts(generator)
    together = predictor.at(xs, ys, (3, 6))
    for b in range(3):
        alone = predictor.at(xs[b : b + 1], ys[b : b + 1], (3, 6))
        torch.testing.assert_close(alone, together[b : b + 1], rtol=1e-9, atol=1e-9)


@every_predictor
def test_dtype_is_kept_and_answers_carry_no_gradient(predictor: Refitted, generator: torch.Generator) -> None:
    xs, ys = prompts(generator)
    single = predictor.at(xs.float().requires_grad_(), ys.float(), (2,))
    assert single.dtype == torch.float32
    assert not single.requires_grad
    assert not predictor.predict(xs[:, :3].clone().requires_grad_(), ys[:, :3]).mean.requires_grad


@pytest.mark.parametrize("predictor", [p for p in PREDICTORS.values() if isinstance(p, RefittedLinear)])
def test_mean_is_weights_times_input(predictor: RefittedLinear, generator: torch.Generator) -> None:
    xs, ys = prompts(generator)
    mean = (predictor.weights(xs, ys) * xs).sum(-1)
    torch.testing.assert_close(predictor.predict(xs, ys).mean, mean, rtol=1e-9, atol=1e-9)


@pytest.mark.usefixtures("untyped")
@every_predictor
def test_bad_calls_get_a_sentence(predictor: Refitted, generator: torch.Generator) -> None:
    xs, ys = prompts(generator)
    for contexts in ((), (POINTS,), (-1, 2)):
        with pytest.raises(ValueError, match="contexts must be between 0 and 6, at least one, not"):
            predictor.at(xs, ys, contexts)
    with pytest.raises(ValueError, match="ys must be finite, but prompt 0"):
        predictor.predict(xs, ys * torch.nan)
    with pytest.raises(ValueError, match=r"\[batch points dim\]"):
        predictor.at(xs, ys[:, :2], (1,))


REFUSED = {
    "no penalty": (lambda: Lasso(0.0), r"alpha must be finite and above 0, not 0.0; without a penalty use OLS\(\)"),
    "no iteration": (lambda: NuclearNorm(0), "steps must be at least 1, not 0"),
    "depth": (lambda: Tree(0), "max_depth must be at least 1, or None, not 0"),
    "trees": (lambda: Boosting(trees=0), "trees and max_depth must be at least 1, not 0 and 4"),
    "shrinkage": (lambda: Boosting(step_size=0.0), "step_size must be finite and above 0, not 0.0"),
    "hidden": (lambda: TwoLayerNetwork(hidden=0), "hidden and steps must be at least 1, not 0 and 1000"),
    "step size": (lambda: TwoLayerNetwork(step_size=-1.0), "step_size must be finite and above 0, not -1"),
    "no square": (lambda: NuclearNorm().predict(torch.ones(1, 2, 3), torch.ones(1, 2)), "3 is no square number"),
    "pairs that disagree": (
        lambda: MinimumInfinityNorm().predict(torch.ones(1, 3, 4), torch.tensor([[1.0, 2.0, 3.0]])),
        "no weights agree with 2 pairs in 4 dimensions",
    ),
    "sparse bound": (lambda: sparse_points(3, 4), "sparsity must be between 1 and dim = 3, not 4"),
    "sign bound": (lambda: sign_points(0), "dim must be at least 1, not 0"),
    "rank bound": (lambda: low_rank_points(3, 0), "rank must be between 1 and side = 3, not 0"),
}


@pytest.mark.parametrize(("make", "sentence"), REFUSED.values(), ids=REFUSED)
def test_what_is_impossible_is_refused(make, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        make()


def test_recovery_bounds_are_the_published_ones() -> None:
    assert sparse_points(20, 3) == 15
    assert sign_points(20) == 10
    assert low_rank_points(10, 1) == 57
    assert low_rank_points(10, 2) == 108


def test_lasso_meets_its_optimality_conditions(generator: torch.Generator) -> None:
    """Xᵀ(y − Xw)/k is α·sign(w) where w is not 0, and at most α in size where it is."""
    alpha = 0.3
    prompt = LinearRegression(6, noise_std=0.5).sample(5, 10, generator, dtype=torch.float64)
    w = Lasso(alpha).weights(prompt.xs, prompt.ys)[:, -1]
    x, y = prompt.xs[:, :-1], prompt.ys[:, :-1]
    slope = torch.einsum("bpd,bp->bd", x, y - torch.einsum("bpd,bd->bp", x, w)) / 9
    assert (w == 0).any()
    assert (w != 0).any()
    torch.testing.assert_close(slope[w != 0], alpha * w[w != 0].sign(), rtol=0, atol=1e-3)
    assert slope.abs().max() < alpha + 1e-3


def test_least_infinity_norm_of_one_pair_is_that_of_the_dual_norm(generator: torch.Generator) -> None:
    """min ‖w‖_∞ subject to xᵀw = y is w = y·sign(x)/‖x‖₁."""
    prompt = LinearRegression(5).sample(8, 2, generator, dtype=torch.float64)
    x, y = prompt.xs[:, 0], prompt.ys[:, :1]
    expected = y * x.sign() / x.abs().sum(1, keepdim=True)
    torch.testing.assert_close(MinimumInfinityNorm().weights(prompt.xs, prompt.ys)[:, 1], expected)


def test_least_infinity_norm_interpolates_and_is_least(generator: torch.Generator) -> None:
    prompt = LinearRegression(6).sample(10, 4, generator, dtype=torch.float64)
    w = MinimumInfinityNorm().weights(prompt.xs, prompt.ys)[:, -1]
    x, y = prompt.xs[:, :3], prompt.ys[:, :3]
    torch.testing.assert_close(torch.einsum("bpd,bd->bp", x, w), y, rtol=1e-7, atol=1e-7)
    away = torch.randn(10, 200, 6, generator=generator, dtype=torch.float64)
    away = away - away @ x.mT @ torch.linalg.pinv(x).mT  # in the null space of X
    for step in (0.01, 0.1, 1.0):
        assert ((w[:, None] + step * away).abs().amax(-1) >= w.abs().amax(-1, keepdim=True) - 1e-9).all()


def test_from_d_pairs_on_the_programs_are_least_squares(generator: torch.Generator) -> None:
    prompt = LinearRegression(4, noise_std=0.3).sample(5, 9, generator, dtype=torch.float64)
    for program in (MinimumInfinityNorm(), NuclearNorm()):
        found, expected = (each.at(*_pairs(prompt), (4, 8)) for each in (program, _At(OLS())))
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


def test_signs_are_found_past_half_the_dimensions(generator: torch.Generator) -> None:
    """Recovery passes from rare to usual at d/2 pairs: with 100 prompts each side is told from ½ below 1e-6."""
    prompt = SignVector(20).sample(100, 18, generator, dtype=torch.float64)
    error = (MinimumInfinityNorm().at(*_pairs(prompt), (5, 17)) - prompt.ys[:, [5, 17]]).abs()
    found = (error < 1e-6).sum(0)
    assert found[0] < binom.ppf(1e-6, 100, 0.5)
    assert found[1] > binom.ppf(1 - 1e-6, 100, 0.5)


def test_least_nuclear_norm_of_one_pair_is_that_of_the_dual_norm(generator: torch.Generator) -> None:
    """min ‖W‖_* subject to ⟨X, W⟩ = y is W = y·uvᵀ/σ₁ with the first singular vectors of X."""
    prompt = LowRank(side=4).sample(6, 2, generator, dtype=torch.float64)
    u, values, v = torch.linalg.svd(prompt.xs[:, 0].unflatten(-1, (4, 4)))
    expected = prompt.ys[:, :1, None] * u[:, :, :1] @ v[:, :1] / values[:, :1, None]
    found = NuclearNorm().weights(prompt.xs, prompt.ys)[:, 1].unflatten(-1, (4, 4))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_least_nuclear_norm_finds_rank_one_at_the_bound(generator: torch.Generator) -> None:
    """3r(2m − r) = 33 pairs for 6 × 6 would be nearly all 36; m = 8 has 45 of 64. Twenty prompts, all found."""
    task = LowRank(side=8)
    bound = low_rank_points(8, 1)
    prompt = task.sample(20, bound + 1, generator, dtype=torch.float64)
    few = NuclearNorm().at(*_pairs(prompt), (8, bound))
    error = (few - prompt.ys[:, [8, bound]]).abs() / prompt.latents["w"].norm(dim=1, keepdim=True)
    assert error[:, 1].max() < 1e-3
    assert error[:, 0].median() > 1e-2
    least_squares = (_At(OLS()).at(*_pairs(prompt), (bound,)) - prompt.ys[:, [bound]]).abs()
    assert least_squares.median() > 1e-1


def test_least_nuclear_norm_interpolates_even_where_it_is_stopped(generator: torch.Generator) -> None:
    prompt = LowRank(side=3).sample(4, 6, generator, dtype=torch.float64)
    w = NuclearNorm(steps=3).weights(prompt.xs, prompt.ys)[:, 5]
    agreed = torch.einsum("bpd,bd->bp", prompt.xs[:, :5], w)
    torch.testing.assert_close(agreed, prompt.ys[:, :5], rtol=1e-8, atol=1e-8)
    assert (NuclearNorm().predict(prompt.xs, torch.zeros_like(prompt.ys)).mean == 0).all()


def test_lasso_beats_least_squares_on_sparse_weights_at_the_bound(generator: torch.Generator) -> None:
    """By more than 5 standard errors: the gain is near half its standard deviation, so that 300 prompts give eight."""
    prompt = LinearRegression(20, sparsity=3).sample(300, 16, generator, dtype=torch.float64)
    worse = (_At(OLS()).at(*_pairs(prompt), (15,)) - prompt.ys[:, 15:]).square()
    better = (Lasso(0.01).at(*_pairs(prompt), (15,)) - prompt.ys[:, 15:]).square()
    gain = (worse - better)[:, 0]
    assert gain.mean() > 5 * gain.std() / math.sqrt(300)
    assert better.mean() < 0.1 * worse.mean()


PUBLISHED_PROMPTS = 1280  # of the paper's evaluation


def agrees(squared: Tensor, published: float) -> bool:
    """Whether a mean squared error is the published one, which has a sampling error like ours."""
    std = squared.std().item() * math.sqrt(1 / len(squared) + 1 / PUBLISHED_PROMPTS)
    return abs(squared.mean().item() - published) < 4.5 * std


def test_published_errors_of_dense_regression(generator: torch.Generator) -> None:
    """20.0 without pairs, which is E y², and 10.2 with ten, where least squares leaves d − k = 10 (Panwar et al.)."""
    prompt = LinearRegression(20).sample(PUBLISHED_PROMPTS, 11, generator, dtype=torch.float64)
    error = squared_error(OLS().predict(*_pairs(prompt)), prompt.ys)
    assert agrees(error[:, 0], 20.0)
    assert agrees(error[:, 10], 10.2)
    assert not agrees(error[:, 5], 10.2)


def test_published_error_of_the_least_infinity_norm(generator: torch.Generator) -> None:
    """6.40 with ten pairs of sign-vector regression in 20 dimensions (Panwar et al.); least squares is told from it."""
    prompt = SignVector(20).sample(PUBLISHED_PROMPTS, 11, generator, dtype=torch.float64)
    error = (MinimumInfinityNorm().at(*_pairs(prompt), (10,)) - prompt.ys[:, 10:]).square()[:, 0]
    assert agrees(error, 6.40)
    assert not agrees(squared_error(OLS().predict(*_pairs(prompt)), prompt.ys)[:, 10], 6.40)


def test_tree_remembers_what_it_saw_and_splits_greedily(generator: torch.Generator) -> None:
    xs, ys = prompts(generator)
    xs[:, 5] = xs[:, 2]
    torch.testing.assert_close(Tree().at(xs, ys, (5,))[:, 0], ys[:, 2])
    xs = torch.tensor([[[-2.0], [-1.0], [1.0], [2.0], [3.0]]])
    ys = torch.tensor([[0.0, 1.0, 10.0, 11.0, 0.0]])
    assert Tree(1).at(xs, ys, (4,)).tolist() == [[10.5]]


def test_tree_on_signs_finds_a_tree_better(generator: torch.Generator) -> None:
    """By more than 5 standard errors: the gain is near 0.3 standard deviations, so that 600 prompts give seven."""
    prompt = DecisionTree(6).sample(600, 81, generator, dtype=torch.float64)
    plain, signs = ((tree.at(*_pairs(prompt), (80,)) - prompt.ys[:, 80:]).square() for tree in (Tree(), Tree(4, True)))
    gain = (plain - signs)[:, 0]
    assert gain.mean() > 5 * gain.std() / math.sqrt(600)


def test_network_learns_the_pairs_and_more_than_a_line(generator: torch.Generator) -> None:
    """More than least squares explains of 60 network functions, by 4.5 standard errors; and what it saw it knows."""
    prompt = ReLUNetwork(4).sample(60, 61, generator, dtype=torch.float64)
    xs, ys = prompt.xs.clone(), prompt.ys
    learner = TwoLayerNetwork(hidden=40, steps=300, step_size=0.02)
    error = (learner.at(xs, ys, (60,)) - ys[:, 60:]).square()[:, 0]
    line = (_At(OLS()).at(xs, ys, (60,)) - ys[:, 60:]).square()[:, 0]
    gain = line - error
    assert gain.mean() > 4.5 * gain.std() / math.sqrt(60)
    xs[:, 60] = xs[:, 7]
    again = (learner.at(xs, ys, (60,))[:, 0] - ys[:, 7]).square()
    assert again.mean() < 0.05 * ys[:, 7].square().mean()


def test_seed_decides_the_network(generator: torch.Generator) -> None:
    xs, ys = prompts(generator)
    first, again, other = (TwoLayerNetwork(8, 20, seed=seed).at(xs, ys, (3,)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_global_generators_are_left_alone(generator: torch.Generator) -> None:
    xs, ys = prompts(generator)
    before = np.random.get_state()[1].copy()
    for predictor in PREDICTORS.values():
        predictor.at(xs, ys, (3,))
    assert (np.random.get_state()[1] == before).all()


def test_boosting_without_its_library_says_what_to_install(monkeypatch, generator: torch.Generator) -> None:
    monkeypatch.setitem(sys.modules, "xgboost", None)
    with pytest.raises(ImportError, match="boosted trees need XGBoost, which is not installed: pip install xgboost"):
        Boosting().at(*prompts(generator), (3,))


def test_boosting_beats_the_mean_on_trees(generator: torch.Generator) -> None:
    """By more than 5 standard errors: the gain is near half its standard deviation, so that 250 prompts give seven."""
    pytest.importorskip("xgboost")
    prompt = DecisionTree(4).sample(250, 81, generator, dtype=torch.float64)
    error = (Boosting().at(*_pairs(prompt), (80,)) - prompt.ys[:, 80:]).square()[:, 0]
    gain = prompt.ys[:, 80].square() - error
    assert gain.mean() > 5 * gain.std() / math.sqrt(250)


class _At:
    """Context lengths of a predictor that answers all of them at once."""

    def __init__(self, predictor: Predictor):
        self.predictor = predictor

    def at(self, xs: Tensor, ys: Tensor, contexts: tuple[int, ...]) -> Tensor:
        return self.predictor.predict(xs, ys).mean[:, list(contexts)]


def _pairs(prompt) -> tuple[Tensor, Tensor]:
    return prompt.xs, prompt.ys
