"""Exact posterior of a Boolean function from a finite class, for every prefix of every prompt.

    p(h | pairs before i, x_i) ∝ p(h) Π_{j≤i} p(x_j | h) Π_{j<i} p(y_j | h(x_j)),     p(y | v) = 1 − η if y = v else η

(the exact learner beside "Understanding In-Context Learning in Transformers and LLMs by Learning to Learn Discrete
Functions", Bhattamishra et al. 2024, icl_boolean). x_i itself is evidence: inputs that are forced to satisfy a clause
speak of the clause.

Without noise a hypothesis is alive or dead: one AND for 64 of them and prompt, and a count in every group. With noise
each hypothesis has a weight of its own, some fifty times slower.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from microtome.lab.bayes.boolean.evidence import check_evidence, log_counts, odds
from microtome.lab.bayes.boolean.finite import WORD, FiniteClass
from microtome.lab.bayes.boolean.signs import BitPrompts, as_bits, check_noise
from microtome.lab.bayes.law import Signs
from microtome.lab.bayes.protocol import Prediction

BLOCK_WORDS = 2**18  # 2 MB for each of the alive and the labels: they stay in cache
BLOCK_WEIGHTS = 2**18

Vectors = Float[Tensor, "batch points dim"]
Scalars = Float[Tensor, "batch points"]
Means = Float[np.ndarray, "batch points"]


class Enumeration:
    """The posterior predictive of labels ±1 by enumeration of a finite class.

    Args:
        functions: the class, with prior and law of inputs.
        noise: η in [0, ½], the probability that a label is flipped.

    Raises:
        ValueError: if the noise is out of range.
    """

    name = "bayes"

    def __init__(self, functions: FiniteClass, noise: float = 0.0):
        check_noise(noise)
        self.functions, self.noise = functions, noise

    def predict(self, xs: Vectors, ys: Scalars) -> Prediction:
        """See `Predictor.predict`; the mean is P(+1) − P(−1).

        Raises:
            ValueError: also if a number is not ±1, the prompts have another dimension than the class, or the pairs
                before a point and its x are impossible under every hypothesis.
        """
        return self.law(xs, ys).prediction(xs.dtype)

    def law(self, xs: Vectors, ys: Scalars) -> Signs:
        """See `Probabilistic.law`."""
        mean = torch.from_numpy(self._means(as_bits(xs, ys, self.functions.dim)))
        return Signs(mean.to(xs.device))

    def _means(self, prompts: BitPrompts) -> Means:
        words = self.functions.layout.n_words
        size = BLOCK_WORDS // words if self.noise == 0 else BLOCK_WEIGHTS // (words * WORD)
        run = self._counted if self.noise == 0 else self._weighed
        starts = range(0, len(prompts.xs), max(1, size))
        blocks = [slice(start, start + max(1, size)) for start in starts]
        return np.concatenate([run(prompts.xs[b], prompts.ys[b], b.start) for b in blocks])

    def _counted(self, xs: np.ndarray, ys: np.ndarray, first: int) -> Means:
        """Means without noise, from the number of hypotheses left in each group."""
        functions, layout = self.functions, self.functions.layout
        alive = np.tile(layout.pack(np.ones(layout.sizes.sum(), dtype=bool)), (len(xs), 1))
        left = np.tile(layout.sizes, (len(xs), 1))
        log_weight = np.tile(functions.log_prior, (len(xs), 1))
        means = np.empty(ys.shape)
        for i in range(xs.shape[1]):
            labels, inputs = functions.labels(xs[:, i]), functions.inputs(xs[:, i])
            plus = layout.count(alive & labels)
            by_value = np.stack([left - plus, plus], axis=1)
            means[:, i] = odds(log_weight[:, None] + inputs + log_counts(by_value), first, i)
            told = ys[:, i].astype(int)
            # Of a word and ¬0 the exclusive or is the complement: those that say −1.
            alive &= labels ^ np.where(ys[:, i], np.uint64(0), ~np.uint64(0))[:, None]
            left = by_value[np.arange(len(xs)), told]
            log_weight += inputs[np.arange(len(xs)), told]
        return means

    def _weighed(self, xs: np.ndarray, ys: np.ndarray, first: int) -> Means:
        """Means with noise, from the weight of each hypothesis."""
        functions, layout = self.functions, self.functions.layout
        widths = layout.words * WORD
        valid = layout.unpack(layout.pack(np.ones((1, layout.sizes.sum()), dtype=bool)))
        weight = np.tile(valid * np.repeat(np.exp(functions.log_prior), widths), (len(xs), 1))
        total = self._sums(weight)
        means = np.empty(ys.shape)
        for i in range(xs.shape[1]):
            inputs = np.exp(functions.inputs(xs[:, i]))
            saying_plus = weight * layout.unpack(functions.labels(xs[:, i]))
            sums = self._sums(saying_plus)
            by_value = np.stack([total - sums, sums], axis=1) * inputs
            minus, plus = by_value.sum(2).T
            check_evidence(plus + minus > 0, first, i)
            means[:, i] = (1 - 2 * self.noise) * (plus - minus) / (plus + minus)
            flip = np.where(ys[:, i], self.noise, 1 - self.noise)  # P(y | h(x) = −1)
            factor = np.stack([flip, 1 - flip], axis=1)[..., None]
            total = (by_value * factor).sum(1)
            scale = total.sum(1)[:, None]
            low, high = np.moveaxis(inputs * factor, 1, 0) / scale
            # weight · low where the hypothesis says −1, weight · high where it says +1, in place.
            saying_plus *= np.repeat(high - low, widths, axis=1)
            weight *= np.repeat(low, widths, axis=1)
            weight += saying_plus
            total /= scale
        return means

    def _sums(self, weight: np.ndarray) -> np.ndarray:
        """Weights summed in each group, [point group]."""
        return np.add.reduceat(weight, self.functions.layout.starts * WORD, axis=1)
