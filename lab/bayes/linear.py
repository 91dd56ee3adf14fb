"""Exact posterior of linear regression with a Gaussian prior, ridge and least squares, for every prefix at once.

y = wᵀx + N(0, σ²), w ~ N(0, τ²I): the posterior mean is ridge with λ = σ²/τ² whatever the law of x, and minimum-norm
least squares in the limit σ → 0 (Akyürek et al. 2023, icl_linear_algorithms; Garg et al. 2022).
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Normal

from microtome.lab.bayes import givens, gram
from microtome.lab.bayes.blocks import over_prompts
from microtome.lab.bayes.law import gaussian
from microtome.lab.bayes.protocol import Prediction, checked, in_dtype

Vectors = Float[Tensor, "batch points dim"]
Scalars = Float[Tensor, "batch points"]

# Least λ/‖x‖² of the Gram route: there its relative error was measured as 2e-10 (41 points, 20 dimensions),
# and it grows as 1/λ; the orthogonal route is at 1e-14 for every λ, but several times slower.
GRAM_FLOOR = 1e-6
GIVENS_ENTRIES = 2**22  # its kernels are short and many, so that it wants wider blocks than the others


@dataclass(frozen=True)
class Posterior:
    """What the pairs before each point say.

    Attributes:
        weights: posterior mean of w, [batch points dim].
        prediction: mean and variance of y.
    """

    weights: Vectors
    prediction: Prediction


@dataclass(frozen=True)
class BayesLinear:
    """The posterior predictive of dense linear regression, exact for every σ ≥ 0.

    For σ = 0 the mean is the minimum-norm interpolant X⁺y and the variance τ²‖(I − X⁺X)x‖².

    Attributes:
        noise_std: σ ≥ 0, standard deviation of the label noise.
        prior_std: τ > 0, standard deviation of each weight.
    """

    noise_std: float = 0.0
    prior_std: float = 1.0

    def __post_init__(self):
        check_law(self.noise_std, self.prior_std)

    @property
    def name(self) -> str:
        return "bayes"

    @property
    def ridge(self) -> float:
        """λ = σ²/τ²."""
        return (self.noise_std / self.prior_std) ** 2

    def predict(self, xs: Vectors, ys: Scalars) -> Prediction:
        """See `Predictor.predict`."""
        mean, spread = _predict(xs, ys, self.ridge)
        return in_dtype(xs.dtype, mean, self._variance(spread))

    def law(self, xs: Vectors, ys: Scalars) -> Normal:
        """See `Probabilistic.law`."""
        return gaussian(self.predict(xs.double(), ys.double()))

    def weights(self, xs: Vectors, ys: Scalars) -> Vectors:
        """Posterior mean of w given the pairs before each point."""
        return _fit(xs, ys, self.ridge)[0].to(xs.dtype)

    def posterior(self, xs: Vectors, ys: Scalars) -> Posterior:
        """Weights and prediction from one factorisation.

        Raises:
            ValueError: as `predict`.
        """
        weights, spread = _fit(xs, ys, self.ridge)
        mean = (weights * xs.detach()).sum(-1)
        return Posterior(weights.to(xs.dtype), in_dtype(xs.dtype, mean, self._variance(spread)))

    def _variance(self, spread: Tensor) -> Tensor:
        return self.prior_std**2 * (spread + self.ridge)


@dataclass(frozen=True)
class Ridge:
    """(XᵀX + λI)⁻¹Xᵀy.

    Attributes:
        lam: λ ≥ 0; zero is minimum-norm least squares.
    """

    lam: float

    def __post_init__(self):
        if not 0 <= self.lam < math.inf:
            raise ValueError(f"lam must be finite and at least 0, not {self.lam}.")

    @property
    def name(self) -> str:
        return f"ridge({self.lam:g})"

    def predict(self, xs: Vectors, ys: Scalars) -> Prediction:
        """See `Predictor.predict`; a ridge has no law, so no variance."""
        return in_dtype(xs.dtype, _predict(xs, ys, self.lam)[0])

    def weights(self, xs: Vectors, ys: Scalars) -> Vectors:
        """Ridge weights of the pairs before each point."""
        return _fit(xs, ys, self.lam)[0].to(xs.dtype)


@dataclass(frozen=True)
class OLS:
    """Least squares; X⁺y, the one of minimum norm, where the pairs leave w open."""

    @property
    def name(self) -> str:
        return "ols"

    def predict(self, xs: Vectors, ys: Scalars) -> Prediction:
        """See `Predictor.predict`."""
        return in_dtype(xs.dtype, _predict(xs, ys, 0.0)[0])

    def weights(self, xs: Vectors, ys: Scalars) -> Vectors:
        """Minimum-norm least-squares weights of the pairs before each point."""
        return _fit(xs, ys, 0.0)[0].to(xs.dtype)


def sherman_morrison(xs: Vectors, ys: Scalars, ridge: float) -> Vectors:
    """Ridge weights of every prefix by rank-one updates of (XᵀX + λI)⁻¹, beginning from I/λ.

    The recursion that a transformer can be built to run (Akyürek et al. 2023, icl_linear_algorithms, theorem 2), and a
    second route to `Ridge.weights`; it squares the condition number, so that it loses digits for small λ.

    Raises:
        ValueError: if λ is not positive and finite, or the prompts are not as `Predictor.predict` wants them.
    """
    if not 0 < ridge < math.inf:
        raise ValueError(f"ridge must be positive and finite, not {ridge}: the recursion begins from I/ridge.")
    inputs, labels = checked(xs, ys)
    batch, _, dim = inputs.shape
    inverse = torch.eye(dim, dtype=inputs.dtype, device=inputs.device).div(ridge).repeat(batch, 1, 1)
    moment = inputs.new_zeros(batch, dim, 1)
    weights = []
    for x, y in zip(inputs[..., None].unbind(1), labels[..., None, None].unbind(1), strict=True):
        weights.append((inverse @ moment).squeeze(-1))
        u = inverse @ x
        inverse = inverse - u @ u.mT / (1 + x.mT @ u)
        moment = moment + x * y
    return torch.stack(weights, dim=1).to(xs.dtype)


def check_law(noise_std: float, prior_std: float) -> None:
    """Raises ValueError unless σ ≥ 0 and τ > 0, both finite."""
    if not 0 <= noise_std < math.inf:
        raise ValueError(f"noise_std must be finite and at least 0, not {noise_std}.")
    if not 0 < prior_std < math.inf:
        raise ValueError(f"prior_std must be finite and above 0, not {prior_std}.")


def _predict(xs: Tensor, ys: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
    """Mean [batch points] and spread [batch points] in float64."""
    inputs, labels = checked(xs, ys)
    if _gram_is_accurate(inputs, ridge):
        return over_prompts(lambda x, y: gram.predict(x, y, ridge), inputs, labels, entries=inputs.shape[1] ** 2)
    weights, spread = _orthogonal_fit(inputs, labels, ridge, torch.finfo(xs.dtype).eps)
    return (weights * inputs).sum(-1), spread


def _fit(xs: Tensor, ys: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
    """Weights [batch points dim] and spread [batch points] in float64."""
    inputs, labels = checked(xs, ys)
    if _gram_is_accurate(inputs, ridge):
        return over_prompts(lambda x, y: gram.fit(x, y, ridge), inputs, labels, entries=inputs.shape[1] ** 2)
    return _orthogonal_fit(inputs, labels, ridge, torch.finfo(xs.dtype).eps)


def _gram_is_accurate(xs: Tensor, ridge: float) -> bool:
    """Whether the fast route serves the whole batch; where both serve they agree, so the batch does not matter."""
    return ridge > GRAM_FLOOR * float(torch.linalg.vecdot(xs, xs).max())


def _orthogonal_fit(xs: Tensor, ys: Tensor, ridge: float, eps: float) -> tuple[Tensor, Tensor]:
    _, points, dim = xs.shape
    entries = min(points, dim) * (dim + 1)
    return over_prompts(lambda x, y: givens.prefixes(x, y, ridge, eps), xs, ys, entries, GIVENS_ENTRIES)
