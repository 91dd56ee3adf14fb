"""What every predictor takes and gives, whether it is exact, classical or a trained network.

The law of prefixes: entry i of a prediction is made from the pairs before i and from x_i; entry 0 is the prior mean.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Prediction:
    """What a predictor says about each y of each prompt.

    Attributes:
        mean: the point prediction of y_i, [batch points].
        variance: the variance of y_i around it, label noise included, [batch points]; None where the
            predictor has no law to give one.
    """

    mean: Float[Tensor, "batch points"]
    variance: Float[Tensor, "batch points"] | None = None


@runtime_checkable
class Predictor(Protocol):
    """Predicts every y of a prompt from the pairs before it."""

    @property
    def name(self) -> str:
        """A short name for legends and tables."""
        ...

    def predict(self, xs: Float[Tensor, "batch points dim"], ys: Float[Tensor, "batch points"]) -> Prediction:
        """Mean and variance of y_i given x_i and the pairs before i, for every i; y_i itself is never read.

        Raises:
            ValueError: if the shapes do not fit, a batch or a prompt is empty, or a number is not finite.
        """
        ...


@runtime_checkable
class LinearPredictor(Predictor, Protocol):
    """A predictor whose mean is ŵᵀx_i, with ŵ learnt from the pairs before i."""

    def weights(
        self, xs: Float[Tensor, "batch points dim"], ys: Float[Tensor, "batch points"]
    ) -> Float[Tensor, "batch points dim"]:
        """ŵ of every prefix; entry i is learnt from the pairs before i, so entry 0 is zero."""
        ...


def checked(xs: Tensor, ys: Tensor) -> tuple[Tensor, Tensor]:
    """The prompts in float64 and cut off from autograd, as every predictor here computes: an answer, not a layer.

    Args:
        xs: inputs, [batch points dim].
        ys: labels, [batch points].

    Raises:
        TypeError: if either is not a tensor of floating-point numbers.
        ValueError: if the shapes do not fit, an axis is empty, or a number is not finite.
    """
    for name, tensor in (("xs", xs), ("ys", ys)):
        if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
            kind = tensor.dtype if isinstance(tensor, Tensor) else type(tensor).__name__
            raise TypeError(f"{name} must be a tensor of floating-point numbers, not {kind}.")
    if xs.ndim != 3 or ys.ndim != 2 or xs.shape[:2] != ys.shape:
        raise ValueError(
            "xs must be [batch points dim] and ys [batch points] with the same batch and points, "
            f"not {list(xs.shape)} and {list(ys.shape)}."
        )
    if xs.numel() == 0:
        raise ValueError(f"xs needs at least one prompt, one point and one dimension, not the shape {list(xs.shape)}.")
    for name, tensor in (("xs", xs), ("ys", ys)):
        if not torch.isfinite(tensor).all():
            prompt = int((~torch.isfinite(tensor)).flatten(1).any(1).nonzero()[0])
            raise ValueError(f"{name} must be finite, but prompt {prompt} holds an infinity or a NaN.")
    return xs.detach().double(), ys.detach().double()


def in_dtype(dtype: torch.dtype, mean: Tensor, variance: Tensor | None = None) -> Prediction:
    """A prediction in the dtype of the prompts it was made for."""
    return Prediction(mean.to(dtype), None if variance is None else variance.to(dtype))
