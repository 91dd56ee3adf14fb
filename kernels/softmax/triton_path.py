"""Softmax attention with a score transform on a GPU, forward; imported when it is used.

One program owns a block of query rows and walks over the keys with the running maximum m, the running sums
(Milakov & Gimelshein 2018; Dao et al. 2022, alg. 1)

    l = Σ_j e^{s_ij − m},   t = Σ_j e^{s_ij − m} (s_ij − m),   acc = Σ_j e^{s_ij − m} factor_ij v_j,

and, when m rises by δ, scales all three by e^{−δ} after t ← t − δ·l. At the end z = acc/l, lse = m + log l
and Ent = log l − t/l: the entropy costs one more sum. The backward pass is `scores.triton_backward`, where no
bias or factor is learned.
"""

from collections.abc import Iterator
from typing import no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

from microtome.kernels.ahead_of_time import Variant
from microtome.kernels.scores import block, triton_backward
from microtome.kernels.scores.block import load, scores
from microtome.kernels.scores.transform import ScoreTransform
from microtome.kernels.softmax.blockwise import Statistics


@triton.jit
@no_type_check
def _forward(
    q_ptr, k_ptr, v_ptr, z_ptr, bias_ptr, factor_ptr, mask_ptr, position_ptr, entropy_ptr, lse_ptr,
    scale, head, n_query, n_key,
    q_b, q_h, q_n, q_d, k_b, k_h, k_n, k_d, v_b, v_h, v_n, v_d, z_b, z_h, z_n, z_d,
    bias_h, bias_n, bias_m, factor_h, factor_n, factor_m, mask_b, mask_m,
    D_HEAD: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    CAUSAL: tl.constexpr, HAS_V: tl.constexpr, HAS_BIAS: tl.constexpr, HAS_FACTOR: tl.constexpr,
    HAS_MASK: tl.constexpr, HAS_POSITIONS: tl.constexpr, OPERAND: tl.constexpr,
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

    m = tl.full([BLOCK_M], float("-inf"), tl.float32)
    l = tl.zeros([BLOCK_M], tl.float32)
    t = tl.zeros([BLOCK_M], tl.float32)
    acc = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
    end = n_key
    if CAUSAL:
        end = tl.minimum(n_key, tl.max(tl.where(row_in, stands, 0), 0) + 1)
    for start in range(0, end, BLOCK_N):
        key = start + tl.arange(0, BLOCK_N)
        key_in = key < n_key
        k = load(k_ptr + sample * k_b + h * k_h, key, feature, k_n, k_d, key_in, D_HEAD, OPERAND)
        s = scores(
            q, k, row, key, stands, row_in, key_in, bias_ptr, h * bias_h, mask_ptr, sample * mask_b, scale,
            bias_n, bias_m, mask_m, CAUSAL, HAS_BIAS, HAS_MASK,
        )  # fmt: skip
        m_new = tl.maximum(m, tl.max(s, 1))
        # Until a row meets its first key its maximum is −∞; 0 in its place keeps every difference defined.
        safe = tl.where(m_new == float("-inf"), 0.0, m_new)
        fallen = tl.where(m == float("-inf"), 0.0, safe - m)
        shrink = tl.exp(-fallen)
        shifted = s - safe[:, None]
        p = tl.exp(shifted)
        t = shrink * (t - fallen * l) + tl.sum(p * tl.where(p > 0, shifted, 0.0), 1)
        l = shrink * l + tl.sum(p, 1)
        if HAS_V:
            if HAS_FACTOR:
                factor_at = factor_ptr + h * factor_h + row[:, None] * factor_n + key[None, :] * factor_m
                p *= tl.load(factor_at, mask=row_in[:, None] & key_in[None, :], other=0.0).to(tl.float32)
            v = load(v_ptr + sample * v_b + h * v_h, key, feature, v_n, v_d, key_in, D_HEAD, OPERAND)
            acc = acc * shrink[:, None] + tl.dot(p.to(OPERAND), v, input_precision="ieee")
        m = m_new

    empty = l == 0.0
    l = tl.where(empty, 1.0, l)
    at = batch_head * n_query + row
    tl.store(entropy_ptr + at, tl.where(empty, 0.0, tl.maximum(tl.log(l) - t / l, 0.0)), mask=row_in)
    tl.store(lse_ptr + at, tl.where(empty, float("-inf"), m + tl.log(l)), mask=row_in)
    if HAS_V:
        z_at = z_ptr + sample * z_b + h * z_h + row[:, None] * z_n + feature[None, :] * z_d
        inside = row_in[:, None] & (feature < D_HEAD)[None, :]
        tl.store(z_at, (acc / l[:, None]).to(z_ptr.dtype.element_ty), mask=inside)


def forward(q: Tensor, k: Tensor, v: Tensor | None, transform: ScoreTransform) -> Statistics:
    """z in q's dtype, entropy and lse in float32; any strides, nothing empty."""
    batch, head, n_query, d_head = q.shape
    entropy = torch.empty(batch, head, n_query, dtype=torch.float32, device=q.device)
    lse = torch.empty_like(entropy)
    z = None if v is None else torch.empty(q.shape, dtype=q.dtype, device=q.device)
    factor_strides = zip(("factor_h", "factor_n", "factor_m"), block.table_strides(transform.factor), strict=True)
    cut = block.forward_blocks(q.dtype, d_head)
    _forward[(triton.cdiv(n_query, cut.query), batch * head)](
        q_ptr=q, k_ptr=k, v_ptr=v, z_ptr=z, factor_ptr=transform.factor, entropy_ptr=entropy, lse_ptr=lse,
        head=head, n_query=n_query, n_key=k.shape[2],
        **block.strides(q=q, k=k, v=k if v is None else v, z=q if z is None else z),
        **block.arguments(transform), **dict(factor_strides), **block.sizes(d_head, cut),
        HAS_V=v is not None, HAS_FACTOR=transform.factor is not None,
        OPERAND=block.operand(q.dtype), num_warps=cut.warps, num_stages=block.STAGES,
    )  # fmt: skip
    return Statistics(z, entropy, lse)


def backward(
    inputs: tuple[Tensor, Tensor, Tensor | None], saved: Statistics, grad: Statistics, transform: ScoreTransform
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Gradients of q, k and v from those of z, the entropy and lse (None where unused); not of a bias or factor."""
    # A row without keys has lse −∞ and no weight; 0 in its place keeps its differences defined.
    lse = saved.lse.masked_fill(saved.lse == -torch.inf, 0.0)
    along = torch.zeros_like(lse) if grad.z is None else (grad.z.float() * saved.z.float()).sum(-1)
    if grad.lse is not None:
        along = along - grad.lse
    rows = (lse, along) if grad.entropy is None else (lse, along, grad.entropy, lse - saved.entropy)
    return triton_backward.backward(inputs, grad.z, transform, triton_backward.Weighing("softmax", rows=rows))


def variants() -> Iterator[Variant]:
    """The kernel over dtypes and head dims."""
    yield from block.variants(
        f"{__name__}:_forward",
        block.forward_blocks,
        ("q", "k", "v", "z"),
        also=dict.fromkeys(("entropy_ptr", "lse_ptr"), torch.float32),
        factor=True,
        fixed={"HAS_V": True},
    )
