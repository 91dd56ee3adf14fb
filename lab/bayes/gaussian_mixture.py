"""Batches of Gaussian mixtures as densities: log density, moments, and draws from a given generator.

    p(x) = Σ_k w_k N(x; μ_k, Σ_k)

Weights are kept as logarithms and covariances as Cholesky factors, so that a weight of e⁻⁵⁰⁰ or a nearly singular
covariance loses nothing.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

WEIGHT_TOLERANCE = 1e-4  # how far weights may be from summing to one, in float32's reach


@dataclass(frozen=True)
class GaussianMixture:
    """One mixture for each element of the batch. `GaussianMixture.of` judges what it is given; this does not.

    Attributes:
        log_weights: log w_k, which sum to one after exp.
        means: μ_k.
        scale_trils: lower Cholesky factors of Σ_k, with a positive diagonal.
    """

    log_weights: Float[Tensor, "*batch component"]
    means: Float[Tensor, "*batch component dim"]
    scale_trils: Float[Tensor, "*batch component dim dim"]

    @classmethod
    def of(cls, weights: Tensor, means: Tensor, covariances: Tensor) -> "GaussianMixture":
        """The mixture with these weights, means and covariances.

        Args:
            weights: [*batch component], not negative, summing to one; they are divided by their sum.
            means: [*batch component dim].
            covariances: [*batch component dim dim], symmetric and positive definite.

        Raises:
            ValueError: if the shapes do not fit, a number is not finite, the weights are not a distribution, or a
                covariance is not symmetric and positive definite.
        """
        _check_shapes(weights, means, covariances)
        for name, tensor in (("weights", weights), ("means", means), ("covariances", covariances)):
            if not torch.isfinite(tensor).all():
                raise ValueError(f"{name} must be finite, but hold an infinity or a NaN.")
        total = weights.sum(-1, keepdim=True)
        if (weights < 0).any() or ((total - 1).abs() > WEIGHT_TOLERANCE).any():
            raise ValueError(
                "weights must be a distribution over components, so not negative and summing to 1; "
                f"the least is {weights.min():.4g} and the sums lie between {total.min():.4g} and {total.max():.4g}."
            )
        return cls((weights / total).log(), means, _cholesky(covariances))

    @property
    def weights(self) -> Float[Tensor, "*batch component"]:
        return self.log_weights.exp()

    @property
    def covariances(self) -> Float[Tensor, "*batch component dim dim"]:
        return self.scale_trils @ self.scale_trils.mT

    @property
    def n_components(self) -> int:
        return self.means.shape[-2]

    @property
    def dim(self) -> int:
        return self.means.shape[-1]

    @property
    def mean(self) -> Float[Tensor, "*batch dim"]:
        """Σ_k w_k μ_k."""
        return (self.weights[..., None] * self.means).sum(-2)

    @property
    def covariance(self) -> Float[Tensor, "*batch dim dim"]:
        """Σ_k w_k (Σ_k + (μ_k − mean)(μ_k − mean)ᵀ)."""
        away = self.means - self.mean[..., None, :]
        within = self.covariances + away[..., :, None] * away[..., None, :]
        return (self.weights[..., None, None] * within).sum(-3)

    def to(self, dtype: torch.dtype) -> "GaussianMixture":
        """The same mixtures in another dtype."""
        return GaussianMixture(self.log_weights.to(dtype), self.means.to(dtype), self.scale_trils.to(dtype))

    def __getitem__(self, index: int | slice | Tensor) -> "GaussianMixture":
        """Those of the batch at an index of its first axis."""
        return GaussianMixture(self.log_weights[index], self.means[index], self.scale_trils[index])

    def permuted(self, order: Tensor) -> "GaussianMixture":
        """The same law with its components listed in another order, [component]."""
        return GaussianMixture(
            self.log_weights[..., order], self.means[..., order, :], self.scale_trils[..., order, :, :]
        )

    def component_log_prob(self, x: Float[Tensor, "... dim"]) -> Float[Tensor, "... component"]:
        """log w_k + log N(x; μ_k, Σ_k) of every component."""
        white = whiten(self.scale_trils, x[..., None, :] - self.means)
        log_determinant = self.scale_trils.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        constant = self.log_weights - log_determinant - self.dim / 2 * math.log(2 * math.pi)
        return constant - white.square().sum(-1) / 2

    def log_prob(self, x: Float[Tensor, "... dim"]) -> Float[Tensor, "..."]:
        """See `Density.log_prob`.

        Raises:
            ValueError: if x has another dimension.
        """
        if x.shape[-1] != self.dim:
            raise ValueError(f"x must be {self.dim}-dimensional as the mixture is, not {x.shape[-1]}-dimensional.")
        return self.component_log_prob(x).logsumexp(-1)

    def sample(self, generator: torch.Generator, count: int | None = None) -> Float[Tensor, "... dim"]:
        """Draws x, [*batch dim], or [count *batch dim]."""
        lead = self.means.shape[:-2] if count is None else (count, *self.means.shape[:-2])
        like = {"generator": generator, "dtype": self.means.dtype, "device": generator.device}
        uniform = torch.rand(*lead, 1, **like)
        chosen = (uniform > self.weights.cumsum(-1)).sum(-1).clamp(max=self.n_components - 1)
        pick = chosen[..., None, None].expand(*lead, 1, self.dim)
        mean = self.means.expand(*lead, -1, -1).gather(-2, pick)[..., 0, :]
        factor = self.scale_trils.expand(*lead, -1, -1, -1)
        factor = factor.gather(-3, pick[..., None].expand(*lead, 1, self.dim, self.dim))[..., 0, :, :]
        return mean + (factor @ torch.randn(*lead, self.dim, 1, **like))[..., 0]


def whiten(scale_trils: Float[Tensor, "... dim dim"], vectors: Float[Tensor, "... dim"]) -> Float[Tensor, "... dim"]:
    """L⁻¹v, whose square norm is vᵀΣ⁻¹v."""
    if scale_trils.shape[-1] == 1:  # a quotient costs a tenth of a batch of 1 × 1 solves
        return vectors / scale_trils[..., 0]
    return torch.linalg.solve_triangular(scale_trils, vectors[..., None], upper=False)[..., 0]


def _check_shapes(weights: Tensor, means: Tensor, covariances: Tensor) -> None:
    fits = means.ndim >= 2 and means.numel() > 0 and weights.shape == means.shape[:-1]
    if not fits or covariances.shape != (*means.shape, means.shape[-1]):
        raise ValueError(
            "weights must be [*batch component], means [*batch component dim] and covariances [*batch component dim "
            f"dim], none empty, not {list(weights.shape)}, {list(means.shape)} and {list(covariances.shape)}."
        )


def _cholesky(covariances: Tensor) -> Tensor:
    size = covariances.abs().amax((-1, -2), keepdim=True)
    if ((covariances - covariances.mT).abs() > 1e-5 * size).any():
        raise ValueError("covariances must be symmetric, but one differs from its transpose.")
    factors, wrong = torch.linalg.cholesky_ex(covariances)
    if wrong.any():
        least = torch.linalg.eigvalsh(covariances).min()
        raise ValueError(f"covariances must be positive definite, but one has the eigenvalue {least:.4g}.")
    return factors
