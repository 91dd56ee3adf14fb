"""The GPU path: hashing into words of bits, and the linear form out of them, imported when it is used.

A code of b ≤ 32 bits is one int32, a thirty-second of float32 codes' traffic; registers hold it as ±1. `_hash` makes
the words, `_state` sums h_j [v_j, 1]ᵀ and [v_j, 1] over a run of positions, `_read` contracts the total with each h_i.
"""

from collections.abc import Iterator
from itertools import product

import torch
import triton
import triton.language as tl
from torch import Tensor

from microtome.kernels.ahead_of_time import Variant
from microtome.kernels.scores.block import OPERANDS, operand

BLOCK_N = 64
BLOCK_D = 32
"""Channels of the values that one program sees; more take several, each of which expands the codes anew."""
RUN = 512
"""Positions whose sums one program makes."""
WARPS, STAGES = 4, 2


@triton.jit
def _hash(
    kappa_ptr, a_ptr, word_ptr, head, n, kappa_b, kappa_h, kappa_n, kappa_m, a_h, a_b, a_m,
    BITS: tl.constexpr, BLOCK_B: tl.constexpr, ANCHORS: tl.constexpr, BLOCK_A: tl.constexpr,
    BLOCK_N: tl.constexpr, OPERAND: tl.constexpr,
):  # fmt: skip
    batch_head = tl.program_id(1).to(tl.int64)
    row = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    bit, anchor = tl.arange(0, BLOCK_B), tl.arange(0, BLOCK_A)
    row_in, bit_in, anchor_in = row < n, bit < BITS, anchor < ANCHORS
    kappa_at = kappa_ptr + batch_head // head * kappa_b + batch_head % head * kappa_h
    kappa = tl.load(
        kappa_at + row[:, None] * kappa_n + anchor[None, :] * kappa_m,
        mask=row_in[:, None] & anchor_in[None, :],
        other=0.0,
    ).to(OPERAND)
    a = tl.load(
        a_ptr + batch_head % head * a_h + bit[None, :] * a_b + anchor[:, None] * a_m,
        mask=anchor_in[:, None] & bit_in[None, :],
        other=0.0,
    ).to(OPERAND)
    # TF32 would flip signs near zero.
    positive = tl.dot(kappa, a, input_precision="ieee") >= 0
    word = tl.sum(tl.where(positive & bit_in[None, :], 1 << bit[None, :], 0), 1)
    tl.store(word_ptr + batch_head * n + row, word, mask=row_in)


@triton.jit
def _state(
    word_ptr, v_ptr, visible_ptr, partial_ptr, head, n, v_b, v_h, v_n, v_d, visible_b, visible_n,
    BITS: tl.constexpr, BLOCK_B: tl.constexpr, D_HEAD: tl.constexpr, BLOCK_D: tl.constexpr,
    BLOCK_N: tl.constexpr, RUN: tl.constexpr, HAS_VISIBLE: tl.constexpr, OPERAND: tl.constexpr,
):  # fmt: skip
    batch_head = tl.program_id(1).to(tl.int64)
    run = tl.program_id(0)
    bit, feature = tl.arange(0, BLOCK_B), tl.program_id(2) * BLOCK_D + tl.arange(0, BLOCK_D)
    feature_in = feature < D_HEAD
    state = tl.zeros([BLOCK_B, BLOCK_D], tl.float32)
    code_sum = tl.zeros([BLOCK_B], tl.float32)
    value_sum = tl.zeros([BLOCK_D], tl.float32)
    count = tl.zeros([BLOCK_N], tl.float32)
    for start in range(0, RUN, BLOCK_N):
        row = run * RUN + start + tl.arange(0, BLOCK_N)
        seen = row < n
        if HAS_VISIBLE:
            visible_at = visible_ptr + batch_head // head * visible_b + row * visible_n
            seen = seen & (tl.load(visible_at, mask=row < n, other=0) != 0)
        word = tl.load(word_ptr + batch_head * n + row, mask=row < n, other=0)
        sign = ((word[None, :] >> bit[:, None]) & 1) * 2 - 1
        sign = tl.where(seen[None, :] & (bit < BITS)[:, None], sign, 0).to(tl.float32)
        v_at = v_ptr + batch_head // head * v_b + batch_head % head * v_h
        v = tl.load(
            v_at + row[:, None] * v_n + feature[None, :] * v_d,
            mask=seen[:, None] & feature_in[None, :],
            other=0.0,
        )
        state += tl.dot(sign.to(OPERAND), v.to(OPERAND), input_precision="ieee")
        code_sum += tl.sum(sign, 1)
        value_sum += tl.sum(v.to(tl.float32), 0)
        count += seen.to(tl.float32)
    # [bit + 1, d_head + 1]: the last row sums [v, 1], the last column sums h and 1.
    width = D_HEAD + 1
    at = partial_ptr + (batch_head * tl.num_programs(0) + run) * (BITS + 1) * width
    bit_in = bit < BITS
    tl.store(at + bit[:, None] * width + feature[None, :], state, mask=bit_in[:, None] & feature_in[None, :])
    tl.store(at + BITS * width + feature, value_sum, mask=feature_in)
    if tl.program_id(2) == 0:
        tl.store(at + bit * width + D_HEAD, code_sum, mask=bit_in)
        tl.store(at + BITS * width + D_HEAD, tl.sum(count, 0))


