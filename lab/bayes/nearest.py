"""Which known algorithm a predictor of linear functions follows: the nearest by what it says, or by its weights.

The distances are those of Akyürek et al. 2023 ("What learning algorithm is in-context learning?", slug
`icl_linear_algorithms`, sections 4.1 to 4.4): squared prediction difference and implicit linear weight difference, both
over the context lengths 1 ≤ k < d, where linear regression is underdetermined and algorithms part.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from microtome.lab.bayes.classical import KNN, GradientDescent
from microtome.lab.bayes.linear import OLS, BayesLinear, Ridge
from microtome.lab.bayes.measures import implicit_weights, mspd
from microtome.lab.bayes.protocol import Predictor, checked

Vectors = Float[Tensor, "batch points dim"]
Scalars = Float[Tensor, "batch points"]

FAMILIES = ("gradient descent", "k-NN", "ridge", "least squares", "Bayes")
LAMBDAS = (1 / 16, 1 / 4, 1.0, 4.0)


@dataclass(frozen=True)
class Algorithm:
    """A candidate.

    Attributes:
        family: one of `FAMILIES`.
        detail: what tells it from others of the family, or "".
        predictor: what it predicts.
    """

    family: str
    detail: str
    predictor: Predictor

    @property
    def label(self) -> str:
        return f"{self.family} {self.detail}".strip()


@dataclass(frozen=True)
class Comparison:
    """How far a predictor lies from each candidate.

    Attributes:
        algorithms: the candidates, of different labels.
        predictions: mean squared prediction difference / d to each, over k = 1 … d − 1.
        weights: mean implicit linear weight difference / d to each, over the same k.
    """

    algorithms: tuple[Algorithm, ...]
    predictions: dict[str, float]
    weights: dict[str, float]

    @property
    def nearest(self) -> Algorithm:
        """The nearest by predictions; of equally near ones the first."""
        return min(self.algorithms, key=lambda algorithm: self.predictions[algorithm.label])

    @property
    def nearest_by_weights(self) -> Algorithm:
        """The nearest by implicit weights; of equally near ones the first."""
        return min(self.algorithms, key=lambda algorithm: self.weights[algorithm.label])


def best_step(xs: Vectors, ys: Scalars) -> float:
    """The α with which one gradient step, w = 2αXᵀy, predicts the labels best in squared error over all k ≥ 1.

    The prediction is α·g with g = 2 x_iᵀ Σ_{j<i} x_j y_j, so that α = Σ g y / Σ g².

    Raises:
        ValueError: if these are no prompts, or no α > 0 is better than none.
    """
    inputs, labels = checked(xs, ys)
    moments = (inputs * labels[..., None]).cumsum(1)[:, :-1]
    slopes = 2 * (moments * inputs[:, 1:]).sum(-1)
    energy = slopes.square().sum().item()
    step = (slopes * labels[:, 1:]).sum().item() / energy if energy > 0 else 0.0
    if step <= 0:
        raise ValueError("no gradient step helps on these prompts; the labels do not follow from x, or hold one pair.")
    return step


def algorithms(
    xs: Vectors, ys: Scalars, noise_std: float, prior_std: float = 1.0, lambdas: tuple[float, ...] = LAMBDAS
) -> tuple[Algorithm, ...]:
    """The paper's candidates for a law: one tuned gradient step, 3-NN, ridge, least squares and Bayes.

    Bayes is ridge with λ = σ²/τ², and least squares without noise; it stands for them, so that no two candidates are
    the same predictor.

    Args:
        xs: inputs of prompts of the law, [batch points dim]; the gradient step is tuned on their first 1 … d − 1 pairs.
        ys: their labels, [batch points].
        noise_std: σ ≥ 0 of the law.
        prior_std: τ > 0 of the law.
        lambdas: penalties of the ridges, above 0.

    Raises:
        ValueError: as `best_step`, and if σ, τ or a penalty is out of range.
    """
    own = (noise_std / prior_std) ** 2
    bayes = Algorithm("Bayes", "", BayesLinear(noise_std, prior_std))
    ridges = [Algorithm("ridge", f"λ={lam:g}", Ridge(lam)) for lam in lambdas if not math.isclose(lam, own)]
    dim = xs.shape[-1]
    step = best_step(xs[:, :dim], ys[:, :dim])
    return (
        Algorithm("gradient descent", f"α={step:.3g}", GradientDescent(1, step)),
        Algorithm("k-NN", "k=3", KNN(3)),
        Algorithm("k-NN", "k=3, 1/distance²", KNN(3, "inverse_square")),
        *ridges,
        *([Algorithm("least squares", "", OLS())] if noise_std > 0 else []),
        bayes,
    )


def compare(
    predictor: Predictor,
    among: tuple[Algorithm, ...],
    xs: Vectors,
    ys: Scalars,
    queries: Float[Tensor, "contexts queries dim"],
) -> Comparison:
    """How far a predictor lies from each candidate on the same prompts.

    Args:
        predictor: a trained learner, written weights or any other.
        among: candidates, at least one, of different labels.
        xs: inputs of prompts of the law, [batch points dim] with points ≥ dim ≥ 2.
        ys: their labels, [batch points].
        queries: where implicit weights are read, at least `dim` a context; the first prompts are the contexts.

    Raises:
        ValueError: if there is no candidate, two have one label, or prompts or queries have another shape.
    """
    labels = [algorithm.label for algorithm in among]
    if not labels or len(set(labels)) < len(labels):
        raise ValueError(f"candidates must be at least one, of different labels, not {labels}.")
    if len(queries) > len(xs):
        raise ValueError(f"queries are for the first contexts: at most the {len(xs)} prompts, not {len(queries)}.")
    said, dim = predictor.predict(xs, ys), xs.shape[-1]
    predictions = {a.label: mspd(said, a.predictor.predict(xs, ys), dim).item() for a in among}
    context = xs[: len(queries), : dim - 1], ys[: len(queries), : dim - 1]
    own = _weights(predictor, *context, queries)
    weights = {
        a.label: ((own - _weights(a.predictor, *context, queries)).square().sum(-1).mean() / dim).item() for a in among
    }
    return Comparison(among, predictions, weights)


def _weights(predictor: Predictor, xs: Tensor, ys: Tensor, queries: Tensor) -> Float[Tensor, "length contexts dim"]:
    """Implicit weights after each number of pairs from 1 to all."""
    lengths = range(1, xs.shape[1] + 1)
    return torch.stack([implicit_weights(predictor, xs[:, :k], ys[:, :k], queries) for k in lengths])
