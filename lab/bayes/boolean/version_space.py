"""Exact posterior of a conjunction where there are too many to enumerate (3²⁸ = 2·10¹³), by inclusion and exclusion.

Conjunctions whose literals all lie in a set A form a cube: of a literals (at most one a coordinate) it holds C(a, t)
conjunctions of t literals. The conjunctions that x satisfies are the cube of the literals true at x, and cubes
intersect in cubes. Hence the version space after some pairs is a signed sum of cubes: a positive pair intersects each
of them with the cube of x, a negative one subtracts the same intersections. Equal cubes are merged, which also cancels
negative pairs that others imply. The number N_t of conjunctions with t literals that agree with the pairs is then an
exact integer, and the posterior a sum of positive terms:

    p(pairs before i, x_i, y_i = +) ∝ Σ_t N_t⁺ · p_t · D_t^P (1 − φ)^M · D_t,     D_t = 1 − φ + φ·2^t

for P positive and M negative pairs before i, with p_t the prior of a conjunction of t literals and φ the probability
that an input is forced (`literals`). The number of cubes can double with every negative pair before the first positive
one; from then on it cannot exceed the subsets of the literals that are left, and few survive.

Source: beside "Understanding In-Context Learning in Transformers and LLMs by Learning to Learn Discrete Functions",
Bhattamishra et al. 2024, icl_boolean, whose prompts have n = 28 bits.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from microtome.lab.bayes.boolean.cubes import MAX_LITERALS, Cubes
from microtome.lab.bayes.boolean.evidence import log_counts, odds
from microtome.lab.bayes.boolean.literals import Literals, log_forced
from microtome.lab.bayes.boolean.signs import as_bits, check_share
from microtome.lab.bayes.law import Signs
from microtome.lab.bayes.protocol import Prediction

BLOCK = 64  # prompts; their cubes together are some megabytes

Vectors = Float[Tensor, "batch points dim"]
Scalars = Float[Tensor, "batch points"]


class VersionSpace:
    """The posterior predictive of conjunctions without label noise, in up to 32 dimensions (64 if monotone).

    Args:
        literals: the law of w.
        force: φ, the probability that an input is forced to satisfy the conjunction.

    Raises:
        ValueError: if force is no probability, or there are more than 64 literals.
    """

    name = "bayes"

    def __init__(self, literals: Literals, force: float = 0.0):
        check_share(force=force)
        if literals.dim * literals.signs > MAX_LITERALS:
            raise ValueError(
                f"the version space is kept as sets of at most {MAX_LITERALS} literals, but {literals.dim} dimensions "
                f"have {literals.dim * literals.signs}."
            )
        self.literals, self.force = literals, force

    def predict(self, xs: Vectors, ys: Scalars) -> Prediction:
        """See `Predictor.predict`; the mean is P(+1) − P(−1).

        Raises:
            ValueError: also if a number is not ±1, the prompts have another dimension, or the pairs before a point and
                its x are impossible under every conjunction.
        """
        return self.law(xs, ys).prediction(xs.dtype)

    def law(self, xs: Vectors, ys: Scalars) -> Signs:
        """See `Probabilistic.law`."""
        prompts = as_bits(xs, ys, self.literals.dim)
        starts = range(0, len(prompts.xs), BLOCK)
        means = [self._means(prompts.xs[s : s + BLOCK], prompts.ys[s : s + BLOCK], s) for s in starts]
        return Signs(torch.from_numpy(np.concatenate(means)).to(xs.device))

    def _means(self, xs: np.ndarray, ys: np.ndarray, first: int) -> np.ndarray:
        """Means of a block of prompts whose first has this number."""
        cubes = Cubes.all(self.literals, len(xs))
        left = cubes.sizes()
        not_forced, forced = log_forced(np.arange(self.literals.dim + 1), self.force)
        log_weight = np.tile(self.literals.log_prior(), (len(xs), 1))
        means = np.empty(ys.shape)
        for i in range(xs.shape[1]):
            true = cubes.satisfied(xs[:, i])
            plus = true.sizes()
            by_value = np.stack([left - plus, plus], axis=1)
            log_inputs = np.stack([not_forced, forced])
            means[:, i] = odds(log_weight[:, None] + log_inputs + log_counts(by_value), first, i)
            cubes = cubes.after(true, ys[:, i])
            left = np.where(ys[:, i, None], plus, left - plus)
            log_weight = log_weight + np.where(ys[:, i, None], forced, not_forced)
        return means
