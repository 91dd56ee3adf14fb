"""The public functions of PowerSoftmax attention; which path a call takes is `scores.function`'s choice."""

from jaxtyping import Bool, Float, Int
from torch import Tensor

from microtome.kernels.power_softmax.equation import PowerSoftmax
from microtome.kernels.scores import function
from microtome.kernels.scores.transform import check_values, score_transform


def attention(
    q: Float[Tensor, "batch head query d_head"],
    k: Float[Tensor, "batch head key d_head"],
    v: Float[Tensor, "batch head key d_head"],
    power_softmax: PowerSoftmax,
    *,
    bias: Float[Tensor, "bias_head query key"] | None = None,
    causal: bool = False,
    mask: Bool[Tensor, "batch key"] | None = None,
    scale: float | None = None,
    positions: Int[Tensor, " query"] | None = None,
) -> Float[Tensor, "batch head query d_head"]:
    """z_i = Σ_j w_ij v_j with the weights of `power_softmax` ("Power-Softmax", 2024) on scale·q·kᵀ + bias.

    `bias` is [head or 1, query, key]; a bias that falls with distance, as ALiBi's, *raises* even powers of negative
    scores. `mask` is True where a key may be attended to; `causal` lets row i attend to keys j ≤ i, or j ≤ positions[i]
    when the queries are a subset of the rows. `scale` defaults to 1/√d_head. A row with no key, or whose denominator
    is 0, gives z_i = 0.

    Small problems keep their scores; from `scores.function.WHOLE_SCORES` on tiles of rows (Triton on a GPU) hold memory
    linear in n. Differentiable in q, k, v and bias, c held constant; tiles and Triton only once.

    Raises ValueError or TypeError on shapes, dtypes, positions or a scale outside the above.
    """
    check_values(k, v)
    transform = score_transform(q, k, bias=bias, causal=causal, mask=mask, scale=scale, positions=positions)
    return function.attend(q, k, v, transform, power_softmax)


def row_entropy(
    q: Float[Tensor, "batch head query d_head"],
    k: Float[Tensor, "batch head key d_head"],
    power_softmax: PowerSoftmax,
    *,
    bias: Float[Tensor, "bias_head query key"] | None = None,
    causal: bool = False,
    mask: Bool[Tensor, "batch key"] | None = None,
    scale: float | None = None,
    positions: Int[Tensor, " query"] | None = None,
) -> Float[Tensor, "batch head query"]:
    """Entropy in nats of each row of weights divided by its sum, without gradient and without an n×n matrix.

    Arguments and errors are those of `attention`; float32 (float64 for float64 inputs), 0 for a row of zeros.
    """
    transform = score_transform(q, k, bias=bias, causal=causal, mask=mask, scale=scale, positions=positions)
    return function.row_entropy(q, k, transform, power_softmax)
