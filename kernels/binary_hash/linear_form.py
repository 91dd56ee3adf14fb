"""Both forms of attention between binary codes, and the choice among ways to the linear one."""

import torch
from jaxtyping import Float
from torch import Tensor

from microtome.kernels.binary_hash.codes import pack
from microtome.kernels.gpu import takes_triton

Codes = Float[Tensor, "batch head pos bit"]
Values = Float[Tensor, "batch head pos d_head"]
Visible = Float[Tensor, "batch pos"]

CHUNK = 128
"""Positions that the causal form reads at once."""


def hashed_pattern(
    h: Codes, c: float, *, visible: Visible | None = None, causal: bool = False, released_bias: bool = False
) -> Float[Tensor, "batch head query key"]:
    """The n × n weights of equation (1); arguments as `hashed_attention`."""
    _check(h, c)
    inner = h @ h.mT
    scores = inner + c
    weights = inner + c * torch.eye(h.shape[2], dtype=h.dtype, device=h.device) if released_bias else scores
    if visible is not None:
        scores, weights = scores * visible[:, None, None], weights * visible[:, None, None]
    if causal:
        scores, weights = scores.tril(), weights.tril()
    total = scores.sum(-1, keepdim=True)
    return weights / total.masked_fill(total == 0, 1.0)


def reference(h: Codes, v: Values, c: float, *, visible: Visible | None = None) -> Values:
    """Equation (2) for the whole input, every product with ±1 an addition of a value or of its negative."""
    _check(h, c)
    v = torch.cat([v, torch.ones_like(v[..., :1])], -1)
    if visible is not None:
        v = v * visible[:, None, :, None]
    flipped = torch.where(h[..., None] > 0, v[..., None, :], -v[..., None, :])  # [batch head pos bit d_head+1]
    state, total = flipped.sum(2, keepdim=True), v.sum(2, keepdim=True)
    sums = torch.where(h[..., None] > 0, state, -state).sum(3) + c * total
    return sums[..., :-1] / sums[..., -1:].masked_fill(sums[..., -1:] == 0, 1.0)


def hashed_attention(
    h: Codes,
    v: Values,
    c: float,
    *,
    visible: Visible | None = None,
    causal: bool = False,
    released_bias: bool = False,
) -> Values:
    """z of equation (2); a GPU without gradients takes the Triton path, everything else two matrix products.

    Args:
        h: codes of ±1, of queries and keys alike.
        v: values.
        c: what is added to every inner product, more than the number of bits.
        visible: 1 at keys that may be seen, 0 at others; None for all.
        causal: keys after a query weigh nothing.
        released_bias: add c·v_i where (2) has c Σ_j v_j, as the published code does; rows then do not sum to one.

    Raises:
        ValueError: if c is at most the number of bits.
    """
    _check(h, c)
    if _takes_triton(h, v, causal, released_bias):
        from microtome.kernels.binary_hash import triton_path

        return triton_path.attention(pack(h)[..., 0].int(), v, c, h.shape[-1], visible)
    with_one = torch.cat([v, torch.ones_like(v[..., :1])], -1)
    if visible is not None:
        with_one = with_one * visible[:, None, :, None]
    sums = _causal_sums(h, with_one, c) if causal else _sums(h, with_one, c)
    weighted, total = sums[..., :-1], sums[..., -1:]
    if released_bias:
        own = with_one[..., :-1]
        every = own.cumsum(2) if causal else own.sum(2, keepdim=True)
        weighted = weighted + c * (own - every)
    return weighted / total.masked_fill(total == 0, 1.0)


def _sums(h: Tensor, v: Tensor, c: float) -> Tensor:
    return h @ (h.mT @ v) + c * v.sum(2, keepdim=True)


def _causal_sums(h: Tensor, v: Tensor, c: float) -> Tensor:
    state, total, parts = (
        v.new_zeros(*h.shape[:2], h.shape[3], v.shape[3]),
        v.new_zeros(*h.shape[:2], 1, v.shape[3]),
        [],
    )
    for h_part, v_part in zip(h.split(CHUNK, 2), v.split(CHUNK, 2), strict=True):
        parts.append((h_part @ h_part.mT + c).tril() @ v_part + h_part @ state + c * total)
        state, total = state + h_part.mT @ v_part, total + v_part.sum(2, keepdim=True)
    return torch.cat(parts, 2)


def _takes_triton(h: Tensor, v: Tensor, causal: bool, released_bias: bool) -> bool:
    trained = torch.is_grad_enabled() and (h.requires_grad or v.requires_grad)
    if not takes_triton(v) or causal or released_bias or trained:
        return False
    from microtome.kernels.binary_hash import triton_path

    return triton_path.supports(h.shape[-1], v)


def _check(h: Tensor, c: float) -> None:
    if not c > h.shape[-1]:
        raise ValueError(f"c must exceed the {h.shape[-1]} bits of a code, so that weights are positive; got {c}.")
