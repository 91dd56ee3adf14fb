"""Attention on packed rows as it is written down, and the checks of its arguments.

    z_i = Σ_{j in the sequence of i} softmax_j(scale · q_i·k_j) v_j

(Vaswani et al. 2017, eq. 1, in each sequence by itself.)
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from microtome.kernels.byte_transformer.packing import Packing


def reference(
    q: Float[Tensor, "token head d_head"],
    k: Float[Tensor, "token head d_head"],
    v: Float[Tensor, "token head d_head"],
    packing: Packing,
    scale: float | None = None,
) -> Float[Tensor, "token head d_head"]:
    """z by the equation, one T×T matrix in which rows of other sequences are forbidden."""
    counts = torch.tensor(packing.lengths, dtype=torch.int64, device=q.device)
    owner = torch.arange(len(packing.lengths), device=q.device).repeat_interleave(counts)
    s = torch.einsum("ihd,jhd->hij", q, k) * (q.shape[-1] ** -0.5 if scale is None else scale)
    p = s.masked_fill(owner[:, None] != owner, -torch.inf).softmax(-1)
    return torch.einsum("hij,jhd->ihd", p, v)


def check(q: Tensor, k: Tensor, v: Tensor, packing: Packing, scale: float | None) -> None:
    """Raises ValueError or TypeError with one sentence that names the argument, what it was and what is allowed."""
    for name, x in (("q", q), ("k", k), ("v", v)):
        if x.dim() != 3 or not x.is_floating_point() or x.shape[0] != packing.tokens:
            raise ValueError(
                f"{name} must be floating-point packed rows [token, head, d_head] of {packing.tokens} tokens, "
                f"got {x.dtype} {tuple(x.shape)}"
            )
    if {(x.dtype, x.device) for x in (k, v)} != {(q.dtype, q.device)}:
        raise TypeError(
            f"q, k and v must share dtype and device, got {', '.join(f'{x.dtype} on {x.device}' for x in (q, k, v))}"
        )
    if k.shape != q.shape or v.shape != q.shape or q.shape[2] == 0:
        raise ValueError(
            f"q, k and v must have one shape with d_head at least 1, got {tuple(q.shape)}, {tuple(k.shape)} and "
            f"{tuple(v.shape)}"
        )
    if scale is not None and not math.isfinite(scale):
        raise ValueError(f"scale must be a finite number, got {scale}")
