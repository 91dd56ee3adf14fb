"""Toeplitz matrices times tall ones by the fast Fourier transform, and linear attention whose weights they multiply.

    y_i = Σ_j t_{j−i} x_j                                                                                         (1)
    z_i = Σ_j e^{b_{j−i}} φ(q_i)·φ(k_j) v_j / Σ_j e^{b_{j−i}} φ(q_i)·φ(k_j)                                       (2)

(2) is (1) applied to the n × m(d_v + 1) matrix of the φ(k_j) [v_j, 1]ᵀ, contracted with φ(q_i): O(n log n · m · d_v)
operations and no n × n tensor (Luo et al. 2021, "Stable, Fast and Accurate: Kernelized Attention with Relative
Positional Encoding", section 3, slug `nprf`). On a grid of positions t depends on both offsets, and the transform has
two axes. The transform is torch's on every device (pocketfft or MKL, cuFFT); there is no Triton path to it.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from scipy.fft import next_fast_len
from torch import Tensor
from torch.utils.checkpoint import checkpoint

Tall = Float[Tensor, "batch head pos feature"]
Table = Float[Tensor, "head *offsets"]

HELD = 1 << 22
"""Up to how many numbers of φ(k_j) [v_j, 1]ᵀ are held at once; features beyond take their turn."""
WIDE, HOPELESS = 6.0, 24.0
"""Ranges of b from which on the transform's error would be felt in float32, and in float64."""


def reference(table: Table, x: Tall) -> Tall:
    """(1) with the matrix written out."""
    return _matrix(table).to(x.dtype) @ x


def toeplitz_product(table: Table, x: Tall, *, causal: bool = False) -> Tall:
    """y of equation (1), in x's dtype; the transform runs in float32 or better. Differentiable in both arguments.

    Args:
        table: t of each head. A sequence of n positions has offsets −(n−1) … n−1, in this order; a grid of n_1 × n_2
            positions has such an axis for each of its own, and its positions lie row by row in x.
        x: what is multiplied.
        causal: take t_δ as 0 for δ > 0, so that y_i needs x_j with j ≤ i only.

    Raises:
        ValueError: for a table of another size than x's positions, or a causal grid.
    """
    sizes = _sizes(table, x.shape[2], causal)
    wide = torch.promote_types(torch.promote_types(table.dtype, x.dtype), torch.float32)
    spectrum = _spectrum(table.to(wide), sizes, causal)
    return _convolve(spectrum, x.to(wide).mT, sizes).mT.to(x.dtype)


def relative_linear_pattern(
    phi_q: Float[Tensor, "batch head pos map"],
    phi_k: Float[Tensor, "batch head pos map"],
    b: Table,
    *,
    causal: bool = False,
) -> Float[Tensor, "batch head query key"]:
    """The n × n weights of equation (2), rows summing to one, or zero where no key has a feature; the reference.

    Arguments as `relative_linear_attention`.
    """
    _sizes(b, phi_q.shape[2], causal)
    n = phi_q.shape[2]
    log_weight = _matrix(b)
    if causal:
        log_weight = log_weight.masked_fill(torch.ones(n, n, dtype=torch.bool, device=b.device).triu(1), -torch.inf)
    top = log_weight.detach().amax(-1, keepdim=True)
    weights = (phi_q @ phi_k.mT) * (log_weight - top).exp().to(phi_q.dtype)
    total = weights.sum(-1, keepdim=True)
    return weights / total.masked_fill(total == 0, 1.0)


