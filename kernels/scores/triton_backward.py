"""The backward pass of attention on a GPU, for every weighting: gradients of queries, keys and values.

Two kernels make the scores again, block by block, without atomics: one owns rows and sums dq over the keys, the other
owns keys and sums dk and dv over the rows. With dw = dz·vᵀ, what a weighting decides is w and dS:

    softmax   w = e^{s − lse} ⊙ factor,  dS = e^{s − lse} (factor·dw − along − dEnt·(s − lse + Ent)),
              along = ⟨dz, z⟩ − dlse
    sigmoid   w = σ(s + b),              dS = dw·w(1 − w)
    power     w = (s/c)^p/N,             dS = p (s/c)^{p−1}/(cN)·(dw − ⟨dz, z⟩)

Then dq = scale·dS·k, dk = scale·dSᵀ·q, dv = wᵀ·dz. Where a bias or factor is learned, the tiles of `weighting` and
`softmax.blockwise` do the whole backward pass instead.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

from microtome.kernels.ahead_of_time import Variant
from microtome.kernels.scores import block
from microtome.kernels.scores.block import Blocks, load, power, scores
from microtome.kernels.scores.transform import ScoreTransform


@triton.jit
@no_type_check
def _weigh(
    s, dw, row_at, row_in, stat_ptr, stat_step, b, WEIGHTING: tl.constexpr, P: tl.constexpr, ENTROPY: tl.constexpr
):
    """Weights before any factor and dS, [row, key]; statistics of rows lie `stat_step` apart."""
    if WEIGHTING == "sigmoid":
        w = tl.sigmoid(s + b)
        ds = dw * w * (1 - w)
    else:
        first = tl.load(stat_ptr + row_at, mask=row_in, other=1.0)
        along = tl.load(stat_ptr + stat_step + row_at, mask=row_in, other=0.0)
        if WEIGHTING == "power":
            total = tl.load(stat_ptr + 2 * stat_step + row_at, mask=row_in, other=1.0)
            x = tl.where(s > float("-inf"), s, 0.0) / first[:, None]
            below = power(x, P - 1)
            w = below * x / total[:, None]
            ds = P * below / (first * total)[:, None] * (dw - along[:, None])
        else:
            w = tl.exp(s - first[:, None])
            slope = dw - along[:, None]
            if ENTROPY:
                d_entropy = tl.load(stat_ptr + 2 * stat_step + row_at, mask=row_in, other=0.0)
                shift = tl.load(stat_ptr + 3 * stat_step + row_at, mask=row_in, other=0.0)
                slope -= d_entropy[:, None] * (tl.where(s > float("-inf"), s, 0.0) - shift[:, None])
            ds = w * slope
    return w, ds


@triton.jit
@no_type_check
def _of_rows(
    q_ptr, k_ptr, v_ptr, dz_ptr, dq_ptr, bias_ptr, factor_ptr, mask_ptr, position_ptr, stat_ptr, stat_step,
    scale, b, head, n_query, n_key,
    q_b, q_h, q_n, q_d, k_b, k_h, k_n, k_d, v_b, v_h, v_n, v_d, dz_b, dz_h, dz_n, dz_d, dq_b, dq_h, dq_n, dq_d,
    bias_h, bias_n, bias_m, factor_h, factor_n, factor_m, mask_b, mask_m,
    D_HEAD: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    CAUSAL: tl.constexpr, HAS_BIAS: tl.constexpr, HAS_FACTOR: tl.constexpr, HAS_MASK: tl.constexpr,
    HAS_POSITIONS: tl.constexpr, HAS_V: tl.constexpr, ENTROPY: tl.constexpr,
    WEIGHTING: tl.constexpr, P: tl.constexpr, OPERAND: tl.constexpr,
):  # fmt: skip
    batch_head = tl.program_id(1).to(tl.int64)
    sample, h = batch_head // head, batch_head % head
    row = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    feature = tl.arange(0, BLOCK_D)
    row_in = row < n_query
    row_at = batch_head * n_query + row
    q = load(q_ptr + sample * q_b + h * q_h, row, feature, q_n, q_d, row_in, D_HEAD, OPERAND)
    if HAS_V:
        dz = load(dz_ptr + sample * dz_b + h * dz_h, row, feature, dz_n, dz_d, row_in, D_HEAD, OPERAND)
    stands = row
    if HAS_POSITIONS:
        stands = tl.load(position_ptr + row, mask=row_in, other=0)
    end = n_key
    if CAUSAL:
        end = tl.minimum(n_key, tl.max(tl.where(row_in, stands, 0), 0) + 1)
    dq = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
    for start in range(0, end, BLOCK_N):
        key = start + tl.arange(0, BLOCK_N)
        key_in = key < n_key
        k = load(k_ptr + sample * k_b + h * k_h, key, feature, k_n, k_d, key_in, D_HEAD, OPERAND)
        s = scores(
            q, k, row, key, stands, row_in, key_in, bias_ptr, h * bias_h, mask_ptr, sample * mask_b, scale,
            bias_n, bias_m, mask_m, CAUSAL, HAS_BIAS, HAS_MASK,
        )  # fmt: skip
        dw = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
        if HAS_V:
            v = load(v_ptr + sample * v_b + h * v_h, key, feature, v_n, v_d, key_in, D_HEAD, OPERAND)
            dw = tl.dot(dz, tl.trans(v), input_precision="ieee")
        if HAS_FACTOR:
            factor_at = factor_ptr + h * factor_h + row[:, None] * factor_n + key[None, :] * factor_m
            dw *= tl.load(factor_at, mask=row_in[:, None] & key_in[None, :], other=0.0).to(tl.float32)
        _, ds = _weigh(s, dw, row_at, row_in, stat_ptr, stat_step, b, WEIGHTING, P, ENTROPY)
        dq += tl.dot(ds.to(OPERAND), k, input_precision="ieee")
    at = dq_ptr + sample * dq_b + h * dq_h + row[:, None] * dq_n + feature[None, :] * dq_d
    tl.store(at, (dq * scale).to(dq_ptr.dtype.element_ty), mask=row_in[:, None] & (feature < D_HEAD)[None, :])


@triton.jit
@no_type_check
def _of_keys(
    q_ptr, k_ptr, v_ptr, dz_ptr, dk_ptr, dv_ptr, bias_ptr, factor_ptr, mask_ptr, position_ptr, stat_ptr, stat_step,
    scale, b, head, n_query, n_key,
    q_b, q_h, q_n, q_d, k_b, k_h, k_n, k_d, v_b, v_h, v_n, v_d, dz_b, dz_h, dz_n, dz_d, dk_b, dk_h, dk_n, dk_d,
    bias_h, bias_n, bias_m, factor_h, factor_n, factor_m, mask_b, mask_m,
    D_HEAD: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    CAUSAL: tl.constexpr, HAS_BIAS: tl.constexpr, HAS_FACTOR: tl.constexpr, HAS_MASK: tl.constexpr,
    HAS_POSITIONS: tl.constexpr, HAS_V: tl.constexpr, ENTROPY: tl.constexpr,
    WEIGHTING: tl.constexpr, P: tl.constexpr, OPERAND: tl.constexpr,
):  # fmt: skip
    batch_head = tl.program_id(1).to(tl.int64)
    sample, h = batch_head // head, batch_head % head
    first_key = tl.program_id(0) * BLOCK_N
    key = first_key + tl.arange(0, BLOCK_N)
    feature = tl.arange(0, BLOCK_D)
    key_in = key < n_key
    k = load(k_ptr + sample * k_b + h * k_h, key, feature, k_n, k_d, key_in, D_HEAD, OPERAND)
    if HAS_V:
        v = load(v_ptr + sample * v_b + h * v_h, key, feature, v_n, v_d, key_in, D_HEAD, OPERAND)
    dk = tl.zeros([BLOCK_N, BLOCK_D], tl.float32)
    dv = tl.zeros([BLOCK_N, BLOCK_D], tl.float32)
    # Under plain causality no row before these keys sees them.
    begin = 0
    if CAUSAL and not HAS_POSITIONS:
        begin = first_key // BLOCK_M * BLOCK_M
    for start in range(begin, n_query, BLOCK_M):
        row = start + tl.arange(0, BLOCK_M)
        row_in = row < n_query
        stands = row
        if HAS_POSITIONS:
            stands = tl.load(position_ptr + row, mask=row_in, other=0)
        q = load(q_ptr + sample * q_b + h * q_h, row, feature, q_n, q_d, row_in, D_HEAD, OPERAND)
        s = scores(
            q, k, row, key, stands, row_in, key_in, bias_ptr, h * bias_h, mask_ptr, sample * mask_b, scale,
            bias_n, bias_m, mask_m, CAUSAL, HAS_BIAS, HAS_MASK,
        )  # fmt: skip
        dw = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
        factor = dw + 1.0
        if HAS_FACTOR:
            factor_at = factor_ptr + h * factor_h + row[:, None] * factor_n + key[None, :] * factor_m
            factor = tl.load(factor_at, mask=row_in[:, None] & key_in[None, :], other=0.0).to(tl.float32)
        if HAS_V:
            dz = load(dz_ptr + sample * dz_b + h * dz_h, row, feature, dz_n, dz_d, row_in, D_HEAD, OPERAND)
            dw = tl.dot(dz, tl.trans(v), input_precision="ieee") * factor
        w, ds = _weigh(
            s, dw, batch_head * n_query + row, row_in, stat_ptr, stat_step, b, WEIGHTING, P, ENTROPY
        )  # fmt: skip
        if HAS_V:
            dv += tl.dot(tl.trans((w * factor).to(OPERAND)), dz, input_precision="ieee")
        dk += tl.dot(tl.trans(ds.to(OPERAND)), q, input_precision="ieee")
    inside = key_in[:, None] & (feature < D_HEAD)[None, :]
    at = sample * dk_b + h * dk_h + key[:, None] * dk_n + feature[None, :] * dk_d
    tl.store(dk_ptr + at, (dk * scale).to(dk_ptr.dtype.element_ty), mask=inside)
    if HAS_V:
        tl.store(dv_ptr + at, dv.to(dv_ptr.dtype.element_ty), mask=inside)


@dataclass(frozen=True)
class Weighing:
    """Which weights the kernels make again.

    Attributes:
        name: softmax, sigmoid or power.
        rows: statistics [batch head query]: lse, along and, for a gradient of the entropy, dEnt and lse − Ent; c,
            ⟨dz, z⟩ and N of the power; none of the sigmoid.
        b: the sigmoid's logit bias.
        p: the power's exponent.
    """

    name: str
    rows: tuple[Tensor, ...] = ()
    b: float = 0.0
    p: int = 2


def backward(
    inputs: tuple[Tensor, Tensor, Tensor | None], dz: Tensor | None, transform: ScoreTransform, weighing: Weighing
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Gradients of q, k and v in their dtype; any strides, nothing empty; no values and no dz for statistics alone."""
    q, k, v = inputs
    batch, head, n_query, d_head = q.shape
    n_key = k.shape[2]
    has_v = dz is not None
    dq, dk = torch.empty(q.shape, dtype=q.dtype, device=q.device), torch.empty(k.shape, dtype=k.dtype, device=k.device)
    dv = torch.empty_like(dk) if has_v else None
    stats = torch.stack([row.float() for row in weighing.rows]) if weighing.rows else None
    factor = transform.factor
    common = {
        "q_ptr": q, "k_ptr": k, "v_ptr": v if has_v else None, "dz_ptr": dz, "factor_ptr": factor, "stat_ptr": stats,
        "stat_step": batch * head * n_query, "b": weighing.b, "head": head, "n_query": n_query, "n_key": n_key,
        **block.arguments(transform), **block.strides(q=q, k=k, v=v if has_v else k, dz=dz if has_v else q),
        **dict(zip(("factor_h", "factor_n", "factor_m"), block.table_strides(factor), strict=True)),
        "HAS_FACTOR": factor is not None, "HAS_V": has_v, "ENTROPY": len(weighing.rows) == 4,
        "WEIGHTING": weighing.name, "P": weighing.p, "OPERAND": block.operand(q.dtype), "num_stages": block.STAGES,
    }  # fmt: skip
    cut = rows_blocks(q.dtype, d_head)
    _of_rows[(triton.cdiv(n_query, cut.query), batch * head)](
        dq_ptr=dq, **common, **block.strides(dq=dq), **block.sizes(d_head, cut), num_warps=cut.warps
    )
    cut = keys_blocks(q.dtype, d_head)
    _of_keys[(triton.cdiv(n_key, cut.key), batch * head)](
        dk_ptr=dk, dv_ptr=dv, **common, **block.strides(dk=dk), **block.sizes(d_head, cut), num_warps=cut.warps
    )
    return dq, dk, dv


