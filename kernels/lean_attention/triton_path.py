"""The GPU path: stream-K decode attention in one Triton kernel, one launch, imported when it is used.

A program walks over its run of LeanTiles, output by output. Where the run begins inside an output it leaves the triple
(m, l, O) in its scratch slot and raises its flag; where it holds an output's first tile but not the last, it waits for
the flags behind it, folds their triples in and writes O/l (Sanovar et al. 2024, algorithm 2).

The paper launches CTA 0 first, so that a CTA waits for ones launched later, and all must fit on the GPU at once. Here
program p is CTA G − 1 − p: whoever waits, waits for programs of smaller number, which the hardware starts first, so
that a grid which does not fit ends as well. For the same reason Triton's interpreter, which runs programs one after
the other, runs this very kernel, waits and all; what it cannot show is the memory order between concurrent blocks,
for which the flag is released after a barrier of the block and acquired before the slot is read.
"""

from collections.abc import Iterator
from functools import lru_cache
from itertools import product

import torch
import triton
import triton.language as tl
from torch import Tensor

from microtome.kernels.ahead_of_time import Variant
from microtome.kernels.lean_attention.emulator import row_blocks
from microtome.kernels.lean_attention.schedule import ROWS, Schedule, grid_size, tile_keys
from microtome.kernels.lean_attention.triple import LOG2_E
from microtome.kernels.scores.block import OPERANDS, operand

COLUMNS = 6
"""Of the table of outputs: first tile, sequence, key-value head, first query head, rows, keys."""


@triton.jit
def _stream_k(
    q_ptr, k_ptr, v_ptr, z_ptr, output_ptr, first_ptr, scratch_ptr, flag_ptr,
    scale, longest, heavy,
    q_b, q_h, q_d, k_b, k_h, k_n, k_d, v_b, v_h, v_n, v_d, z_b, z_h,
    D_HEAD: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, TILE: tl.constexpr,
    COLUMNS: tl.constexpr, OPERAND: tl.constexpr,
):  # fmt: skip
    cta = tl.num_programs(0) - 1 - tl.program_id(0)
    tile = cta * longest - tl.maximum(cta - heavy, 0)
    stop = tile + longest - (cta >= heavy).to(tl.int32)
    output = tl.load(first_ptr + cta)
    row, feature = tl.arange(0, BLOCK_M), tl.arange(0, BLOCK_D)
    feature_in = feature < D_HEAD
    slot = BLOCK_M * (BLOCK_D + 2)
    o_at = 2 * BLOCK_M + row[:, None] * BLOCK_D + feature[None, :]
    while tile < stop:
        at = output_ptr + output * COLUMNS
        begin, end = tl.load(at), tl.load(at + COLUMNS)
        sequence, kv_head, head = tl.load(at + 1).to(tl.int64), tl.load(at + 2).to(tl.int64), tl.load(at + 3)
        rows, n_key = tl.load(at + 4), tl.load(at + 5)
        until = tl.minimum(stop, end)
        inside = (row < rows)[:, None] & feature_in[None, :]
        q_at = q_ptr + sequence * q_b + (head + row)[:, None] * q_h + feature[None, :] * q_d
        q = tl.load(q_at, mask=inside, other=0.0).to(OPERAND)
        k_from, v_from = k_ptr + sequence * k_b + kv_head * k_h, v_ptr + sequence * v_b + kv_head * v_h

        m = tl.full([BLOCK_M], float("-inf"), tl.float32)
        l = tl.zeros([BLOCK_M], tl.float32)
        acc = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
        for start in range((tile - begin) * TILE, tl.minimum((until - begin) * TILE, n_key), BLOCK_N):
            key = (start + tl.arange(0, BLOCK_N)).to(tl.int64)
            key_in = key < n_key
            k_at = k_from + key[None, :] * k_n + feature[:, None] * k_d
            k = tl.load(k_at, mask=key_in[None, :] & feature_in[:, None], other=0.0).to(OPERAND)
            # TF32 would keep 10 bits of each logit; float32 callers get float32 products.
            s = tl.dot(q, k, input_precision="ieee") * scale
            s = tl.where(key_in[None, :], s, float("-inf"))
            m_new = tl.maximum(m, tl.max(s, 1))
            shrink, p = tl.exp2(m - m_new), tl.exp2(s - m_new[:, None])
            l = l * shrink + tl.sum(p, 1)
            v_at = v_from + key[:, None] * v_n + feature[None, :] * v_d
            v = tl.load(v_at, mask=key_in[:, None] & feature_in[None, :], other=0.0).to(OPERAND)
            acc = acc * shrink[:, None] + tl.dot(p.to(OPERAND), v, input_precision="ieee")
            m = m_new

        if tile > begin:
            mine = scratch_ptr + cta * slot
            tl.store(mine + row, m)
            tl.store(mine + BLOCK_M + row, l)
            tl.store(mine + o_at, acc)
            tl.debug_barrier()
            tl.atomic_xchg(flag_ptr + cta, 1, sem="release")
        else:
            covered, behind = until, cta + 1
            while covered < end:
                while tl.atomic_cas(flag_ptr + behind, 1, 1, sem="acquire") == 0:
                    pass
                other = scratch_ptr + behind * slot
                m_other = tl.load(other + row, cache_modifier=".cg")
                m_new = tl.maximum(m, m_other)
                mine_by, other_by = tl.exp2(m - m_new), tl.exp2(m_other - m_new)
                l = l * mine_by + tl.load(other + BLOCK_M + row, cache_modifier=".cg") * other_by
                o_other = tl.load(other + o_at, cache_modifier=".cg")
                acc = acc * mine_by[:, None] + o_other * other_by[:, None]
                m = m_new
                covered += longest - (behind >= heavy).to(tl.int32)
                behind += 1
            z_at = z_ptr + sequence * z_b + (head + row)[:, None] * z_h + feature[None, :]
            tl.store(z_at, (acc / l[:, None]).to(z_ptr.dtype.element_ty), mask=inside)
        tile = until
        output += 1


