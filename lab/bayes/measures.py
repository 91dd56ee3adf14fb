"""How far predictors are from the labels, from the exact answer and from each other, per context length.

SPD, MSPD and ILWD are those of Akyürek et al. (2023, icl_linear_algorithms).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from microtome.lab.bayes.protocol import Prediction, Predictor, checked

Vectors = Float[Tensor, "batch points dim"]
Scalars = Float[Tensor, "batch points"]


@dataclass(frozen=True)
class Interval:
    """An estimate per context length k = 0, 1, … with a bootstrap interval, each [points]."""

    mean: Float[Tensor, " points"]
    low: Float[Tensor, " points"]
    high: Float[Tensor, " points"]


def squared_error(prediction: Prediction, ys: Scalars) -> Scalars:
    """(ŷ_i − y_i)² of every prompt and position.

    Raises:
        ValueError: if the prediction was made for prompts of another shape.
    """
    _check_same_prompts("prediction", prediction.mean, "ys", ys)
    return (prediction.mean - ys).square()


def zero_one_error(prediction: Prediction, ys: Scalars) -> Scalars:
    """1 where the sign of the prediction is not the label ±1, else 0; a prediction of 0 is an error.

    Raises:
        ValueError: if the prediction was made for prompts of another shape, or a label is not ±1.
    """
    _check_same_prompts("prediction", prediction.mean, "ys", ys)
    if not (ys.abs() == 1).all():
        raise ValueError("labels must be −1 or +1 to count errors.")
    return (prediction.mean.sign() != ys).to(ys.dtype)


def points_to_reach(curve: Float[Tensor, " points"], level: float) -> int | None:
    """The sample efficiency: the least k from which on the accuracy after k pairs stays at `level` or above.

    Args:
        curve: accuracy (or any gain) per context length k = 0, 1, …
        level: what is to be reached.

    Returns:
        k, or None if the last entry is below the level.
    """
    below = (curve < level).nonzero()
    first = int(below.max()) + 1 if len(below) else 0
    return first if first < len(curve) else None


def excess_risk(
    prediction: Prediction,
    bayes: Prediction,
    ys: Scalars,
    generator: torch.Generator,
    level: float = 0.95,
    resamples: int = 1000,
    loss: Callable[[Prediction, Scalars], Scalars] = squared_error,
) -> Interval:
    """Mean loss above that of the exact answer on the same prompts, with a percentile bootstrap over them.

    Args:
        prediction: of the predictor in question.
        bayes: of the exact answer, on the same prompts.
        ys: the labels of the prompts.
        generator: draws the resamples.
        level: coverage of the interval, between 0 and 1.
        resamples: how many bootstrap samples, at least 2.
        loss: of a prediction, per prompt and position.

    Raises:
        ValueError: if the shapes differ, there are fewer than two prompts, or level or resamples is out of range.
    """
    if len(ys) < 2:
        raise ValueError(f"a bootstrap over prompts needs at least two of them, not {len(ys)}.")
    if not 0 < level < 1 or resamples < 2:
        raise ValueError(
            f"level must lie between 0 and 1 and resamples be at least 2, not level={level} and resamples={resamples}."
        )
    excess = (loss(prediction, ys) - loss(bayes, ys)).double()
    means = torch.cat([_resampled_means(excess, block, generator) for block in _blocks(resamples, len(ys))])
    tail = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=means.dtype, device=means.device)
    low, high = means.quantile(tail, dim=0)
    return Interval(excess.mean(0), low, high)


def spd(a: Prediction, b: Prediction, dim: int) -> Float[Tensor, " points"]:
    """Squared prediction difference E(A(x) − B(x))²/d at every context length.

    Raises:
        ValueError: if the predictions are of different prompts, or dim is below 1.
    """
    _check_same_prompts("a", a.mean, "b", b.mean)
    if dim < 1:
        raise ValueError(f"dim must be at least 1, not {dim}.")
    return (a.mean - b.mean).square().mean(0) / dim


def mspd(a: Prediction, b: Prediction, dim: int) -> Float[Tensor, ""]:
    """Mean of `spd` over the context lengths 1 ≤ k < d, where the predictors of a linear problem part.

    Raises:
        ValueError: as `spd`; also if dim is 1 or the prompts are shorter than dim, so that a context length is missing.
    """
    points = a.mean.shape[1]
    if not 2 <= dim <= points:
        raise ValueError(
            "mspd averages over context lengths 1 to dim − 1: dim must be at least 2 and at most the "
            f"{points} points of these prompts, not {dim}."
        )
    return spd(a, b, dim)[1:dim].mean()


def implicit_weights(
    predictor: Predictor, xs: Vectors, ys: Scalars, queries: Float[Tensor, "batch queries dim"]
) -> Float[Tensor, "batch dim"]:
    """ŵ least-squares-fitted to what a predictor answers to fresh queries after a fixed context.

    Args:
        predictor: any; for one that is linear in the query these are its weights.
        xs: inputs of the context; every pair of it is shown.
        ys: labels of the context.
        queries: at least `dim` inputs for each prompt, in general position.

    Raises:
        ValueError: if the context is no prompt, or there are too few queries or ones of another shape.
    """
    checked(xs, ys)
    batch, _, dim = xs.shape
    if queries.ndim != 3 or len(queries) != batch or queries.shape[2] != dim:
        raise ValueError(f"queries must be [{batch} queries {dim}] to suit the context, not {list(queries.shape)}.")
    count = queries.shape[1]
    if count < dim:
        raise ValueError(f"weights in {dim} dimensions need at least {dim} queries, not {count}.")
    answers = answers_to(predictor, xs, ys, queries)
    fitted = torch.linalg.lstsq(queries.double(), answers[..., None]).solution
    return fitted.squeeze(-1).to(xs.dtype)


def answers_to(
    predictor: Predictor, xs: Vectors, ys: Scalars, queries: Float[Tensor, "batch queries dim"]
) -> Float[Tensor, "batch queries"]:
    """What a predictor says of each query after all pairs of a context, each asked in a prompt of its own; float64."""
    count = queries.shape[1]
    context = xs[:, None].expand(-1, count, -1, -1)
    asked = torch.cat([context, queries[:, :, None]], dim=2).flatten(0, 1)
    labels = torch.nn.functional.pad(ys, (0, 1)).repeat_interleave(count, dim=0)  # the query's own label is never read
    return predictor.predict(asked, labels).mean[:, -1].unflatten(0, (len(xs), count)).double()


def ilwd(
    a: Predictor, b: Predictor, xs: Vectors, ys: Scalars, queries: Float[Tensor, "batch queries dim"]
) -> Float[Tensor, ""]:
    """Implicit linear weight difference E‖ŵ_A − ŵ_B‖²/d after a fixed context.

    Raises:
        ValueError: as `implicit_weights`.
    """
    difference = implicit_weights(a, xs, ys, queries) - implicit_weights(b, xs, ys, queries)
    return difference.square().sum(-1).mean() / xs.shape[-1]


def _resampled_means(values: Tensor, resamples: int, generator: torch.Generator) -> Tensor:
    """Means over resampled prompts, [resamples points], as one product with the counts of each prompt."""
    batch = len(values)
    drawn = torch.randint(batch, (resamples, batch), generator=generator, device=generator.device).to(values.device)
    counts = values.new_zeros(resamples, batch).scatter_add_(1, drawn, values.new_ones(1, 1).expand_as(drawn))
    return counts @ values / batch


def _blocks(resamples: int, batch: int) -> list[int]:
    """The resamples cut so that their counts hold about a million numbers at once."""
    size = max(1, 2**20 // batch)
    return [min(size, resamples - start) for start in range(0, resamples, size)]


def _check_same_prompts(a: str, first: Tensor, b: str, second: Tensor) -> None:
    if first.shape != second.shape or first.numel() == 0:
        raise ValueError(
            f"{a} and {b} must be of the same prompts, at least one, not {list(first.shape)} and {list(second.shape)}."
        )