def supports(q: Tensor) -> bool:
    """Whether the kernels take q: float32 above d_head 128 would spill kilobytes whatever the cut, so tiles take it."""
    return block.supports(q) and not (q.dtype == torch.float32 and q.shape[-1] > 128)


def rows_blocks(dtype: torch.dtype, d_head: int) -> Blocks:
    """The cut where rows are owned, as compiled for sm_80 and sm_90: none spills more than a register or two."""
    cut = block.forward_blocks(dtype, d_head)
    return cut._replace(query=16 if dtype == torch.float32 else 32)


def keys_blocks(dtype: torch.dtype, d_head: int) -> Blocks:
    """The cut where keys are owned and two accumulators stand side by side.

    float32 at d_head 128 spills up to 60 bytes a thread on sm_90; 16 × 16 is the least that products can be cut to.
    """
    cut = block.forward_blocks(dtype, d_head)
    if dtype == torch.float32:
        side = 32 if cut.feature <= 32 else 16
        return cut._replace(query=side, key=side)
    return cut._replace(query={128: 64, 256: 16}.get(cut.feature, 32), key=32)


def variants() -> Iterator[Variant]:
    """Both kernels of the three weightings over dtypes and head dims."""
    for name, kernel in product(("softmax", "sigmoid", "power"), ("_of_rows", "_of_keys")):
        rows = kernel == "_of_rows"
        statistics = {} if name == "sigmoid" else {"stat_ptr": torch.float32}
        yield from block.variants(
            f"{__name__}:{kernel}",
            rows_blocks if rows else keys_blocks,
            ("q", "k", "v", "dz", "dq" if rows else "dk"),
            also=statistics if rows else {"dv_ptr": None, **statistics},
            scalars=("b",),
            factor=True,
            takes=lambda dtype, d_head: not (dtype == torch.float32 and d_head > 128),
            fixed={
                **({} if statistics else {"stat_ptr": None}),
                "WEIGHTING": name,
                "ENTROPY": name == "softmax",
                "HAS_V": True,
                "P": 4,
            },
        )
