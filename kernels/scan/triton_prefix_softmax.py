"""Prefix softmax attention on a GPU, in two passes over the values; imported when it is used.

The first reduces every chunk to its triple (m, u, w). An exclusive scan over the chunks' triples, which are few, gives
what each chunk carries in. The second scans within each chunk from there, so that values are read twice and outputs
written once (Feng et al. 2024, "Attention as an RNN"). The backward pass is the chunked one.
"""

from collections.abc import Iterator
from typing import no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

from microtome.kernels.ahead_of_time import Variant
from microtome.kernels.scan.prefix_softmax import Triple, hillis_steele
from microtome.kernels.scores.block import OPERANDS, operand

BLOCK_D = 32
"""Values' columns of one program."""


@triton.jit
@no_type_check
def _reduce(
    s_ptr, v_ptr, m_ptr, u_ptr, w_ptr, n, chunks, s_row, s_n, v_row, v_n, v_d,
    d_v, BLOCK_D: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    chunk, row = tl.program_id(0), tl.program_id(1).to(tl.int64)
    pos, feature = chunk * BLOCK_N + tl.arange(0, BLOCK_N), tl.program_id(2) * BLOCK_D + tl.arange(0, BLOCK_D)
    feature_in = feature < d_v
    s = tl.load(s_ptr + row * s_row + pos * s_n, mask=pos < n, other=float("-inf")).to(tl.float32)
    v_at = v_ptr + row * v_row + pos[:, None] * v_n + feature[None, :] * v_d
    v = tl.load(v_at, mask=(pos < n)[:, None] & feature_in[None, :], other=0.0).to(tl.float32)
    m = tl.max(s, 0)
    p = tl.exp(s - tl.where(m == float("-inf"), 0.0, m))
    at = row * chunks + chunk
    tl.store(m_ptr + at, m)
    tl.store(u_ptr + at, tl.sum(p, 0))
    tl.store(w_ptr + at * d_v + feature, tl.sum(p[:, None] * v, 0), mask=feature_in)


@triton.jit
@no_type_check
def _scan(
    s_ptr, v_ptr, m_ptr, u_ptr, w_ptr, o_ptr, lse_ptr, n, chunks, s_row, s_n, v_row, v_n, v_d,
    d_v, BLOCK_D: tl.constexpr, BLOCK_N: tl.constexpr, OPERAND: tl.constexpr,
):  # fmt: skip
    chunk, row = tl.program_id(0), tl.program_id(1).to(tl.int64)
    local, feature = tl.arange(0, BLOCK_N), tl.program_id(2) * BLOCK_D + tl.arange(0, BLOCK_D)
    pos, feature_in = chunk * BLOCK_N + local, feature < d_v
    s = tl.load(s_ptr + row * s_row + pos * s_n, mask=pos < n, other=float("-inf")).to(tl.float32)
    v_at = v_ptr + row * v_row + pos[:, None] * v_n + feature[None, :] * v_d
    v = tl.load(v_at, mask=(pos < n)[:, None] & feature_in[None, :], other=0.0).to(OPERAND)
    at = row * chunks + chunk
    m_in, u_in = tl.load(m_ptr + at), tl.load(u_ptr + at)
    w_in = tl.load(w_ptr + at * d_v + feature, mask=feature_in, other=0.0)

    seen = tl.where(local[:, None] >= local[None, :], s[None, :], float("-inf"))  # [query key]
    m = tl.maximum(tl.max(seen, 1), m_in)
    top = tl.where(m == float("-inf"), 0.0, m)
    p = tl.exp(seen - top[:, None])
    earlier = tl.exp(m_in - top)
    u = tl.sum(p, 1) + earlier * u_in
    w = tl.dot(p.to(OPERAND), v, input_precision="ieee") + earlier[:, None] * w_in[None, :]
    empty = u == 0.0
    o = w / tl.where(empty, 1.0, u)[:, None]
    o_at = o_ptr + (row * n + pos)[:, None] * d_v + feature[None, :]
    tl.store(o_at, o, mask=(pos < n)[:, None] & feature_in[None, :])
    lse = tl.where(empty, float("-inf"), top + tl.log(tl.where(empty, 1.0, u)))
    tl.store(lse_ptr + row * n + pos, lse, mask=pos < n)


def supports(values: Tensor) -> bool:
    """float32, bfloat16 or float16, and any width."""
    return values.dtype in OPERANDS and values.shape[-1] > 0


def forward(scores: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """o [*batch pos d_v] and L [*batch pos] in float32; nothing empty."""
    lead, n, d_v = scores.shape[:-1], *values.shape[-2:]
    s, v, sizes = scores.reshape(-1, n), values.reshape(-1, n, d_v), _sizes(values.dtype)
    rows, chunks = len(s), triton.cdiv(n, sizes["BLOCK_N"])
    fresh = {"dtype": torch.float32, "device": s.device}
    triple = Triple(*(torch.empty(rows, chunks, *tail, **fresh) for tail in ((), (), (d_v,))))
    outputs, lse = torch.empty(rows, n, d_v, **fresh), torch.empty(rows, n, **fresh)
    grid = (chunks, rows, triton.cdiv(d_v, BLOCK_D))
    rest = (n, chunks, *s.stride(), *v.stride(), d_v)
    _reduce[grid](s, v, *triple, *rest, **sizes)
    carried = _exclusive(hillis_steele(triple)[0])
    _scan[grid](s, v, *carried, outputs, lse, *rest, **sizes, OPERAND=operand(v.dtype))
    return outputs.reshape(*lead, n, d_v), lse.reshape(*lead, n)


def _exclusive(inclusive: Triple) -> Triple:
    """What stands before each chunk: the identity, then all inclusive triples but the last."""
    m, u, w = (torch.roll(each, 1, dims=1) for each in inclusive)
    m[:, 0], u[:, 0], w[:, 0] = -torch.inf, 0, 0
    return Triple(m, u, w)


def _sizes(dtype: torch.dtype) -> dict[str, int]:
    """Float32, which is multiplied without tensor cores, takes half as many positions at once."""
    return {"BLOCK_N": 32 if dtype == torch.float32 else 64, "BLOCK_D": BLOCK_D}


def variants() -> Iterator[Variant]:
    """Both passes over dtypes; the width of values is no constant of theirs."""
    sums = dict.fromkeys(("m_ptr", "u_ptr", "w_ptr"), torch.float32)
    written = dict.fromkeys(("o_ptr", "lse_ptr"), torch.float32)
    for dtype, kind in OPERANDS.items():
        read = dict.fromkeys(("s_ptr", "v_ptr"), dtype)
        constants = {**_sizes(dtype), "s_n": 1, "v_d": 1}
        yield Variant(f"{__name__}:_reduce", pointers={**read, **sums}, constants=constants, dtype=dtype)
        yield Variant(
            f"{__name__}:_scan",
            pointers={**read, **sums, **written},
            constants={**constants, "OPERAND": kind},
            dtype=dtype,
        )
