"""The exact answer when the weights come from a finite pool: dMMSE.

y = wᵀx + N(0, σ²) with w one of w_1 … w_M, each as likely:

    ŵ = Σ_m p_m w_m,     p_m ∝ exp(−Σ_{j<i} (y_j − w_mᵀx_j)² / 2σ²)

(Panwar, Ahuja & Goyal 2024, "In-context learning through the Bayesian prism", slug `icl_bayesian_prism`, the study of
task diversity; the discrete minimum-mean-squared-error estimator of Raventós et al. 2023.) The pool is read in blocks,
so that its size does not bound memory.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import MixtureSameFamily, Normal

from microtome.lab.bayes.blocks import over_prompts
from microtome.lab.bayes.linear import Posterior
from microtome.lab.bayes.normals import Parts
from microtome.lab.bayes.prefixes import before
from microtome.lab.bayes.protocol import Prediction, checked, in_dtype

Vectors = Float[Tensor, "batch points dim"]
Scalars = Float[Tensor, "batch points"]
Pool = Float[Tensor, "tasks dim"]

BLOCK = 4096  # tasks at once
LEAST_NOISE = 1e-6
"""Least σ, as a share of the root mean square of ‖w‖, that the tasks are weighed with.

Without noise a task either agrees with the labels or is impossible, and labels in float32 carry rounding errors near
1e-7 of that size.
"""
MAX_LAW = 2**27  # numbers in a law that is held whole: a gigabyte


@dataclass(frozen=True, eq=False)
class PoolPosterior:
    """The posterior predictive of linear regression whose weights are one of a pool, exact for σ > 0.

    Attributes:
        pool: the tasks w_m, [tasks dim].
        noise_std: σ ≥ 0; the tasks are weighed with `LEAST_NOISE` at least.

    Raises:
        ValueError: if the pool is empty or not finite, or σ is out of range.
    """

    pool: Pool
    noise_std: float

    def __post_init__(self):
        if self.pool.ndim != 2 or self.pool.numel() == 0:
            raise ValueError(f"the pool must be [tasks dim] with at least one task, not {list(self.pool.shape)}.")
        if not torch.isfinite(self.pool).all():
            raise ValueError("the pool must be finite.")
        if not 0 <= self.noise_std < math.inf:
            raise ValueError(f"noise_std must be finite and at least 0, not {self.noise_std}.")

    @property
    def name(self) -> str:
        return f"dmmse({len(self.pool)})"

    def predict(self, xs: Vectors, ys: Scalars) -> Prediction:
        """See `Predictor.predict`; entry 0 is the pool's mean times x.

        Raises:
            ValueError: also if the prompts have another dimension than the pool.
        """
        return self.posterior(xs, ys).prediction

    def weights(self, xs: Vectors, ys: Scalars) -> Vectors:
        """Posterior mean of w given the pairs before each point; entry 0 is the pool's mean."""
        return self.posterior(xs, ys).weights

    def posterior(self, xs: Vectors, ys: Scalars) -> Posterior:
        """Weights and prediction from one pass over the pool.

        Raises:
            ValueError: as `predict`.
        """
        tasks = self.pool.double()
        inputs, labels = self._checked(xs, ys)
        weights, mean, spread = enumerate_tasks(inputs, labels, lambda: tasks.split(BLOCK), self._least_noise())
        return Posterior(weights.to(xs.dtype), in_dtype(xs.dtype, mean, spread + self.noise_std**2))

    def responsibilities(self, xs: Vectors, ys: Scalars) -> Float[Tensor, "batch points tasks"]:
        """The probability of each task given the pairs before i; entry 0 is 1/M.

        Raises:
            ValueError: also if that is more than `MAX_LAW` numbers.
        """
        return self._log_weights(*self._checked(xs, ys)).exp().to(xs.dtype)

    def law(self, xs: Vectors, ys: Scalars) -> Normal | MixtureSameFamily:
        """See `Probabilistic.law`; one normal a task, of standard deviation σ.

        Raises:
            ValueError: also if that is more than `MAX_LAW` numbers.
        """
        inputs, labels = self._checked(xs, ys)
        log_weights = self._log_weights(inputs, labels)
        means = inputs @ self.pool.double().mT
        return Parts(log_weights, means, torch.full_like(means, self._least_noise())).law()

    def _checked(self, xs: Tensor, ys: Tensor) -> tuple[Tensor, Tensor]:
        inputs, labels = checked(xs, ys)
        if inputs.shape[-1] != self.pool.shape[1]:
            raise ValueError(f"the pool's tasks have {self.pool.shape[1]} dimensions, but xs has {inputs.shape[-1]}.")
        return inputs, labels

    def _least_noise(self) -> float:
        size = float(self.pool.double().square().sum(-1).mean().sqrt())
        return max(self.noise_std, LEAST_NOISE * (size or 1.0))

    def _log_weights(self, inputs: Tensor, labels: Tensor) -> Tensor:
        numbers = labels.numel() * len(self.pool)
        if numbers > MAX_LAW:
            raise ValueError(
                f"the law of {labels.numel():,} labels over {len(self.pool):,} tasks holds {numbers:,} numbers, more "
                f"than the {MAX_LAW:,} allowed; ask for fewer prompts at once, or for mean and variance by predict."
            )
        return _evidence(inputs, labels, self.pool.double(), self._least_noise())[1].log_softmax(-1)


def enumerate_tasks(
    xs: Vectors, ys: Scalars, blocks: Callable[[], Iterable[Pool]], noise_std: float
) -> tuple[Vectors, Scalars, Scalars]:
    """Posterior over equally likely weights that come in blocks.

    Args:
        xs: inputs in float64.
        ys: labels in float64.
        blocks: gives all the weights, at most `BLOCK` at a time; called once for every block of prompts.
        noise_std: σ > 0.

    Returns:
        ŵ, its prediction ŵᵀx, and the variance of wᵀx, all from the pairs before each point.
    """
    return over_prompts(
        lambda x, y: _stream(x, y, blocks(), noise_std), xs, ys, entries=xs.shape[1] * BLOCK, limit=2**21
    )


def _stream(xs: Tensor, ys: Tensor, blocks: Iterable[Tensor], noise_std: float) -> tuple[Tensor, Tensor, Tensor]:
    """As `enumerate_tasks`, with sums kept relative to the best task so far."""
    best = torch.full_like(ys, -torch.inf)
    mass, square, weights = torch.zeros_like(ys), torch.zeros_like(ys), torch.zeros_like(xs)
    for tasks in blocks:
        answers, evidence = _evidence(xs, ys, tasks, noise_std)
        top = torch.maximum(best, evidence.amax(-1))
        faded, p = (best - top).exp(), (evidence - top[..., None]).exp()
        mass = mass * faded + p.sum(-1)
        square = square * faded + (p * answers.square()).sum(-1)
        weights = weights * faded[..., None] + p @ tasks
        best = top
    weights = weights / mass[..., None]
    mean = (weights * xs).sum(-1)
    return weights, mean, (square / mass - mean.square()).clamp(min=0)


def _evidence(xs: Tensor, ys: Tensor, tasks: Tensor, noise_std: float) -> tuple[Tensor, Tensor]:
    """wᵀx and log p(pairs before i | w) up to a constant, each [batch points tasks]."""
    answers = xs @ tasks.mT
    scores = (ys[..., None] - answers).square().mul_(-0.5 / noise_std**2)
    return answers, before(scores.cumsum(1))
