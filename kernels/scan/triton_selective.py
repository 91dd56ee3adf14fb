"""The selective scan on a GPU: one program a sample and block of channels walks over chunks of positions.

Within a chunk the states [pos, channel, state] are made at once in registers by an associative scan, and what a chunk
ends with goes into the next. The forward pass writes the state at the start of each chunk; the backward pass walks the
chunks from the right, makes their states again from there, and scans the gradients in the other direction. B and C are
shared by all channels: their gradients are summed over blocks of channels afterwards, in one order.
"""

from collections.abc import Iterator
from itertools import product
from typing import no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

from microtome.kernels.ahead_of_time import Variant
from microtome.kernels.scan.selective import Inputs

CHUNK = 16
TILE = 128
"""Channels times states of one program."""
WARPS = 4
LOADED = (torch.float32, torch.float16, torch.bfloat16)


@triton.jit
@no_type_check
def _compose(a_first, b_first, a_then, b_then):
    return a_then * a_first, a_then * b_first + b_then


@triton.jit
@no_type_check
def _rows(ptr, batch, pos, column, stride_b, stride_n, stride_c, n, width):
    """[pos, column] of one sample in float32, 0 outside."""
    at = ptr + batch * stride_b + pos[:, None] * stride_n + column[None, :] * stride_c
    return tl.load(at, mask=((pos < n)[:, None]) & ((column < width)[None, :]), other=0.0).to(tl.float32)


@triton.jit
@no_type_check
def _forward(
    x_ptr, delta_ptr, A_ptr, B_ptr, C_ptr, y_ptr, start_ptr, n, channels, chunks,
    x_b, x_n, x_c, d_b, d_n, d_c, A_c, A_s, B_b, B_n, B_s, C_b, C_n, C_s,
    STATES: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_S: tl.constexpr,
):  # fmt: skip
    batch = tl.program_id(0).to(tl.int64)
    channel, state = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C), tl.arange(0, BLOCK_S)
    local = tl.arange(0, BLOCK_T)
    square_in = (channel < channels)[:, None] & (state < STATES)[None, :]
    A = tl.load(A_ptr + channel[:, None] * A_c + state[None, :] * A_s, mask=square_in, other=0.0).to(tl.float32)
    carry = tl.zeros([BLOCK_C, BLOCK_S], tl.float32)
    for chunk in range(chunks):
        start_at = start_ptr + ((batch * chunks + chunk) * channels + channel)[:, None] * STATES + state[None, :]
        tl.store(start_at, carry, mask=square_in)
        pos = chunk * BLOCK_T + local
        x = _rows(x_ptr, batch, pos, channel, x_b, x_n, x_c, n, channels)
        delta = _rows(delta_ptr, batch, pos, channel, d_b, d_n, d_c, n, channels)
        B = _rows(B_ptr, batch, pos, state, B_b, B_n, B_s, n, STATES)
        C = _rows(C_ptr, batch, pos, state, C_b, C_n, C_s, n, STATES)
        a = tl.exp(delta[:, :, None] * A[None, :, :])
        b = (delta * x)[:, :, None] * B[:, None, :]
        so_far, h = tl.associative_scan((a, b), 0, _compose)
        h += so_far * carry[None, :, :]
        y = tl.sum(h * C[:, None, :], 2)
        y_at = y_ptr + (batch * n + pos)[:, None] * channels + channel[None, :]
        tl.store(y_at, y, mask=(pos < n)[:, None] & (channel < channels)[None, :])
        # Beyond the end Δ is 0, so that the last row of the tile holds the last state.
        carry = tl.sum(tl.where(local[:, None, None] == BLOCK_T - 1, h, 0.0), 0)


