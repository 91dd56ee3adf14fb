"""Exact posterior of regression that is linear in features of x: Fourier, monomial and Haar classes, fixed networks.

y = wᵀφ(x) + N(0, σ²), w ~ N(0, τ²I) is dense linear regression with φ(x) in the place of x; the same law over
functions as the Gaussian process with kernel τ²φ(x)ᵀφ(x′). (Panwar, Ahuja & Goyal 2024, "In-context learning through
the Bayesian prism", slug `icl_bayesian_prism`, section 4.2 and appendix on non-linear classes.)
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Normal

from microtome.lab.bayes.law import gaussian
from microtome.lab.bayes.linear import BayesLinear, Posterior, check_law
from microtome.lab.bayes.protocol import Prediction, checked, in_dtype

Vectors = Float[Tensor, "batch points dim"]
Features = Float[Tensor, "batch points features"]
Scalars = Float[Tensor, "batch points"]


@dataclass(frozen=True)
class BayesFeatures:
    """The posterior predictive of regression linear in features, exact for every σ ≥ 0.

    Attributes:
        features: φ: maps xs [batch points dim] to [batch points features], each point by itself; the scale of the
            class (a division by √N, say) belongs to it.
        noise_std: σ ≥ 0, standard deviation of the label noise.
        prior_std: τ > 0, standard deviation of each weight.
        name: for legends.

    Raises:
        ValueError: if σ or τ is out of range.
    """

    features: Callable[[Tensor], Tensor]
    noise_std: float = 0.0
    prior_std: float = 1.0
    name: str = "bayes on features"

    def __post_init__(self):
        check_law(self.noise_std, self.prior_std)

    def predict(self, xs: Vectors, ys: Scalars) -> Prediction:
        """See `Predictor.predict`.

        Raises:
            ValueError: also if the features of these inputs are not [batch points features] or not finite.
        """
        feats, labels = self._featured(xs, ys)
        said = self._dense.predict(feats, labels)
        return in_dtype(xs.dtype, said.mean, said.variance)

    def law(self, xs: Vectors, ys: Scalars) -> Normal:
        """See `Probabilistic.law`."""
        return gaussian(self.predict(xs.double(), ys.double()))

    def posterior(self, xs: Vectors, ys: Scalars) -> Posterior:
        """Posterior mean of the weights of the features [batch points features], and the prediction.

        Raises:
            ValueError: as `predict`.
        """
        said = self._dense.posterior(*self._featured(xs, ys))
        return Posterior(said.weights.to(xs.dtype), in_dtype(xs.dtype, said.prediction.mean, said.prediction.variance))

    @property
    def _dense(self) -> BayesLinear:
        return BayesLinear(self.noise_std, self.prior_std)

    def _featured(self, xs: Tensor, ys: Tensor) -> tuple[Tensor, Tensor]:
        """Features [batch points features] and labels in float64."""
        inputs, labels = checked(xs, ys)
        feats = self.features(inputs)
        if feats.ndim != 3 or feats.shape[:2] != labels.shape:
            raise ValueError(
                f"features must map xs {list(inputs.shape)} to [{len(labels)} {labels.shape[1]} features], "
                f"not to {list(feats.shape)}."
            )
        if not torch.isfinite(feats).all():
            raise ValueError("the features of these inputs hold an infinity or a NaN.")
        return feats.double(), labels
