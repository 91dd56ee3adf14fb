"""Sigmoid attention on a GPU: out accumulates block by block, with no maximum, no sum and no statistic of any row.

The backward pass is `scores.triton_backward`; a weight's derivative needs the weight alone.
"""

from collections.abc import Iterator
from typing import no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

from microtome.kernels.ahead_of_time import Variant
from microtome.kernels.scores import block
from microtome.kernels.scores.block import load, scores
from microtome.kernels.scores.transform import ScoreTransform


@triton.jit
@no_type_check
def _forward(
    q_ptr, k_ptr, v_ptr, z_ptr, bias_ptr, mask_ptr, position_ptr, scale, b, head, n_query, n_key,
    q_b, q_h, q_n, q_d, k_b, k_h, k_n, k_d, v_b, v_h, v_n, v_d, z_b, z_h, z_n, z_d,
    bias_h, bias_n, bias_m, mask_b, mask_m,
    D_HEAD: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    CAUSAL: tl.constexpr, HAS_BIAS: tl.constexpr, HAS_MASK: tl.constexpr, HAS_POSITIONS: tl.constexpr,
    OPERAND: tl.constexpr,
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
        acc += tl.dot(tl.sigmoid(s + b).to(OPERAND), v, input_precision="ieee")
    z_at = z_ptr + sample * z_b + h * z_h + row[:, None] * z_n + feature[None, :] * z_d
    tl.store(z_at, acc.to(z_ptr.dtype.element_ty), mask=row_in[:, None] & (feature < D_HEAD)[None, :])


def forward(q: Tensor, k: Tensor, v: Tensor, transform: ScoreTransform, b: float) -> Tensor:
    """z in q's dtype; any strides, nothing empty."""
    batch, head, n_query, d_head = q.shape
    z = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    cut = block.forward_blocks(q.dtype, d_head)
    _forward[(triton.cdiv(n_query, cut.query), batch * head)](
        q_ptr=q, k_ptr=k, v_ptr=v, z_ptr=z, b=b, head=head, n_query=n_query, n_key=k.shape[2],
        **block.arguments(transform), **block.strides(q=q, k=k, v=v, z=z), **block.sizes(d_head, cut),
        OPERAND=block.operand(q.dtype), num_warps=cut.warps, num_stages=block.STAGES,
    )  # fmt: skip
    return z


def variants() -> Iterator[Variant]:
    """The kernel over dtypes and head dims."""
    yield from block.variants(f"{__name__}:_forward", block.forward_blocks, ("q", "k", "v", "z"), scalars=("b",))
