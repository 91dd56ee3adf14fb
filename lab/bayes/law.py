"""Predictive laws: what a posterior says of a label beyond its mean and variance, and whether it says true.

A predictor that knows the whole law of y_i given the pairs before has `law(xs, ys)`, a `torch.distributions`
distribution of batch shape [batch points]. Two measures then hold it against labels: the log score, which no other law
beats in expectation on data of its own (Gneiting & Raftery 2007), and the probability integral transform, uniform if
and only if the law is that of the labels given the pairs before (Dawid 1984; simulation-based calibration is the same
of parameters, Talts et al. 2018).
"""

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from scipy.special import chdtrc
from torch import Tensor
from torch.distributions import Bernoulli, Distribution, Normal

from microtome.lab.bayes.protocol import Prediction, Predictor, in_dtype

LEAST_STD = 1e-9
"""Where a label is known for sure its law is a normal one this narrow."""


@runtime_checkable
class Probabilistic(Predictor, Protocol):
    """A predictor that knows the law of every label."""

    def law(self, xs: Float[Tensor, "batch points dim"], ys: Float[Tensor, "batch points"]) -> Distribution:
        """The law of y_i given x_i and the pairs before i, for every i; batch shape [batch points], float64.

        Raises:
            ValueError: as `predict`.
        """
        ...


class Signs(Distribution):
    """Labels −1 and +1.

    Args:
        mean: P(+1) − P(−1) in [−1, 1].
    """

    arg_constraints = {}  # noqa: RUF012 — torch reads it from the class
    has_rsample = False

    def __init__(self, mean: Float[Tensor, "batch points"]):
        super().__init__(mean.shape, validate_args=False)
        self._mean = mean
        self._plus = Bernoulli(((1 + mean) / 2).clamp(0, 1), validate_args=False)

    mean = property(lambda self: self._mean)
    variance = property(lambda self: 1 - self._mean.square())

    def prediction(self, dtype: torch.dtype) -> Prediction:
        """Its mean and variance, in the dtype of the prompts."""
        return in_dtype(dtype, self.mean, self.variance)

    def log_prob(self, value: Tensor) -> Tensor:
        """Of labels ±1; −∞ where a label was impossible."""
        probability = torch.where(value > 0, self._plus.probs, 1 - self._plus.probs)
        return probability.log()

    def cdf(self, value: Tensor) -> Tensor:
        """P(y ≤ value)."""
        below = torch.where(value >= -1, 1 - self._plus.probs, 0.0)
        return torch.where(value >= 1, 1.0, below)


def gaussian(prediction: Prediction) -> Normal:
    """The normal law with a prediction's mean and variance.

    Raises:
        ValueError: if the prediction has no variance.
    """
    if prediction.variance is None:
        raise ValueError("a prediction without variance has no law.")
    std = prediction.variance.double().sqrt().clamp(min=LEAST_STD)
    return Normal(prediction.mean.double(), std, validate_args=False)


def log_score(law: Distribution, ys: Float[Tensor, "batch points"]) -> Float[Tensor, "batch points"]:
    """log p(y_i | x_i, pairs before i) in nats."""
    return law.log_prob(ys.double())


def integral_transform(
    law: Distribution, ys: Float[Tensor, "batch points"], generator: torch.Generator
) -> Float[Tensor, "batch points"]:
    """P(y < y_i) + u·P(y = y_i), u ~ U(0, 1): uniform on [0, 1] if the labels have this law, atoms included.

    Args:
        law: of the labels.
        ys: the labels.
        generator: draws u, which only matters where the law has atoms, as `Signs` has.
    """
    values = ys.double()
    upto = law.cdf(values)
    if not isinstance(law, Signs):
        return upto
    below = torch.where(values > 0, law.cdf(values - 1), 0.0)
    return below + torch.rand(ys.shape, generator=generator, dtype=torch.float64) * (upto - below)


def uniformity(transform: Float[Tensor, " draws"], bins: int = 20) -> float:
    """The p-value of Pearson's χ² test that independent draws are uniform on [0, 1].

    Raises:
        ValueError: with fewer than five draws a bin, where the χ² law does not hold yet.
    """
    if len(transform) < 5 * bins:
        raise ValueError(f"{bins} bins need at least {5 * bins} draws, not {len(transform)}.")
    counts = torch.histc(transform.double(), bins=bins, min=0.0, max=1.0)
    expected = len(transform) / bins
    return float(chdtrc(bins - 1, float((counts - expected).square().sum() / expected)))