@triton.jit
@no_type_check
def _backward(
    x_ptr, delta_ptr, A_ptr, B_ptr, C_ptr, dy_ptr, start_ptr, dx_ptr, ddelta_ptr, dA_ptr, dB_ptr, dC_ptr,
    n, channels, chunks, samples,
    x_b, x_n, x_c, d_b, d_n, d_c, A_c, A_s, B_b, B_n, B_s, C_b, C_n, C_s, dy_b, dy_n, dy_c,
    STATES: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_S: tl.constexpr,
):  # fmt: skip
    batch, block = tl.program_id(0).to(tl.int64), tl.program_id(1)
    channel, state = block * BLOCK_C + tl.arange(0, BLOCK_C), tl.arange(0, BLOCK_S)
    local = tl.arange(0, BLOCK_T)
    square_in = (channel < channels)[:, None] & (state < STATES)[None, :]
    A = tl.load(A_ptr + channel[:, None] * A_c + state[None, :] * A_s, mask=square_in, other=0.0).to(tl.float32)
    g_next = tl.zeros([BLOCK_C, BLOCK_S], tl.float32)
    dA = tl.zeros([BLOCK_C, BLOCK_S], tl.float32)
    for back in range(chunks):
        chunk = chunks - 1 - back
        pos = chunk * BLOCK_T + local
        start_at = start_ptr + ((batch * chunks + chunk) * channels + channel)[:, None] * STATES + state[None, :]
        start = tl.load(start_at, mask=square_in, other=0.0)
        x = _rows(x_ptr, batch, pos, channel, x_b, x_n, x_c, n, channels)
        delta = _rows(delta_ptr, batch, pos, channel, d_b, d_n, d_c, n, channels)
        delta_next = _rows(delta_ptr, batch, pos + 1, channel, d_b, d_n, d_c, n, channels)
        dy = _rows(dy_ptr, batch, pos, channel, dy_b, dy_n, dy_c, n, channels)
        B = _rows(B_ptr, batch, pos, state, B_b, B_n, B_s, n, STATES)
        C = _rows(C_ptr, batch, pos, state, C_b, C_n, C_s, n, STATES)

        b = (delta * x)[:, :, None] * B[:, None, :]
        so_far, h = tl.associative_scan((tl.exp(delta[:, :, None] * A[None, :, :]), b), 0, _compose)
        h += so_far * start[None, :, :]
        later = tl.exp(delta_next[:, :, None] * A[None, :, :])
        so_far, g = tl.associative_scan((later, dy[:, :, None] * C[:, None, :]), 0, _compose, reverse=True)
        g += so_far * g_next[None, :, :]
        g_next = tl.sum(tl.where(local[:, None, None] == 0, g, 0.0), 0)

        state_at = ((block * samples + batch) * n + pos)[:, None] * STATES + state[None, :]
        state_in = (pos < n)[:, None] & (state < STATES)[None, :]
        tl.store(dC_ptr + state_at, tl.sum(h * dy[:, :, None], 1), mask=state_in)
        tl.store(dB_ptr + state_at, tl.sum(g * (delta * x)[:, :, None], 1), mask=state_in)
        d_moved = tl.sum(g * B[:, None, :], 2)
        exponent = g * (h - b)  # the gradient of ΔA, as e^{ΔA} h_{t−1} = h_t − b_t
        d_delta = tl.sum(exponent * A[None, :, :], 2) + d_moved * x
        dA += tl.sum(exponent * delta[:, :, None], 0)
        at = (batch * n + pos)[:, None] * channels + channel[None, :]
        inside = (pos < n)[:, None] & (channel < channels)[None, :]
        tl.store(dx_ptr + at, d_moved * delta, mask=inside)
        tl.store(ddelta_ptr + at, d_delta, mask=inside)
    tl.store(dA_ptr + (batch * channels + channel)[:, None] * STATES + state[None, :], dA, mask=square_in)


def supports(x: Tensor, A: Tensor) -> bool:
    """float32, bfloat16 or float16, and 1 to 128 states a channel."""
    return x.dtype in LOADED and 0 < A.shape[1] <= TILE


def forward(inputs: Inputs) -> tuple[Tensor, Tensor]:
    """y and the state [batch chunk channel state] at the start of each chunk, in float32; nothing empty."""
    batch, n, channels = inputs.x.shape
    states, chunks = inputs.A.shape[1], triton.cdiv(n, CHUNK)
    y = torch.empty(inputs.x.shape, dtype=torch.float32, device=inputs.x.device)
    starts = torch.empty(batch, chunks, channels, states, dtype=torch.float32, device=y.device)
    sizes = _sizes(states)
    grid = (batch, triton.cdiv(channels, sizes["BLOCK_C"]))
    _forward[grid](*inputs, y, starts, n, channels, chunks, *_strides(inputs), **sizes, num_warps=WARPS)
    return y, starts


def backward(inputs: Inputs, starts: Tensor, grad: Tensor) -> Inputs:
    """The gradient of each input, in float32."""
    batch, n, channels = inputs.x.shape
    states, chunks = inputs.A.shape[1], starts.shape[1]
    sizes = _sizes(states)
    blocks = triton.cdiv(channels, sizes["BLOCK_C"])
    fresh = {"dtype": torch.float32, "device": grad.device}
    d_x, d_delta = (torch.empty(batch, n, channels, **fresh) for _ in range(2))
    d_A = torch.empty(batch, channels, states, **fresh)
    d_B, d_C = (torch.empty(blocks, batch, n, states, **fresh) for _ in range(2))
    _backward[(batch, blocks)](
        *inputs, grad, starts, d_x, d_delta, d_A, d_B, d_C, n, channels, chunks, batch,
        *_strides(inputs), *grad.stride(), **sizes, num_warps=WARPS,
    )  # fmt: skip
    return Inputs(d_x, d_delta, d_A.sum(0), d_B.sum(0), d_C.sum(0))


def _strides(inputs: Inputs) -> list[int]:
    return [stride for each in inputs for stride in each.stride()]


def _sizes(states: int) -> dict[str, int]:
    block_s = triton.next_power_of_2(states)
    return {"STATES": states, "BLOCK_T": CHUNK, "BLOCK_S": block_s, "BLOCK_C": max(1, TILE // block_s)}


def variants() -> Iterator[Variant]:
    """Both directions over dtypes and numbers of states."""
    for dtype, states in product(LOADED, (4, 16, 64, 128)):
        read = dict.fromkeys(("x_ptr", "delta_ptr", "A_ptr", "B_ptr", "C_ptr"), dtype)
        wide = dict.fromkeys(("dx_ptr", "ddelta_ptr", "dA_ptr", "dB_ptr", "dC_ptr"), torch.float32)
        constants = {**_sizes(states), **dict.fromkeys(("x_c", "d_c", "A_s", "B_s", "C_s"), 1)}
        common = {"dtype": dtype, "head_dim": states, "num_warps": WARPS}
        written = {"y_ptr": torch.float32, "start_ptr": torch.float32}
        yield Variant(f"{__name__}:_forward", pointers={**read, **written}, constants=constants, **common)
        yield Variant(
            f"{__name__}:_backward",
            pointers={**read, "dy_ptr": dtype, "start_ptr": torch.float32, **wide},
            constants={**constants, "dy_c": 1},
            **common,
        )