@triton.jit
def _read(
    word_ptr, total_ptr, z_ptr, c, n,
    BITS: tl.constexpr, BLOCK_B: tl.constexpr, D_HEAD: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    batch_head = tl.program_id(1).to(tl.int64)
    row = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    bit, feature = tl.arange(0, BLOCK_B), tl.program_id(2) * BLOCK_D + tl.arange(0, BLOCK_D)
    bit_in, feature_in = bit < BITS, feature < D_HEAD
    width = D_HEAD + 1
    at = total_ptr + batch_head * (BITS + 1) * width
    state = tl.load(at + bit[:, None] * width + feature[None, :], mask=bit_in[:, None] & feature_in[None, :], other=0.0)
    code_sum = tl.load(at + bit * width + D_HEAD, mask=bit_in, other=0.0)
    value_sum = tl.load(at + BITS * width + feature, mask=feature_in, other=0.0)
    count = tl.load(at + BITS * width + D_HEAD)
    word = tl.load(word_ptr + batch_head * n + row, mask=row < n, other=0)
    sign = (((word[:, None] >> bit[None, :]) & 1) * 2 - 1).to(tl.float32)
    numerator = tl.dot(sign, state, input_precision="ieee") + c * value_sum[None, :]
    denominator = tl.sum(sign * code_sum[None, :], 1) + c * count
    denominator = tl.where(denominator == 0.0, 1.0, denominator)
    z = (numerator / denominator[:, None]).to(z_ptr.dtype.element_ty)
    z_at = z_ptr + (batch_head * n + row)[:, None] * D_HEAD + feature[None, :]
    tl.store(z_at, z, mask=(row < n)[:, None] & feature_in[None, :])


def supports(bits: int, v: Tensor) -> bool:
    """Codes of one word, values of float32, float16 or bfloat16 up to 256 wide."""
    return bits <= 32 and v.dtype in OPERANDS and v.shape[-1] <= 256


def words(kappa: Tensor, a: Tensor) -> Tensor:
    """Codes of κ [batch head pos anchor] under A [head bit anchor] as int32 [batch head pos]; any strides."""
    batch, head, n, anchors = kappa.shape
    bits = a.shape[1]
    word = torch.empty(batch, head, n, dtype=torch.int32, device=kappa.device)
    _hash[(triton.cdiv(n, BLOCK_N), batch * head)](
        kappa, a, word, head, n, *kappa.stride(), *a.stride(),
        BITS=bits, BLOCK_B=_padded(bits), ANCHORS=anchors, BLOCK_A=_padded(anchors), BLOCK_N=BLOCK_N,
        OPERAND=tl.float32, num_warps=WARPS, num_stages=STAGES,
    )  # fmt: skip
    return word


def attention(word: Tensor, v: Tensor, c: float, bits: int, visible: Tensor | None) -> Tensor:
    """z of the linear form in v's dtype, from int32 words [batch head pos]; sums in float32."""
    batch, head, n, d_head = v.shape
    runs = triton.cdiv(n, RUN)
    sizes = {"BITS": bits, "BLOCK_B": _padded(bits), "D_HEAD": d_head, "BLOCK_D": BLOCK_D, "BLOCK_N": BLOCK_N}
    tiles = triton.cdiv(d_head, BLOCK_D)
    partial = torch.empty(batch * head, runs, bits + 1, d_head + 1, dtype=torch.float32, device=v.device)
    seen = None if visible is None else visible.to(torch.int8)
    _state[(runs, batch * head, tiles)](
        word, v, seen, partial, head, n, *v.stride(), *((0, 0) if seen is None else seen.stride()),
        **sizes, RUN=RUN, HAS_VISIBLE=seen is not None, OPERAND=operand(v.dtype), num_warps=WARPS, num_stages=STAGES,
    )  # fmt: skip
    z = torch.empty(v.shape, dtype=v.dtype, device=v.device)
    _read[(triton.cdiv(n, BLOCK_N), batch * head, tiles)](
        word, partial.sum(1), z, float(c), n, **sizes, num_warps=WARPS, num_stages=STAGES
    )
    return z


def _padded(size: int) -> int:
    return max(16, triton.next_power_of_2(size))


def variants() -> Iterator[Variant]:
    """Hashing of 25 anchors into 16 bits, and the linear form over dtypes and head dims."""
    launch = {"num_warps": WARPS, "num_stages": STAGES}
    codes = {"BITS": 16, "BLOCK_B": 16, "BLOCK_N": BLOCK_N}
    for dtype in OPERANDS:
        yield Variant(
            kernel=f"{__name__}:_hash",
            dtype=dtype,
            pointers={"kappa_ptr": dtype, "a_ptr": dtype, "word_ptr": torch.int32},
            constants={**codes, "kappa_m": 1, "a_m": 1, "ANCHORS": 25, "BLOCK_A": 32, "OPERAND": tl.float32},
            **launch,
        )
    for dtype, d_head, masked in product(OPERANDS, (16, 32, 64, 128, 256), (False, True)):
        yield Variant(
            kernel=f"{__name__}:_state",
            dtype=dtype,
            head_dim=d_head,
            pointers={
                "word_ptr": torch.int32,
                "v_ptr": dtype,
                "partial_ptr": torch.float32,
                **({"visible_ptr": torch.int8} if masked else {}),
            },
            constants={
                **codes,
                **({} if masked else {"visible_ptr": None}),
                "v_d": 1,
                "D_HEAD": d_head,
                "BLOCK_D": BLOCK_D,
                "RUN": RUN,
                "HAS_VISIBLE": masked,
                "OPERAND": OPERANDS[dtype],
            },
            **launch,
        )
        if not masked:
            yield Variant(
                kernel=f"{__name__}:_read",
                dtype=dtype,
                head_dim=d_head,
                pointers={"word_ptr": torch.int32, "total_ptr": torch.float32, "z_ptr": dtype},
                scalars={"c": "fp32"},
                constants={**codes, "D_HEAD": d_head, "BLOCK_D": BLOCK_D},
                **launch,
            )
