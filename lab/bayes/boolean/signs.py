"""Prompts of ±1 inputs and labels as bits, and the sentences for those that are none."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool
from torch import Tensor

from microtome.lab.bayes.protocol import checked

Bits = Bool[np.ndarray, "batch points dim"]


@dataclass(frozen=True)
class BitPrompts:
    """Prompts with true for +1 and false for −1.

    Attributes:
        xs: inputs, [batch points dim].
        ys: labels, [batch points].
    """

    xs: Bits
    ys: Bool[np.ndarray, "batch points"]


def as_bits(xs: Tensor, ys: Tensor, dim: int | None = None) -> BitPrompts:
    """The prompts as bits.

    Args:
        xs: inputs, [batch points dim], each ±1.
        ys: labels, [batch points], each ±1.
        dim: the dimension that the predictor knows, if it knows one.

    Raises:
        TypeError, ValueError: as `checked`; ValueError also for a number that is not ±1 or another dimension.
    """
    inputs, labels = checked(xs, ys)
    if dim is not None and xs.shape[2] != dim:
        raise ValueError(f"this predictor knows functions of {dim} bits, but xs has {xs.shape[2]} dimensions.")
    for name, tensor in (("xs", inputs), ("ys", labels)):
        wrong = tensor[tensor.abs() != 1]
        if len(wrong):
            raise ValueError(f"{name} of Boolean prompts must be −1 or +1, but holds {wrong[0].item() + 0.0:g}.")
    return BitPrompts((inputs > 0).cpu().numpy(), (labels > 0).cpu().numpy())


def check_noise(noise: float) -> None:
    """Raises ValueError unless the probability that a label is flipped lies between 0 and ½."""
    if not 0 <= noise <= 0.5:
        raise ValueError(f"noise is the probability that a label is flipped, between 0 and ½, not {noise}.")


def check_share(**shares: float) -> None:
    """Raises ValueError, naming the one at fault, unless every probability lies between 0 and 1."""
    for name, share in shares.items():
        if not 0 <= share <= 1:
            raise ValueError(f"{name} is a probability between 0 and 1, not {share}.")
