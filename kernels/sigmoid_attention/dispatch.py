"""The public functions of sigmoid attention; which path a call takes is `scores.function`'s choice."""

import math

from jaxtyping import Bool, Float, Int
from torch import Tensor

from microtome.kernels.scores import function
from microtome.kernels.scores.transform import check_values, score_transform
from microtome.kernels.sigmoid_attention.equation import Sigmoid


def attention(
    q: Float[Tensor, "batch head query d_head"],
    k: Float[Tensor, "batch head key d_head"],
    v: Float[Tensor, "batch head key d_head"],
    *,
    b: float,
    bias: Float[Tensor, "bias_head query key"] | None = None,
    causal: bool = False,
    mask: Bool[Tensor, "batch key"] | None = None,
    scale: float | None = None,
    positions: Int[Tensor, " query"] | None = None,
) -> Float[Tensor, "batch head query d_head"]:
    """z_i = Σ_j σ(scale·q_i·k_j + bias_ij + b) v_j (Ramapuram et al. 2025), no row normalised.

    `b` is added to every logit, −log n by custom. `bias` is [head or 1, query, key], ALiBi's for instance. `mask` is
    True where a key may be attended to; `causal` lets row i attend to keys j ≤ i, or j ≤ positions[i] when the queries
    are a subset of the rows. `scale` defaults to 1/√d_head. A row with no key to attend to gives z_i = 0.

    Small problems keep their scores; from `scores.function.WHOLE_SCORES` on tiles of rows and keys (Triton on a GPU)
    hold memory linear in n. Differentiable in q, k, v and bias; tiles and Triton only once.

    Raises ValueError or TypeError on shapes, dtypes, positions, or a scale or b that is not finite.
    """
    check_values(k, v)
    transform = score_transform(q, k, bias=bias, causal=causal, mask=mask, scale=scale, positions=positions)
    return function.attend(q, k, v, transform, _sigmoid(b))


def row_entropy(
    q: Float[Tensor, "batch head query d_head"],
    k: Float[Tensor, "batch head key d_head"],
    *,
    b: float,
    bias: Float[Tensor, "bias_head query key"] | None = None,
    causal: bool = False,
    mask: Bool[Tensor, "batch key"] | None = None,
    scale: float | None = None,
    positions: Int[Tensor, " query"] | None = None,
) -> Float[Tensor, "batch head query"]:
    """Entropy in nats of each row of weights divided by its sum, without gradient and without an n×n matrix.

    Arguments and errors are those of `attention`; float32 (float64 for float64 inputs), 0 for a row without keys.
    """
    transform = score_transform(q, k, bias=bias, causal=causal, mask=mask, scale=scale, positions=positions)
    return function.row_entropy(q, k, transform, _sigmoid(b))


def _sigmoid(b: float) -> Sigmoid:
    if not math.isfinite(b):
        raise ValueError(f"b must be a finite number, got {b}")
    return Sigmoid(float(b))
