"""Exact posterior of sparse linear regression: every support is tried.

w has exactly s non-zero coordinates, a support drawn uniformly, each N(0, τ²) (Garg et al. 2022, "sparse
linear functions"). Given the support S this is dense regression in s dimensions, so that the posterior is the
mixture

    p(S | pairs before i) ∝ Π_{j<i} N(y_j; m_S,j, v_S,j),     ŷ_i = Σ_S p(S | pairs before i) m_S,i

with the predictive mean m_S,i and variance v_S,i of that dense regression.
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import MixtureSameFamily, Normal

from microtome.lab.bayes import givens
from microtome.lab.bayes.blocks import over_prompts
from microtome.lab.bayes.linear import Posterior, check_law
from microtome.lab.bayes.normals import Parts
from microtome.lab.bayes.prefixes import before
from microtome.lab.bayes.protocol import Prediction, checked, in_dtype

Vectors = Float[Tensor, "batch points dim"]
Scalars = Float[Tensor, "batch points"]

MAX_SUPPORTS = 20_000
# Without noise a support either agrees with the labels or is impossible. Labels of order τ carry rounding
# errors near 1e-7·τ (float32): 1e-6·τ of noise tells the two apart, and biases a weight by a relative 1e-12.
LEAST_NOISE = 1e-6
BLOCK_ENTRIES = 2**22


@dataclass(frozen=True)
class SpikeAndSlab:
    """The posterior predictive of sparse linear regression, by enumeration of the supports.

    Attributes:
        dim: dimensions of x.
        sparsity: s, how many weights are not zero.
        noise_std: σ ≥ 0; below 1e-6·τ the supports are weighed as for 1e-6·τ.
        prior_std: τ > 0, standard deviation of a weight on the support.

    Raises:
        ValueError: if s is not in 1…dim, or there are more than `MAX_SUPPORTS` supports.
    """

    dim: int
    sparsity: int
    noise_std: float = 0.0
    prior_std: float = 1.0

    def __post_init__(self):
        check_law(self.noise_std, self.prior_std)
        if not 1 <= self.sparsity <= self.dim:
            raise ValueError(f"sparsity must be between 1 and dim = {self.dim}, not {self.sparsity}.")
        count = math.comb(self.dim, self.sparsity)
        if count > MAX_SUPPORTS:
            linear = self.prior_std * math.sqrt(self.sparsity / self.dim)
            raise ValueError(
                f"{self.sparsity} of {self.dim} weights have {count:,} supports, more than the "
                f"{MAX_SUPPORTS:,} that are enumerated; use fewer, or the best predictor linear in the labels, "
                f"BayesLinear(noise_std={self.noise_std:g}, prior_std={linear:.4g})."
            )

    @property
    def name(self) -> str:
        return "spike and slab"

    def predict(self, xs: Vectors, ys: Scalars) -> Prediction:
        """See `Predictor.predict`.

        Raises:
            ValueError: also if the prompts have another dimension than the predictor.
        """
        return self.posterior(xs, ys).prediction

    def weights(self, xs: Vectors, ys: Scalars) -> Vectors:
        """Posterior mean of w given the pairs before each point."""
        return self.posterior(xs, ys).weights

    def posterior(self, xs: Vectors, ys: Scalars) -> Posterior:
        """Weights and prediction from one enumeration.

        Raises:
            ValueError: as `predict`.
        """
        inputs, labels, supports = self._checked(xs, ys)
        weights, mean, variance = self._over_prompts(self._mix, inputs, labels, supports)
        return Posterior(weights.to(xs.dtype), in_dtype(xs.dtype, mean, variance))

    def law(self, xs: Vectors, ys: Scalars) -> Normal | MixtureSameFamily:
        """See `Probabilistic.law`; one normal a support, no narrower than 1e-6·τ."""
        inputs, labels, supports = self._checked(xs, ys)
        probability, means, spread = self._over_prompts(self._parts, inputs, labels, supports)
        return Parts(probability.log(), means, (spread + self._noise()).sqrt() * self.prior_std).law()

    def _checked(self, xs: Tensor, ys: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Inputs, labels and the supports [support s]."""
        inputs, labels = checked(xs, ys)
        dim = inputs.shape[-1]
        if dim != self.dim:
            raise ValueError(f"this predictor knows supports in {self.dim} dimensions, but xs has {dim}.")
        supports = torch.tensor(list(itertools.combinations(range(dim), self.sparsity)), device=inputs.device)
        return inputs, labels, supports

    def _over_prompts(self, function: Callable, xs: Tensor, ys: Tensor, supports: Tensor) -> tuple[Tensor, ...]:
        entries = len(supports) * xs.shape[1] * (self.sparsity + 1)
        return over_prompts(lambda x, y: function(x, y, supports), xs, ys, entries, BLOCK_ENTRIES)

    def _noise(self) -> float:
        """σ² in units of τ²."""
        return max(self.noise_std / self.prior_std, LEAST_NOISE) ** 2

    def _fit(self, xs: Tensor, ys: Tensor, supports: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Of each support: its probability, mean and spread (in units of τ²) [batch support points], and its weights
        [batch support points s]."""
        noise = self._noise()
        seen = xs[:, :, supports].transpose(1, 2).flatten(0, 1)  # (batch support) points s
        labels = ys.repeat_interleave(len(supports), dim=0)
        fitted, spread = givens.prefixes(seen, labels, noise, torch.finfo(xs.dtype).eps)
        means = (fitted * seen).sum(-1)
        variances = spread + noise
        scores = -0.5 * ((labels - means).square() / (self.prior_std**2 * variances) + variances.log())
        evidence = before(scores.cumsum(1))
        split = (len(xs), len(supports))
        probability = evidence.unflatten(0, split).softmax(1)
        return probability, means.unflatten(0, split), spread.unflatten(0, split), fitted.unflatten(0, split)

    def _parts(self, xs: Tensor, ys: Tensor, supports: Tensor) -> tuple[Tensor, ...]:
        """Probability, mean and spread of each support, [batch points support]."""
        return tuple(each.transpose(1, 2) for each in self._fit(xs, ys, supports)[:3])

    def _mix(self, xs: Tensor, ys: Tensor, supports: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Weights [batch points dim], mean and variance [batch points] of a block of prompts."""
        probability, means, spread, fitted = self._fit(xs, ys, supports)
        mean = (probability * means).sum(1)
        open_ = self.prior_std**2 * spread
        variance = (probability * (open_ + (means - mean[:, None]).square())).sum(1) + self.noise_std**2
        shares = (probability[..., None] * fitted).transpose(1, 2).flatten(2)
        weights = torch.zeros_like(xs).index_add_(2, supports.flatten(), shares)
        return weights, mean, variance