def supports(q: Tensor) -> bool:
    """float32, bfloat16 or float16 and d_head up to 256."""
    return q.dtype in OPERANDS and q.shape[-1] <= 256


def forward(q: Tensor, k: Tensor, v: Tensor, lengths: list[int], scale: float, multiprocessors: int) -> Tensor:
    """z [batch head d_head] in q's dtype; any strides."""
    head, d_head = q.shape[1:]
    tile = tile_keys(d_head)
    z = torch.zeros(q.shape, dtype=q.dtype, device=q.device)
    work, outputs, first = _work(tuple(lengths), head, k.shape[1], tile, multiprocessors, q.device)
    if not work.grid:
        return z
    block = _blocks(q.dtype, d_head, head // k.shape[1])
    slot = block["BLOCK_M"] * (block["BLOCK_D"] + 2)
    scratch = torch.empty(work.grid, slot, dtype=torch.float32, device=q.device)
    flags = torch.zeros(work.grid, dtype=torch.int32, device=q.device)
    _stream_k[(work.grid,)](
        q, k, v, z, outputs, first, scratch, flags, scale * LOG2_E, work.longest, work.heavy,
        *q.stride(), *k.stride(), *v.stride(), *z.stride()[:2],
        D_HEAD=d_head, TILE=tile, COLUMNS=COLUMNS, OPERAND=operand(q.dtype), **block,
    )  # fmt: skip
    return z


@lru_cache(maxsize=16)
def _work(
    lengths: tuple[int, ...], heads: int, kv_heads: int, tile: int, multiprocessors: int, device: torch.device
) -> tuple[Schedule, Tensor, Tensor]:
    """The schedule without empty outputs, its table [output + 1, COLUMNS] and the first output of each CTA.

    Kept, because all layers of a model decode the same lengths.
    """
    rows = row_blocks(heads, kv_heads)
    places = [(b, h, r, n) for (h, r), (b, n) in product(rows, enumerate(lengths)) if n]
    tiles = tuple(-(-n // tile) for *_, n in places)
    work = Schedule(tiles, grid_size(sum(tiles), len(tiles), multiprocessors))
    table = [(at, b, h, r.start, r.stop - r.start, n) for at, (b, h, r, n) in zip(work.starts, places, strict=False)]
    table.append((work.total, 0, 0, 0, 0, 0))
    first = [work.first_output(cta) for cta in range(work.grid)]
    return work, *(torch.tensor(x, dtype=torch.int32, device=device) for x in (table, first))


def _blocks(dtype: torch.dtype, d_head: int, group: int) -> dict[str, int]:
    """Sizes of a program's blocks and its warps.

    As compiled for sm_80 and sm_90 no kernel spills up to d_head 128, and at 256 at most 112 bytes a thread. float32
    products have no tensor cores, so that their operands fill registers beside the accumulator.
    """
    feature, row = max(16, triton.next_power_of_2(d_head)), max(16, triton.next_power_of_2(min(group, ROWS)))
    if dtype == torch.float32:
        key, warps = 32 if feature <= 64 else 16, 4 if row == 16 else 8
    else:
        key, warps = 64 if feature <= 128 else 32, 8 if row * feature >= 64 * 128 else 4
    return {"BLOCK_D": feature, "BLOCK_M": row, "BLOCK_N": key, "num_warps": warps, "num_stages": 2}


def variants() -> Iterator[Variant]:
    """One query head a group, and full tiles of rows."""
    for dtype, d_head, group in product(OPERANDS, (16, 32, 64, 128, 256), (1, ROWS)):
        block = _blocks(dtype, d_head, group)
        launch = {name: block.pop(name) for name in ("num_warps", "num_stages")}
        yield Variant(
            kernel=f"{__name__}:_stream_k",
            dtype=dtype,
            head_dim=d_head,
            pointers={
                **dict.fromkeys(("q_ptr", "k_ptr", "v_ptr", "z_ptr"), dtype),
                **dict.fromkeys(("output_ptr", "first_ptr", "flag_ptr"), torch.int32),
                "scratch_ptr": torch.float32,
            },
            scalars={"scale": "fp32", **dict.fromkeys(("k_n", "v_n", "k_h", "v_h"), "i32:16")},
            constants={
                **block,
                **dict.fromkeys(("q_d", "k_d", "v_d"), 1),
                "D_HEAD": d_head,
                "TILE": tile_keys(d_head),
                "COLUMNS": COLUMNS,
                "OPERAND": OPERANDS[dtype],
            },
            **launch,
        )
