"""Intervals around predictions: out of a law where there is one, else out of errors on prompts of the training law."""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution, MixtureSameFamily, Normal

from microtome.lab.bayes.protocol import Predictor

Scalars = Float[Tensor, "batch points"]

BISECTIONS = 60
"""Halvings of the bracket of a mixture's quantile: to 1e-18 of its width."""


def central(law: Distribution, level: float) -> tuple[Scalars, Scalars]:
    """The interval that leaves (1 − level)/2 of the law's probability at either side.

    Args:
        law: normal, or a mixture of normals.
        level: the probability inside, between 0 and 1.

    Raises:
        ValueError: for another level. TypeError: for a law of another kind.
    """
    _check_level(level)
    tails = ((1 - level) / 2, (1 + level) / 2)
    if isinstance(law, Normal):
        low, high = (law.icdf(torch.full_like(law.mean, tail)) for tail in tails)
        return low, high
    if isinstance(law, MixtureSameFamily) and isinstance(law.component_distribution, Normal):
        low, high = (_quantile(law, tail) for tail in tails)
        return low, high
    raise TypeError(f"central intervals are made of normal laws and mixtures of them, not of {type(law).__name__}.")


def half_widths(
    predictor: Predictor, xs: Float[Tensor, "batch points dim"], ys: Scalars, level: float
) -> Float[Tensor, " points"]:
    """For each context length the least r for which at least `level` of these prompts have |ŷ − y| ≤ r.

    Prompts of the law that a learner was trained on give intervals ŷ ± r that hold the label of another prompt of that
    law with probability at least `level` (split conformal prediction, Lei et al. 2018).

    Raises:
        ValueError: for another level than between 0 and 1, or too few prompts to reach it.
    """
    _check_level(level)
    count = len(ys)
    rank = -int(-(count + 1) * level // 1)  # ⌈(count + 1)·level⌉
    if rank > count:
        least = math.ceil(level / (1 - level) - 1e-9)
        raise ValueError(f"an interval of level {level} needs at least {least} prompts, not {count}.")
    errors = (predictor.predict(xs, ys).mean - ys).abs()
    return errors.sort(dim=0).values[rank - 1]


def _quantile(law: MixtureSameFamily, probability: float) -> Scalars:
    parts = law.component_distribution
    ends = parts.icdf(torch.full_like(parts.mean, probability))
    low, high = ends.min(-1).values, ends.max(-1).values  # the mixture's quantile lies between those of its parts
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        below = law.cdf(middle) < probability
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return (low + high) / 2


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, not {level}.")
