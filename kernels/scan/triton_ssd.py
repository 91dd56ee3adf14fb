"""State-space duality on a GPU in three kernels: what each chunk adds to the state, the states between chunks, outputs.

(Dao & Gu 2024, "Transformers are SSMs", section 6.) Only the middle one is sequential, over chunks. Decays between two
positions of a chunk are sums of logarithms over a masked tile in float32, never differences. The backward pass is the
chunked one.
"""

from collections.abc import Iterator
from typing import no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

from microtome.kernels.ahead_of_time import Variant
from microtome.kernels.scores.block import OPERANDS, operand

BLOCK_FLAT = 256


@triton.jit
@no_type_check
def _added(
    k_ptr, v_ptr, log_ptr, state_ptr, total_ptr, n, head, chunks, states, d_v,
    k_b, k_h, k_n, k_s, v_b, v_h, v_n, v_d, log_b, log_h, log_n,
    BLOCK_N: tl.constexpr, BLOCK_S: tl.constexpr, BLOCK_D: tl.constexpr, OPERAND: tl.constexpr,
):  # fmt: skip
    """Σ_s (Π_{r>s} a_r) k_s v_sᵀ over a chunk, and log Π a_r."""
    chunk, row, columns = tl.program_id(0), tl.program_id(1).to(tl.int64), tl.cdiv(d_v, BLOCK_D)
    b, h = row // head, row % head
    local = tl.arange(0, BLOCK_N)
    state = (tl.program_id(2) // columns) * BLOCK_S + tl.arange(0, BLOCK_S)
    column = (tl.program_id(2) % columns) * BLOCK_D + tl.arange(0, BLOCK_D)
    pos = chunk * BLOCK_N + local
    log = tl.load(log_ptr + b * log_b + h * log_h + pos * log_n, mask=pos < n, other=0.0).to(tl.float32)
    to_end = tl.exp(tl.sum(tl.where(local[:, None] > local[None, :], log[:, None], 0.0), 0))
    k_at = k_ptr + b * k_b + h * k_h + pos[None, :] * k_n + state[:, None] * k_s
    k = tl.load(k_at, mask=(pos < n)[None, :] & (state < states)[:, None], other=0.0).to(tl.float32)
    v_at = v_ptr + b * v_b + h * v_h + pos[:, None] * v_n + column[None, :] * v_d
    v = tl.load(v_at, mask=(pos < n)[:, None] & (column < d_v)[None, :], other=0.0).to(OPERAND)
    added = tl.dot((k * to_end[None, :]).to(OPERAND), v, input_precision="ieee")
    at = row * chunks + chunk
    state_at = state_ptr + (at * states + state)[:, None] * d_v + column[None, :]
    tl.store(state_at, added, mask=(state < states)[:, None] & (column < d_v)[None, :])
    tl.store(total_ptr + at, tl.sum(log, 0))


@triton.jit
@no_type_check
def _between(state_ptr, total_ptr, chunks, size, BLOCK: tl.constexpr):
    """In place: from what each chunk adds to the state before it."""
    row = tl.program_id(0).to(tl.int64)
    flat = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    carry = tl.zeros([BLOCK], tl.float32)
    for chunk in range(chunks):
        at = state_ptr + (row * chunks + chunk) * size + flat
        added = tl.load(at, mask=flat < size, other=0.0)
        tl.store(at, carry, mask=flat < size)
        carry = tl.exp(tl.load(total_ptr + row * chunks + chunk)) * carry + added


@triton.jit
@no_type_check
def _outputs(
    q_ptr, k_ptr, v_ptr, log_ptr, state_ptr, y_ptr, n, head, chunks, states, d_v,
    q_b, q_h, q_n, q_s, k_b, k_h, k_n, k_s, v_b, v_h, v_n, v_d, log_b, log_h, log_n,
    BLOCK_N: tl.constexpr, BLOCK_S: tl.constexpr, BLOCK_D: tl.constexpr, OPERAND: tl.constexpr,
):  # fmt: skip
    """(L ∘ qkᵀ) v within the chunk, and q read out of the decayed state before it."""
    chunk, row = tl.program_id(0), tl.program_id(1).to(tl.int64)
    b, h = row // head, row % head
    local, column = tl.arange(0, BLOCK_N), tl.program_id(2) * BLOCK_D + tl.arange(0, BLOCK_D)
    pos = chunk * BLOCK_N + local
    inside, column_in = pos < n, column < d_v
    weights = tl.zeros([BLOCK_N, BLOCK_N], tl.float32)
    y = tl.zeros([BLOCK_N, BLOCK_D], tl.float32)
    for first in range(0, states, BLOCK_S):
        state = first + tl.arange(0, BLOCK_S)
        state_in = state < states
        q_at = q_ptr + b * q_b + h * q_h + pos[:, None] * q_n + state[None, :] * q_s
        q = tl.load(q_at, mask=inside[:, None] & state_in[None, :], other=0.0).to(OPERAND)
        k_at = k_ptr + b * k_b + h * k_h + pos[None, :] * k_n + state[:, None] * k_s
        k = tl.load(k_at, mask=inside[None, :] & state_in[:, None], other=0.0).to(OPERAND)
        weights += tl.dot(q, k, input_precision="ieee")
        state_at = state_ptr + ((row * chunks + chunk) * states + state)[:, None] * d_v + column[None, :]
        before = tl.load(state_at, mask=state_in[:, None] & column_in[None, :], other=0.0).to(OPERAND)
        y += tl.dot(q, before, input_precision="ieee")
    log = tl.load(log_ptr + b * log_b + h * log_h + pos * log_n, mask=inside, other=0.0).to(tl.float32)
    steps = tl.where(local[:, None] > local[None, :], log[:, None], 0.0)
    weights *= tl.where(local[:, None] >= local[None, :], tl.exp(tl.cumsum(steps, 0)), 0.0)  # [query key]
    v_at = v_ptr + b * v_b + h * v_h + pos[:, None] * v_n + column[None, :] * v_d
    v = tl.load(v_at, mask=inside[:, None] & column_in[None, :], other=0.0).to(OPERAND)
    y = y * tl.exp(tl.cumsum(log, 0))[:, None] + tl.dot(weights.to(OPERAND), v, input_precision="ieee")
    y_at = y_ptr + (row * n + pos)[:, None] * d_v + column[None, :]
    tl.store(y_at, y.to(y_ptr.dtype.element_ty), mask=inside[:, None] & column_in[None, :])


def supports(k: Tensor, v: Tensor) -> bool:
    """float32, bfloat16 or float16; any number of states and width of values."""
    return v.dtype in OPERANDS and k.dtype == v.dtype and k.shape[-1] > 0 and v.shape[-1] > 0


def forward(q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor) -> Tensor:
    """y in the dtype of v; any strides, nothing empty."""
    batch, head, n, d_v = v.shape
    states, (sizes, warps) = k.shape[-1], _sizes(v.dtype)
    rows, chunks = batch * head, triton.cdiv(n, sizes["BLOCK_N"])
    columns, blocks = triton.cdiv(d_v, sizes["BLOCK_D"]), triton.cdiv(states, sizes["BLOCK_S"])
    state = torch.empty(rows, chunks, states, d_v, dtype=torch.float32, device=v.device)
    total = torch.empty(rows, chunks, dtype=torch.float32, device=v.device)
    y = torch.empty(batch, head, n, d_v, dtype=v.dtype, device=v.device)
    sizes |= {"OPERAND": operand(v.dtype), "num_warps": warps}
    counts, inner = (n, head, chunks, states, d_v), (*k.stride(), *v.stride(), *log_decay.stride())
    _added[(chunks, rows, columns * blocks)](k, v, log_decay, state, total, *counts, *inner, **sizes)
    _between[(rows, triton.cdiv(states * d_v, BLOCK_FLAT))](state, total, chunks, states * d_v, BLOCK=BLOCK_FLAT)
    _outputs[(chunks, rows, columns)](q, k, v, log_decay, state, y, *counts, *q.stride(), *inner, **sizes)
    return y


def _sizes(dtype: torch.dtype) -> tuple[dict[str, int], int]:
    """Positions, states and columns of a tile, and warps; float32, multiplied without tensor cores, takes smaller."""
    side, warps = (32, 4) if dtype == torch.float32 else (64, 8)
    return {"BLOCK_N": side, "BLOCK_S": side // 2, "BLOCK_D": side}, warps


def variants() -> Iterator[Variant]:
    """The three kernels over dtypes; the number of states is no constant of theirs."""
    wide = {"state_ptr": torch.float32, "total_ptr": torch.float32}
    yield Variant(f"{__name__}:_between", pointers=wide, constants={"BLOCK": BLOCK_FLAT})
    for dtype, kind in OPERANDS.items():
        sizes, warps = _sizes(dtype)
        constants = {**sizes, "OPERAND": kind, "k_s": 1, "v_d": 1}
        common = {"dtype": dtype, "num_warps": warps}
        read = {**dict.fromkeys(("k_ptr", "v_ptr"), dtype), "log_ptr": torch.float32, "state_ptr": torch.float32}
        added = {**read, "total_ptr": torch.float32}
        yield Variant(f"{__name__}:_added", pointers=added, constants=constants, **common)
        outputs = {**read, "q_ptr": dtype, "y_ptr": dtype}
        yield Variant(f"{__name__}:_outputs", pointers=outputs, constants={**constants, "q_s": 1}, **common)
