"""Exact posterior of linear regression with weights of known size and unknown signs: every sign vector is tried.

w = scale · s with s uniform in {−1, +1}^d (Panwar, Ahuja & Goyal 2024, "In-context learning through the Bayesian
prism", slug `icl_bayesian_prism`, sign-vector regression): a pool of 2^d tasks, read in blocks.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import MixtureSameFamily, Normal

from microtome.lab.bayes.linear import Posterior, check_law
from microtome.lab.bayes.pool import BLOCK, LEAST_NOISE, PoolPosterior, enumerate_tasks
from microtome.lab.bayes.protocol import Prediction, checked, in_dtype

Vectors = Float[Tensor, "batch points dim"]
Scalars = Float[Tensor, "batch points"]

MAX_DIM = 20  # a million vectors: a few seconds for a prompt of 41 points


@dataclass(frozen=True)
class SignVectorPosterior:
    """The posterior predictive of sign-vector regression, by enumeration.

    Attributes:
        dim: dimensions of x, at most `MAX_DIM`.
        noise_std: σ ≥ 0; below 1e-6·scale·√dim the vectors are weighed as for that.
        scale: size of every weight, above 0.

    Raises:
        ValueError: if an attribute is out of range; with what to use instead where the dimensions are too many.
    """

    dim: int
    noise_std: float = 0.0
    scale: float = 1.0

    def __post_init__(self):
        check_law(self.noise_std, self.scale)
        if self.dim < 1:
            raise ValueError(f"dim must be at least 1, not {self.dim}.")
        if self.dim > MAX_DIM:
            raise ValueError(
                f"{self.dim} dimensions have 2^{self.dim} sign vectors, and up to 2^{MAX_DIM} are enumerated; with "
                f"noise use sampling.SignVectorGibbs, or the best predictor linear in the labels, "
                f"BayesLinear(noise_std={self.noise_std:g}, prior_std={self.scale:g})."
            )

    @property
    def name(self) -> str:
        return "bayes over signs"

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
        inputs, labels = checked(xs, ys)
        if inputs.shape[-1] != self.dim:
            raise ValueError(f"this predictor knows sign vectors in {self.dim} dimensions, but xs has {xs.shape[-1]}.")
        noise = max(self.noise_std, LEAST_NOISE * self.scale * math.sqrt(self.dim))
        weights, mean, spread = enumerate_tasks(inputs, labels, self._blocks, noise)
        return Posterior(weights.to(xs.dtype), in_dtype(xs.dtype, mean, spread + self.noise_std**2))

    def law(self, xs: Vectors, ys: Scalars) -> Normal | MixtureSameFamily:
        """See `Probabilistic.law`; one normal a sign vector.

        Raises:
            ValueError: also if the law holds too many numbers, see `PoolPosterior.law`.
        """
        return PoolPosterior(torch.cat(list(self._blocks())), self.noise_std).law(xs, ys)

    def _blocks(self) -> Iterator[Float[Tensor, "tasks dim"]]:
        bits = torch.arange(self.dim)
        for numbers in torch.arange(2**self.dim).split(BLOCK):
            yield self.scale * ((numbers[:, None] >> bits & 1) * 2 - 1).double()
