"""Decode attention as it is written down, and the checks of its arguments.

    z_bh = Σ_{j < n_b} softmax_j(scale · q_bh·k_bgj) v_bgj,   g = ⌊h · kv_heads / heads⌋

(Vaswani et al. 2017, eq. 1; groups of query heads share keys and values, Ainslie et al. 2023.) There is one query a
sequence, the newest, so that no key lies in its future. A sequence of no keys gives z = 0.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor


def reference(
    q: Float[Tensor, "batch head d_head"],
    k: Float[Tensor, "batch kv_head key d_head"],
    v: Float[Tensor, "batch kv_head key d_head"],
    lengths: Int[Tensor, " batch"] | None = None,
    scale: float | None = None,
) -> Float[Tensor, "batch head d_head"]:
    """z by the equation, keys and values repeated for each query head of their group."""
    group = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
    s = torch.einsum("bhd,bhnd->bhn", q, k) * (q.shape[-1] ** -0.5 if scale is None else scale)
    if lengths is not None:
        s = s.masked_fill(torch.arange(k.shape[2], device=k.device) >= lengths[:, None, None], -torch.inf)
        s = s.masked_fill(lengths[:, None, None] == 0, 0.0)
    z = torch.einsum("bhn,bhnd->bhd", s.softmax(-1), v)
    return z if lengths is None else z.masked_fill(lengths[:, None, None] == 0, 0.0)


def check(q: Tensor, k: Tensor, v: Tensor, lengths: Tensor | None, scale: float | None) -> None:
    """Raises ValueError or TypeError with one sentence that names the argument, what it was and what is allowed."""
    for name, x, axes in (("q", q, 3), ("k", k, 4), ("v", v, 4)):
        if x.dim() != axes or not x.is_floating_point():
            wanted = "[batch, head, d_head]" if axes == 3 else "[batch, kv_head, key, d_head]"
            raise ValueError(f"{name} must be a floating-point tensor {wanted}, got {x.dtype} {tuple(x.shape)}")
    if {(x.dtype, x.device) for x in (k, v)} != {(q.dtype, q.device)}:
        raise TypeError(
            f"q, k and v must share dtype and device, got {', '.join(f'{x.dtype} on {x.device}' for x in (q, k, v))}"
        )
    batch, head, d_head = q.shape
    if v.shape != k.shape or (k.shape[0], k.shape[3]) != (batch, d_head):
        raise ValueError(
            f"k and v must both be [batch, kv_head, key, d_head] with the batch and d_head of q {tuple(q.shape)}, "
            f"got {tuple(k.shape)} and {tuple(v.shape)}"
        )
    if d_head == 0 or k.shape[1] == 0 or head % k.shape[1]:
        raise ValueError(
            f"q's {head} heads must be a multiple of k's {k.shape[1]}, and d_head at least 1, got {d_head}"
        )
    if lengths is not None:
        if lengths.shape != (batch,) or lengths.is_floating_point() or lengths.dtype == torch.bool:
            raise ValueError(
                f"lengths must be integers [batch] = ({batch},), got {lengths.dtype} {tuple(lengths.shape)}"
            )
        if batch and not 0 <= int(lengths.min()) <= int(lengths.max()) <= k.shape[2]:
            raise ValueError(
                f"lengths must lie between 0 and the cache's {k.shape[2]} keys, got {int(lengths.min())} to "
                f"{int(lengths.max())}"
            )
    if scale is not None and not math.isfinite(scale):
        raise ValueError(f"scale must be a finite number, got {scale}")
