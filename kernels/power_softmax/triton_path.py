"""PowerSoftmax attention on a GPU: running sums, rescaled whenever the largest score of a row grows.

One program owns a block of rows and walks over the keys with m = max|x_ij| so far and the sums

    l = Σ_j (x_ij/m)^p,   acc = Σ_j (x_ij/m)^p v_j,

both multiplied by (m/m′)^p when m grows to m′. At the end c is m + δ, or 1 for the mean form, the sum is taken to the
scale of c by (m/c)^p, and z = acc·(m/c)^p/N with N = ε + l·(m/c)^p, or Lε in the place of ε for L keys. So half
precision does not overflow in either form. c and N are kept for `scores.triton_backward`.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

from microtome.kernels.ahead_of_time import Variant
from microtome.kernels.scores import block
from microtome.kernels.scores.block import load, power, scores
from microtome.kernels.scores.transform import ScoreTransform

if TYPE_CHECKING:
    from microtome.kernels.power_softmax.equation import PowerSoftmax


@triton.jit
@no_type_check
def _forward(
    q_ptr, k_ptr, v_ptr, z_ptr, c_ptr, total_ptr, bias_ptr, mask_ptr, position_ptr,
    scale, epsilon, delta, head, n_query, n_key,
    q_b, q_h, q_n, q_d, k_b, k_h, k_n, k_d, v_b, v_h, v_n, v_d, z_b, z_h, z_n, z_d,
    bias_h, bias_n, bias_m, mask_b, mask_m,
    D_HEAD: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    CAUSAL: tl.constexpr, HAS_BIAS: tl.constexpr, HAS_MASK: tl.constexpr, HAS_POSITIONS: tl.constexpr,
    P: tl.constexpr, MEAN: tl.constexpr, OPERAND: tl.constexpr,
):  # fmt: skip
    batch_head = tl.program_id(1).to(tl.int64)
    sample, h = batch_head // head, batch_head % head
    row = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    feature = tl.arange(0, BLOCK_D)
    row_in = row < n_query
    q = load(q_ptr + sample * q_b + h * q_h, row, feature, q_n, q_d, row_in, D_HEAD, OPERAND)
    stands = row
    if HAS_POSITIONS:
        stands = tl.load(position_ptr + row, mask=row_in, other=0)
    end = n_key
    if CAUSAL:
        end = tl.minimum(n_key, tl.max(tl.where(row_in, stands, 0), 0) + 1)
    m = tl.zeros([BLOCK_M], tl.float32)
    l = tl.zeros([BLOCK_M], tl.float32)
    seen = tl.zeros([BLOCK_M], tl.float32)
    acc = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
    for start in range(0, end, BLOCK_N):
        key = start + tl.arange(0, BLOCK_N)
        key_in = key < n_key
        k = load(k_ptr + sample * k_b + h * k_h, key, feature, k_n, k_d, key_in, D_HEAD, OPERAND)
        v = load(v_ptr + sample * v_b + h * v_h, key, feature, v_n, v_d, key_in, D_HEAD, OPERAND)
        s = scores(
            q, k, row, key, stands, row_in, key_in, bias_ptr, h * bias_h, mask_ptr, sample * mask_b, scale,
            bias_n, bias_m, mask_m, CAUSAL, HAS_BIAS, HAS_MASK,
        )  # fmt: skip
        allowed = s > float("-inf")
        x = tl.where(allowed, s, 0.0)
        m_new = tl.maximum(m, tl.max(tl.abs(x), 1))
        largest = tl.where(m_new == 0.0, 1.0, m_new)
        shrink = power(m / largest, P)
        y = power(x / largest[:, None], P)
        l = l * shrink + tl.sum(y, 1)
        acc = acc * shrink[:, None] + tl.dot(y.to(OPERAND), v, input_precision="ieee")
        seen += tl.sum(tl.where(allowed, 1.0, 0.0), 1)
        m = m_new

    c = tl.full([BLOCK_M], 1.0, tl.float32)
    floor = seen * epsilon
    if not MEAN:
        c = m + delta
        c = tl.where(c == 0.0, 1.0, c)
        floor = tl.full([BLOCK_M], 1.0, tl.float32) * epsilon
    onto_c = power(m / c, P)
    total = floor + l * onto_c
    total = tl.where(total == 0.0, 1.0, total)
    at = batch_head * n_query + row
    tl.store(c_ptr + at, c, mask=row_in)
    tl.store(total_ptr + at, total, mask=row_in)
    z_at = z_ptr + sample * z_b + h * z_h + row[:, None] * z_n + feature[None, :] * z_d
    z = acc * (onto_c / total)[:, None]
    tl.store(z_at, z.to(z_ptr.dtype.element_ty), mask=row_in[:, None] & (feature < D_HEAD)[None, :])


def forward(
    q: Tensor, k: Tensor, v: Tensor, transform: ScoreTransform, power_softmax: "PowerSoftmax"
) -> tuple[Tensor, Tensor, Tensor]:
    """z in q's dtype, then c and N [batch head query] in float32; any strides, nothing empty."""
    batch, head, n_query, d_head = q.shape
    z = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    c, total = (torch.empty(q.shape[:3], dtype=torch.float32, device=q.device) for _ in range(2))
    cut = block.forward_blocks(q.dtype, d_head)
    _forward[(triton.cdiv(n_query, cut.query), batch * head)](
        q_ptr=q, k_ptr=k, v_ptr=v, z_ptr=z, c_ptr=c, total_ptr=total, head=head, n_query=n_query, n_key=k.shape[2],
        epsilon=power_softmax.epsilon, delta=power_softmax.delta,
        **block.arguments(transform), **block.strides(q=q, k=k, v=v, z=z), **block.sizes(d_head, cut),
        P=power_softmax.p, MEAN=power_softmax.form == "mean",
        OPERAND=block.operand(q.dtype), num_warps=cut.warps, num_stages=block.STAGES,
    )  # fmt: skip
    return z, c, total


def variants() -> Iterator[Variant]:
    """The stable form at p = 4 over dtypes and head dims."""
    yield from block.variants(
        f"{__name__}:_forward",
        block.forward_blocks,
        ("q", "k", "v", "z"),
        also=dict.fromkeys(("c_ptr", "total_ptr"), torch.float32),
        scalars=("epsilon", "delta"),
        fixed={"P": 4, "MEAN": False},
    )
