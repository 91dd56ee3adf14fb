"""The GPU path: softmax attention with a score transform as one Triton kernel, imported when it is used.

One program owns a block of query rows and walks over the keys with the running maximum m, the running sums
(Milakov & Gimelshein 2018; Dao et al. 2022, alg. 1)

    l = Σ_j e^{s_ij − m},   t = Σ_j e^{s_ij − m} (s_ij − m),   acc = Σ_j e^{s_ij − m} factor_ij v_j,

and, when m rises by δ, scales all three by e^{−δ} after t ← t − δ·l. At the end z = acc/l, lse = m + log l
and Ent = log l − t/l: the entropy costs one more sum. The backward pass is the blockwise one.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from microtome.kernels.softmax.blockwise import Statistics
from microtome.kernels.softmax.scores import ScoreTransform

# With two pipeline stages a float32 block at d_head 128 needs 90 KiB of shared memory: any GPU since sm_80.
BLOCK_QUERY = 64
BLOCK_KEY = 32
STAGES = 2


@triton.jit
def _forward(
    q_ptr, k_ptr, v_ptr, bias_ptr, factor_ptr, mask_ptr, position_ptr, z_ptr, entropy_ptr, lse_ptr,
    scale, head, n_query, n_key,
    q_b, q_h, q_n, q_d, k_b, k_h, k_n, k_d, v_b, v_h, v_n, v_d,
    bias_h, bias_n, bias_m, factor_h, factor_n, factor_m, mask_b, mask_m,
    D_HEAD: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    CAUSAL: tl.constexpr, HAS_V: tl.constexpr, HAS_BIAS: tl.constexpr, HAS_FACTOR: tl.constexpr,
    HAS_MASK: tl.constexpr, HAS_POSITIONS: tl.constexpr, OPERAND: tl.constexpr,
):  # fmt: skip
    batch_head = tl.program_id(1).to(tl.int64)
    b, h = batch_head // head, batch_head % head
    row = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    feature = tl.arange(0, BLOCK_D)
    row_in, feature_in = row < n_query, feature < D_HEAD
    q_at = q_ptr + b * q_b + h * q_h + row[:, None] * q_n + feature[None, :] * q_d
    q = tl.load(q_at, mask=row_in[:, None] & feature_in[None, :], other=0.0).to(OPERAND)
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
        k_at = k_ptr + b * k_b + h * k_h + key[None, :] * k_n + feature[:, None] * k_d
        k = tl.load(k_at, mask=key_in[None, :] & feature_in[:, None], other=0.0).to(OPERAND)
        # TF32 would keep 10 bits of each logit; float32 callers get float32 products.
        s = tl.dot(q, k, input_precision="ieee") * scale
        inside = row_in[:, None] & key_in[None, :]
        if HAS_BIAS:
            bias_at = bias_ptr + h * bias_h + row[:, None] * bias_n + key[None, :] * bias_m
            s += tl.load(bias_at, mask=inside, other=0.0).to(tl.float32)
        allowed = inside
        if CAUSAL:
            allowed = allowed & (key[None, :] <= stands[:, None])
        if HAS_MASK:
            keep = tl.load(mask_ptr + b * mask_b + key * mask_m, mask=key_in, other=0)
            allowed = allowed & (keep != 0)[None, :]
        s = tl.where(allowed, s, float("-inf"))

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
                p *= tl.load(factor_at, mask=inside, other=0.0).to(tl.float32)
            v_at = v_ptr + b * v_b + h * v_h + key[:, None] * v_n + feature[None, :] * v_d
            v = tl.load(v_at, mask=key_in[:, None] & feature_in[None, :], other=0.0).to(OPERAND)
            acc = acc * shrink[:, None] + tl.dot(p.to(OPERAND), v, input_precision="ieee")
        m = m_new

    empty = l == 0.0
    l = tl.where(empty, 1.0, l)
    at = batch_head * n_query + row
    tl.store(entropy_ptr + at, tl.where(empty, 0.0, tl.maximum(tl.log(l) - t / l, 0.0)), mask=row_in)
    tl.store(lse_ptr + at, tl.where(empty, float("-inf"), m + tl.log(l)), mask=row_in)
    if HAS_V:
        z_at = z_ptr + at[:, None] * D_HEAD + feature[None, :]
        tl.store(z_at, (acc / l[:, None]).to(z_ptr.dtype.element_ty), mask=row_in[:, None] & feature_in[None, :])


def supports(q: Tensor) -> bool:
    """float32, bfloat16 or float16 and d_head up to 128 (a block of rows then fits a GPU's shared memory)."""
    return q.dtype in (torch.float32, torch.bfloat16, torch.float16) and q.shape[-1] <= 128


def forward(q: Tensor, k: Tensor, v: Tensor | None, transform: ScoreTransform) -> Statistics:
    """z in q's dtype, entropy and lse in float32; any strides, nothing empty."""
    batch, head, n_query, d_head = q.shape
    n_key = k.shape[2]
    entropy = torch.empty(batch, head, n_query, dtype=torch.float32, device=q.device)
    lse = torch.empty_like(entropy)
    z = None if v is None else torch.empty(q.shape, dtype=q.dtype, device=q.device)
    mask = None if transform.mask is None else transform.mask.to(torch.int8)
    bias_strides, factor_strides = _table_strides(transform.bias), _table_strides(transform.factor)
    _forward[(triton.cdiv(n_query, BLOCK_QUERY), batch * head)](
        q, k, v, transform.bias, transform.factor, mask, transform.positions, z, entropy, lse,
        transform.scale, head, n_query, n_key,
        *q.stride(), *k.stride(), *(k if v is None else v).stride(), *bias_strides, *factor_strides,
        *((0, 0) if mask is None else mask.stride()),
        D_HEAD=d_head, BLOCK_D=max(16, triton.next_power_of_2(d_head)),
        BLOCK_M=BLOCK_QUERY, BLOCK_N=BLOCK_KEY,
        CAUSAL=transform.causal, HAS_V=v is not None, HAS_BIAS=transform.bias is not None,
        HAS_FACTOR=transform.factor is not None, HAS_MASK=mask is not None,
        HAS_POSITIONS=transform.positions is not None,
        OPERAND=_operand(q.dtype), num_stages=STAGES,
    )  # fmt: skip
    return Statistics(z, entropy, lse)


def _operand(dtype: torch.dtype) -> tl.dtype:
    """What the products multiply; Triton's interpreter multiplies bfloat16 as raw bits, so it gets float32."""
    if dtype == torch.bfloat16:
        return tl.float32 if triton.knobs.runtime.interpret else tl.bfloat16
    return tl.float16 if dtype == torch.float16 else tl.float32


def _table_strides(table: Tensor | None) -> tuple[int, int, int]:
    """Strides over head, query and key; a table shared by the heads does not move with the head."""
    if table is None:
        return 0, 0, 0
    head, query, key = table.stride()
    return (head if table.shape[0] > 1 else 0), query, key
