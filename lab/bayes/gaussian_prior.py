"""Exact posterior of linear regression when the weights have any Gaussian law.

y = wᵀx + N(0, σ²), w ~ N(μ, Σ). With Σ = AAᵀ the deviation y − μᵀx is dense regression on Aᵀx with a unit prior, so
that the posterior mean has the shift form

    ŵ = μ + ΣXᵀ(XΣXᵀ + σ²I)⁻¹(y − Xμ)

(Panwar, Ahuja & Goyal 2024, "In-context learning through the Bayesian prism", slug `icl_bayesian_prism`: the components
of their Gaussian mixture).
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Normal

from microtome.lab.bayes.law import gaussian
from microtome.lab.bayes.linear import BayesLinear
from microtome.lab.bayes.protocol import Prediction, checked, in_dtype

Vectors = Float[Tensor, "batch points dim"]
Scalars = Float[Tensor, "batch points"]


@dataclass(frozen=True, eq=False)
class BayesGaussian:
    """The posterior predictive of linear regression with weights N(μ, Σ), exact for every σ ≥ 0 and any rank of Σ.

    Attributes:
        mean: μ, [dim].
        covariance: Σ, [dim dim]; symmetric, no eigenvalue below zero.
        noise_std: σ ≥ 0, standard deviation of the label noise.

    Raises:
        ValueError: if the shapes do not fit, Σ is no covariance, or σ is out of range.
    """

    mean: Float[Tensor, " dim"]
    covariance: Float[Tensor, "dim dim"]
    noise_std: float = 0.0

    def __post_init__(self):
        if self.mean.ndim != 1 or self.covariance.shape != (len(self.mean), len(self.mean)):
            raise ValueError(
                f"mean must be [dim] and covariance [dim dim], not {list(self.mean.shape)} and "
                f"{list(self.covariance.shape)}."
            )
        if not (torch.isfinite(self.mean).all() and torch.isfinite(self.covariance).all()):
            raise ValueError("mean and covariance must be finite.")
        if not 0 <= self.noise_std < math.inf:
            raise ValueError(f"noise_std must be finite and at least 0, not {self.noise_std}.")
        sigma = self.covariance.double()
        largest = sigma.abs().max()
        lowest = torch.linalg.eigvalsh(sigma).min()
        if not torch.allclose(sigma, sigma.mT, rtol=0, atol=float(1e-6 * largest)) or lowest < -1e-6 * largest:
            raise ValueError(f"covariance must be symmetric with no eigenvalue below 0; its lowest is {lowest:.3g}.")

    @property
    def name(self) -> str:
        return "bayes, N(μ, Σ)"

    def predict(self, xs: Vectors, ys: Scalars) -> Prediction:
        """See `Predictor.predict`; entry 0 is μᵀx.

        Raises:
            ValueError: also if the prompts have another dimension than μ.
        """
        inputs, prior, deviation = self._shifted(xs, ys)
        said = BayesLinear(self.noise_std).predict(inputs, deviation)
        return in_dtype(xs.dtype, said.mean + prior, said.variance)

    def law(self, xs: Vectors, ys: Scalars) -> Normal:
        """See `Probabilistic.law`."""
        return gaussian(self.predict(xs.double(), ys.double()))

    def weights(self, xs: Vectors, ys: Scalars) -> Vectors:
        """Posterior mean of w given the pairs before each point; entry 0 is μ."""
        inputs, _, deviation = self._shifted(xs, ys)
        fitted = BayesLinear(self.noise_std).weights(inputs, deviation)
        return (fitted @ self._root().mT + self.mean.double()).to(xs.dtype)

    def _shifted(self, xs: Tensor, ys: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Aᵀx [batch points dim], μᵀx and y − μᵀx [batch points]."""
        inputs, labels = checked(xs, ys)
        if inputs.shape[-1] != len(self.mean):
            raise ValueError(f"the weights have {len(self.mean)} dimensions, but xs has {inputs.shape[-1]}.")
        prior = inputs @ self.mean.double()
        return inputs @ self._root(), prior, labels - prior

    def _root(self) -> Float[Tensor, "dim dim"]:
        """A with AAᵀ = Σ; by eigenvectors, so that Σ may be singular."""
        values, vectors = torch.linalg.eigh(self.covariance.double())
        return vectors * values.clamp(min=0).sqrt()
