"""Softmax regression: the model, its derivatives, and one step of gradient descent as a predictor.

    f(x) = exp(Ax) / α(x),   α(x) = ⟨exp(Ax), 1ₙ⟩,   c = f − b,   L(x) = ½‖c‖²

A [token dim] is a document, x [dim] the weights, b [token] a target distribution. The normaliser α couples all tokens.
(Li et al. 2023, "The Closeness of In-Context Learning and Weight Shifting for Softmax Regression", slug
`icl_softmax_regression`; the formulae of the derivatives are theirs, with ½‖c‖² as here.) All of these functions are
differentiable and take any number of problems at once.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from scipy.optimize import minimize_scalar
from torch import Tensor

from microtome.lab.bayes.protocol import Prediction, checked, in_dtype

Document = Float[Tensor, "*batch token dim"]
Weights = Float[Tensor, "*batch dim"]
Distribution = Float[Tensor, "*batch token"]

RATES = (1e-1, 1e4)
"""Where a line search looks for η; the best one grows like the square of the number of pairs."""


def f(A: Document, x: Weights) -> Distribution:
    """exp(Ax)/α, with the largest entry of Ax taken off first, which changes nothing but the range."""
    return (A @ x[..., None]).squeeze(-1).softmax(-1)


def loss(A: Document, x: Weights, b: Distribution) -> Float[Tensor, "*batch"]:
    """L = ½‖f(x) − b‖²; not convex in x."""
    return (f(A, x) - b).square().sum(-1) / 2


def jacobian(A: Document, x: Weights) -> Document:
    """J = ∂f/∂x = (diag f − ffᵀ)A; its sum over tokens is zero."""
    return centred(f(A, x), A)


def gradient(A: Document, x: Weights, b: Distribution) -> Weights:
    """∇L = Jᵀc = Aᵀ(f⊙c − ⟨f, c⟩f)."""
    probabilities = f(A, x)
    residual = probabilities - b
    return (A.mT @ centred(probabilities, residual[..., None])).squeeze(-1)


def gauss_newton(A: Document, x: Weights) -> Float[Tensor, "*batch dim dim"]:
    """JᵀJ, the part of the Hessian that is never negative."""
    J = jacobian(A, x)
    return J.mT @ J


def hessian(A: Document, x: Weights, b: Distribution) -> Float[Tensor, "*batch dim dim"]:
    """JᵀJ + Σᵢ cᵢ∇²fᵢ, with ∇²fᵢ = fᵢ[(aᵢ − ā)(aᵢ − ā)ᵀ − Cov_f(a)] and ā = Aᵀf."""
    probabilities = f(A, x)
    around = A - probabilities[..., None, :] @ A
    residual = probabilities - b
    # Cov_f(a) is the sum of the fᵢ(aᵢ − ā)(aᵢ − ā)ᵀ, so that both terms are one sum with weights fᵢ(cᵢ − ⟨f, c⟩).
    weights = centred(probabilities, residual[..., None])
    return gauss_newton(A, x) + around.mT @ (weights * around)


def data_derivative(A: Document, x: Weights, change: Document) -> Distribution:
    """∂f/∂A along a change ΔA of the document: (diag f − ffᵀ)ΔA·x."""
    return centred(f(A, x), change @ x[..., None]).squeeze(-1)


def shifted_target(b: Distribution, before: Distribution, after: Distribution) -> Distribution:
    """b̃ = b − [f_after − f_before]: the target on which the old f has the residual that the new one has on b.

    Args:
        b: the target.
        before: f at the old weights, or at the old document.
        after: f at the new ones.
    """
    return b - (after - before)


def centred(
    probabilities: Distribution, columns: Float[Tensor, "*batch token column"]
) -> Float[Tensor, "*batch token column"]:
    """(diag f − ffᵀ) times every column, without the matrix."""
    return probabilities[..., None] * (columns - probabilities[..., None, :] @ columns)


@dataclass(frozen=True)
class SoftmaxStep:
    """One step of gradient descent on softmax regression from x = 0, on the pairs before a point.

    x₁ = −η∇L(0) with the pairs as the document; ŷ = exp(aᵀx₁)/Σⱼexp(aⱼᵀx₁), the sum over the pairs *and* the query a.

    Attributes:
        step_size: η, finite; below 0 it climbs.

    Raises:
        ValueError: if the step size is not finite.
    """

    step_size: float

    def __post_init__(self):
        if not math.isfinite(self.step_size):
            raise ValueError(f"step_size must be finite, not {self.step_size}.")

    @property
    def name(self) -> str:
        return f"softmax gd({self.step_size:g})"

    def predict(self, xs: Float[Tensor, "batch points dim"], ys: Float[Tensor, "batch points"]) -> Prediction:
        """See `Predictor.predict`; entry 0, a query alone, is 1."""
        inputs, labels = checked(xs, ys)
        entries = [self.query(inputs[:, : i + 1], labels[:, :i]) for i in range(inputs.shape[1])]
        return in_dtype(xs.dtype, torch.stack(entries, dim=1))

    def query(self, A: Document, b: Float[Tensor, "*batch pair"]) -> Float[Tensor, "*batch"]:
        """The prediction for the last token of a document, differentiable in it.

        Args:
            A: the context and the query, [*batch token dim].
            b: targets of the context, one fewer, [*batch pair].
        """
        context = A[..., :-1, :]
        x = -self.step_size * gradient(context, torch.zeros_like(A[..., 0, :]), b)
        return f(A, x)[..., -1]


def line_search(xs: Float[Tensor, "batch points dim"], ys: Float[Tensor, "batch points"]) -> float:
    """The η with the least squared error of `SoftmaxStep` at the last point of these prompts.

    A bounded scalar search (scipy) over log η, between 0.1 and 10⁴.

    Raises:
        ValueError: as `Predictor.predict`, and for prompts of one point, which leave nothing to learn from.
    """
    inputs, labels = checked(xs, ys)
    if inputs.shape[1] < 2:
        raise ValueError("a line search needs prompts of at least 2 points: a pair to learn from, and a query.")

    def error(log_rate: float) -> float:
        predicted = SoftmaxStep(math.exp(log_rate)).query(inputs, labels[:, :-1])
        return (predicted - labels[:, -1]).square().mean().item()

    low, high = (math.log(rate) for rate in RATES)
    return math.exp(minimize_scalar(error, bounds=(low, high), method="bounded").x)
