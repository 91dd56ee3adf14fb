"""Exact Gaussian-process regression for every prefix of a prompt, from one Cholesky factor each.

f ~ GP(0, κ), y = f(x) + N(0, σ²). With K + σ²I = LLᵀ and e = L⁻¹y, rows of L before i are the factor of the pairs
before i, so that ŷ_i = Σ_{j<i} L_ij e_j and its variance is L_ii², noise included (as `gram` does for linear kernels).

Whatever the law of f, a GP with its covariance gives the best predictor that is affine in the labels; for networks of
finite width or other classes that are not Gaussian it is that, and not the posterior. (Kernels for the classes of
Panwar, Ahuja & Goyal 2024, "In-context learning through the Bayesian prism", slug `icl_bayesian_prism`.)
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Normal

from microtome.lab.bayes.blocks import over_prompts
from microtome.lab.bayes.law import gaussian, log_score
from microtome.lab.bayes.protocol import Prediction, checked, in_dtype

Vectors = Float[Tensor, "batch points dim"]
Scalars = Float[Tensor, "batch points"]
Kernel = Callable[[Tensor, Tensor], Tensor]

LEAST_NOISE = 1e-5
"""Least σ as a share of the root of κ(x, x): the factor squares the condition number, so that at this one
its rounding errors reach 1e-6 of the labels. Without noise and with a finite basis use `BayesFeatures`."""


@dataclass(frozen=True)
class GaussianProcess:
    """The posterior predictive of a Gaussian process.

    Attributes:
        kernel: κ: maps xs [batch points dim] and others [batch points2 dim] to covariances [batch points points2];
            symmetric and positive semidefinite.
        noise_std: σ ≥ 0; below `LEAST_NOISE` it is taken as that.
        name: for legends.

    Raises:
        ValueError: if σ is out of range.
    """

    kernel: Kernel
    noise_std: float
    name: str = "gaussian process"

    def __post_init__(self):
        if not 0 <= self.noise_std < math.inf:
            raise ValueError(f"noise_std must be finite and at least 0, not {self.noise_std}.")

    def predict(self, xs: Vectors, ys: Scalars) -> Prediction:
        """See `Predictor.predict`.

        Raises:
            ValueError: also if the kernel gives no covariance matrices of these points.
        """
        inputs, labels = checked(xs, ys)
        mean, variance = over_prompts(self._innovate, inputs, labels, entries=inputs.shape[1] ** 2)
        return in_dtype(xs.dtype, mean, variance)

    def law(self, xs: Vectors, ys: Scalars) -> Normal:
        """See `Probabilistic.law`."""
        return gaussian(self.predict(xs.double(), ys.double()))

    def log_evidence(self, xs: Vectors, ys: Scalars) -> Float[Tensor, " batch"]:
        """log p(all labels of the prompt | its inputs), in nats; by the chain rule over the points.

        Raises:
            ValueError: as `predict`.
        """
        return log_score(self.law(xs, ys), ys).sum(-1)

    def _innovate(self, xs: Tensor, ys: Tensor) -> tuple[Tensor, Tensor]:
        covariance = self.kernel(xs, xs)
        if covariance.shape != (*ys.shape, ys.shape[1]) or not torch.isfinite(covariance).all():
            raise ValueError(
                f"the kernel must give finite covariances [{len(ys)} {ys.shape[1]} {ys.shape[1]}] of these points, "
                f"not {list(covariance.shape)}."
            )
        least = LEAST_NOISE**2 * covariance.diagonal(dim1=1, dim2=2)  # of each point, which knows no later ones
        noise = least.clamp(min=max(self.noise_std**2, torch.finfo(ys.dtype).tiny))
        factor, failed = torch.linalg.cholesky_ex(covariance + torch.diag_embed(noise))
        if failed.any():
            raise ValueError("the kernel's matrix of a prompt is not positive semidefinite.")
        innovations = torch.linalg.solve_triangular(factor, ys[..., None], upper=False)
        spread = factor.diagonal(dim1=1, dim2=2).square()
        return (factor.tril(-1) @ innovations).squeeze(-1), spread


@dataclass(frozen=True)
class FourierKernel:
    """Covariance of the Fourier class, (1 + Σ_{n≤N} cos(nπ(x − x′)/L))/N for one-dimensional x.

    f = (a₀ + Σ_n a_n cos(nπx/L) + b_n sin(nπx/L))/√N with coefficients N(0, 1); f has variance (N + 1)/N everywhere.

    Attributes:
        harmonics: N ≥ 1.
        half_period: L > 0.

    Raises:
        ValueError: if an attribute is out of range.
    """

    harmonics: int
    half_period: float = 5.0

    def __post_init__(self):
        if self.harmonics < 1 or not 0 < self.half_period < math.inf:
            raise ValueError(
                f"harmonics must be at least 1 and half_period finite and above 0, not {self.harmonics} and "
                f"{self.half_period}."
            )

    def __call__(
        self, xs: Float[Tensor, "batch points 1"], others: Float[Tensor, "batch points2 1"]
    ) -> Float[Tensor, "batch points points2"]:
        """Raises ValueError unless x has one dimension."""
        if xs.shape[-1] != 1:
            raise ValueError(f"the Fourier class is one of one-dimensional x, not of {xs.shape[-1]} dimensions.")
        phase = (xs - others.mT) * (math.pi / self.half_period)
        orders = range(1, self.harmonics + 1)
        return sum((torch.cos(n * phase) for n in orders), torch.ones_like(phase)) / self.harmonics


@dataclass(frozen=True)
class ReLUKernel:
    """Covariance of two-layer ReLU networks, the arc-cosine kernel of order one (Cho & Saul 2009, equation 6).

    f = √(2/r) Σ_{i≤r} a_i max(0, w_iᵀx) with a_i and w_i standard normal has, for every width r, covariance
    ‖x‖‖x′‖(sin θ + (π − θ) cos θ)/π with θ the angle between x and x′; f is Gaussian as r → ∞.
    """

    def __call__(
        self, xs: Float[Tensor, "batch points dim"], others: Float[Tensor, "batch points2 dim"]
    ) -> Float[Tensor, "batch points points2"]:
        lengths = xs.norm(dim=-1)[:, :, None] * others.norm(dim=-1)[:, None]
        cosine = (xs @ others.mT / lengths.clamp(min=torch.finfo(xs.dtype).tiny)).clamp(-1, 1)
        angle = cosine.acos()
        return lengths * (angle.sin() + (math.pi - angle) * cosine) / math.pi
