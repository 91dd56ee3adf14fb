"""Which frequencies a learner puts into the function it has in mind after a prompt.

Panwar, Ahuja & Goyal 2024, "In-context learning through the Bayesian prism", slug `icl_bayesian_prism`, section on
simplicity bias: after a prefix the learner predicts on an even grid over one period, and the discrete Fourier
transform of what it says tells which functions it holds likely.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from microtome.lab.bayes.measures import answers_to
from microtome.lab.bayes.protocol import Predictor, checked


def frequency_content(
    predictor: Predictor,
    xs: Float[Tensor, "batch points 1"],
    ys: Float[Tensor, "batch points"],
    half_period: float = 5.0,
    queries: int = 40,
) -> Float[Tensor, "batch frequencies"]:
    """Shares of the frequencies n = 0 … queries/2 in what a predictor says on [−L, L) after a whole prompt.

    With f(x) ≈ a₀ + Σ_n a_n cos(nπx/L) + b_n sin(nπx/L), the share of n is a_n² + b_n² over the sum of these. The grid
    leaves out L, which is −L one period on, so that a pure harmonic falls on one frequency.

    Args:
        predictor: any, of one-dimensional x.
        xs: inputs of the context; every pair of it is shown.
        ys: labels of the context.
        half_period: L > 0.
        queries: points of the grid, even, at least 2.

    Raises:
        ValueError: if the context is no prompt of one-dimensional x, L is out of range, queries is odd or below 2,
            or a predictor says zero everywhere, where shares have no meaning.
    """
    checked(xs, ys)
    if xs.shape[-1] != 1:
        raise ValueError(f"frequencies are those of functions of one-dimensional x, not of {xs.shape[-1]} dimensions.")
    if not 0 < half_period < math.inf:
        raise ValueError(f"half_period must be finite and above 0, not {half_period}.")
    if queries < 2 or queries % 2:
        raise ValueError(f"queries must be even and at least 2, not {queries}.")
    grid = half_period * (2 * torch.arange(queries, dtype=xs.dtype, device=xs.device) / queries - 1)
    power = _power(answers_to(predictor, xs, ys, grid[:, None].expand(len(xs), -1, 1)))
    total = power.sum(-1, keepdim=True)
    if (total == 0).any():
        raise ValueError("after a prompt of these the predictor says zero everywhere: it has no frequencies.")
    return (power / total).to(xs.dtype)


def _power(values: Tensor) -> Tensor:
    """a_n² + b_n² for n = 0 … queries/2, [batch frequencies]."""
    count = values.shape[-1]
    amplitude = torch.fft.rfft(values).abs() * (2 / count)
    amplitude[..., [0, -1]] /= 2  # the mean and the highest frequency appear once in the transform, the others twice
    return amplitude.square()