def relative_linear_attention(
    phi_q: Float[Tensor, "batch head pos map"],
    phi_k: Float[Tensor, "batch head pos map"],
    v: Float[Tensor, "batch head pos d_head"],
    b: Table,
    *,
    causal: bool = False,
) -> Float[Tensor, "batch head pos d_head"]:
    """z of equation (2), in v's dtype; zero where a row's weights sum to zero.

    The transform's error is relative to the largest e^b of any row: from a range of b of `WIDE` on it runs in float64,
    and from `HOPELESS` on the n × n weights are made instead.

    Args:
        phi_q, phi_k: non-negative features of queries and keys; a key that nobody may see has zeros.
        v: values.
        b: log-weights by offset, laid out as `toeplitz_product` has it. Their maximum is subtracted, which cancels.
        causal: keys after a query weigh nothing.

    Raises:
        ValueError: as `toeplitz_product`.
    """
    sizes = _sizes(b, v.shape[2], causal)
    seen = b[:, : sizes[0]] if causal else b
    top = seen.detach().amax(tuple(range(1, seen.ndim)), keepdim=True)
    spread = float((top - seen.detach()).max())
    if spread > HOPELESS:
        return (relative_linear_pattern(phi_q, phi_k, b, causal=causal) @ v).to(v.dtype)
    wide = torch.float64 if spread > WIDE else torch.promote_types(v.dtype, torch.float32)
    spectrum = _spectrum((b - top).to(wide).exp(), sizes, causal)[:, None]
    phi_q, phi_k = phi_q.to(wide).mT, phi_k.to(wide).mT
    values = torch.cat([v, torch.ones_like(v[..., :1])], dim=-1).to(wide).mT
    total = _contract(phi_q, phi_k, values, spectrum, sizes)
    weight = total[..., -1:, :]
    # Rounding leaves a sum of nothing near zero, not at it.
    floor = torch.finfo(wide).eps * phi_q.detach().sum(-2, keepdim=True) * phi_k.detach().amax((-2, -1), keepdim=True)
    empty = weight <= floor
    return torch.where(empty, 0.0, total[..., :-1, :] / weight.masked_fill(empty, 1.0)).mT.to(v.dtype)


def _contract(phi_q: Tensor, phi_k: Tensor, values: Tensor, spectrum: Tensor, sizes: Sequence[int]) -> Tensor:
    """Numerator and denominator, [batch head d_head+1 pos], some features at a time."""

    def weigh(q_part: Tensor, k_part: Tensor) -> Tensor:
        summed = _convolve(spectrum, k_part[..., :, None, :] * values[..., None, :, :], sizes)
        return torch.einsum("bhmn,bhmvn->bhvn", q_part, summed)

    held = max(1, HELD // max(1, values.numel()))
    parts = list(zip(phi_q.split(held, -2), phi_k.split(held, -2), strict=True))
    if len(parts) == 1:
        return weigh(*parts[0])
    total = torch.zeros_like(values)
    for part in parts:
        # Kept for the backward pass, the parts would add up to what the split avoids.
        total = total + checkpoint(weigh, *part, use_reentrant=False, preserve_rng_state=False)
    return total


def _sizes(table: Tensor, n: int, causal: bool) -> list[int]:
    sizes = [(offsets + 1) // 2 for offsets in table.shape[1:]]
    if not sizes or math.prod(sizes) != n or any(offsets % 2 == 0 for offsets in table.shape[1:]):
        raise ValueError(
            f"a table of offsets {list(table.shape[1:])} does not belong to {n} positions: an axis of n positions has "
            "2n − 1 offsets."
        )
    if causal and len(sizes) > 1:
        raise ValueError("positions on a grid have no order to be causal in; use causal=False.")
    return sizes


def _matrix(table: Tensor) -> Tensor:
    """The matrix of equation (1), [head query key]."""
    sizes = [(offsets + 1) // 2 for offsets in table.shape[1:]]
    places = torch.cartesian_prod(*(torch.arange(size, device=table.device) for size in sizes)).reshape(-1, len(sizes))
    shifted = places[None] - places[:, None] + torch.tensor(sizes, device=table.device) - 1  # [query key axis]
    return table[(slice(None), *shifted.unbind(-1))]


def _spectrum(table: Tensor, sizes: Sequence[int], causal: bool) -> Tensor:
    """The transform of each head's table, flipped so that (1) is a convolution; [head 1 *frequencies]."""
    if causal:
        table = torch.cat([table[:, : sizes[0]], torch.zeros_like(table[:, sizes[0] :])], dim=1)
    axes = tuple(range(1, table.ndim))
    return torch.fft.rfftn(table.flip(axes), s=_lengths(sizes), dim=axes)[:, None]


def _convolve(spectrum: Tensor, x: Tensor, sizes: Sequence[int]) -> Tensor:
    """Equation (1) along the last axis, by a transform of length ≥ 2n − 1 along each axis of the grid: what wraps
    around falls on the first n − 1 outputs, which are cut off."""
    lengths, axes = _lengths(sizes), tuple(range(-len(sizes), 0))
    y = torch.fft.irfftn(torch.fft.rfftn(x.unflatten(-1, sizes), s=lengths, dim=axes) * spectrum, s=lengths, dim=axes)
    for axis, size in zip(axes, sizes, strict=True):
        y = y.narrow(axis, size - 1, size)
    return y.flatten(-len(sizes))


def _lengths(sizes: Sequence[int]) -> list[int]:
    return [next_fast_len(2 * size - 1, real=True) for size in sizes]
