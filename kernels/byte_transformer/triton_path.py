"""The GPU path: attention on packed rows in one Triton kernel of persistent programs, imported when it is used.

A tile is a block of query rows of one head of one sequence. Program p visits tiles p, p + G, … and finds the sequence
of a tile as the paper's problem visitor does: a vector of lanes holds where the tiles of 32 sequences begin, one
comparison counts those that have begun (Zhai et al. 2022, section III-D). Tiles only ascend, so that the window of
sequences only moves on.

The statistics (m, l) of the paper's second kernel are merged while the keys go by (`tiled_softmax` has the rule), so
that scores never leave the chip: the buffer of Σ n_b² scores between the paper's two GEMMs is not needed. A sequence's
keys end at its length; neither padding nor neighbours are read into the result.
"""

from collections.abc import Iterator
from itertools import product

import torch
import triton
import triton.language as tl
from torch import Tensor

from microtome.kernels.ahead_of_time import Variant
from microtome.kernels.byte_transformer.packing import Packing
from microtome.kernels.byte_transformer.visitor import LANES
from microtome.kernels.scores.block import HEAD_DIMS, OPERANDS, STAGES, forward_blocks, operand, sizes, supports

__all__ = ["forward", "supports", "variants"]


@triton.jit
def _varlen(
    q_ptr, k_ptr, v_ptr, z_ptr, first_ptr, tile_ptr, scale, head, batch, tiles,
    q_n, q_h, q_d, k_n, k_h, k_d, v_n, v_h, v_d, z_n, z_h,
    D_HEAD: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    LANES: tl.constexpr, OPERAND: tl.constexpr,
):  # fmt: skip
    lane, feature = tl.arange(0, LANES), tl.arange(0, BLOCK_D)
    feature_in = feature < D_HEAD
    window = 0
    for tile in range(tl.program_id(0), tiles, tl.num_programs(0)):
        block = tile // head
        h = (tile % head).to(tl.int64)
        while tl.load(tile_ptr + tl.minimum(window + LANES, batch)) <= block:
            window += LANES
        begins = tl.load(tile_ptr + window + lane, mask=window + lane < batch, other=tiles)
        sequence = window + tl.sum((begins <= block).to(tl.int32), 0) - 1
        first, end = tl.load(first_ptr + sequence), tl.load(first_ptr + sequence + 1)
        row = first + (block - tl.load(tile_ptr + sequence)) * BLOCK_M + tl.arange(0, BLOCK_M)
        row_in = (row < end)[:, None] & feature_in[None, :]
        q_at = q_ptr + row.to(tl.int64)[:, None] * q_n + h * q_h + feature[None, :] * q_d
        q = tl.load(q_at, mask=row_in, other=0.0).to(OPERAND)

        m = tl.full([BLOCK_M], float("-inf"), tl.float32)
        l = tl.zeros([BLOCK_M], tl.float32)
        acc = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
        for start in range(first, end, BLOCK_N):
            key = start + tl.arange(0, BLOCK_N)
            key_in = key < end
            k_at = k_ptr + key.to(tl.int64)[None, :] * k_n + h * k_h + feature[:, None] * k_d
            k = tl.load(k_at, mask=key_in[None, :] & feature_in[:, None], other=0.0).to(OPERAND)
            s = tl.dot(q, k, input_precision="ieee") * scale
            s = tl.where(key_in[None, :], s, float("-inf"))
            m_new = tl.maximum(m, tl.max(s, 1))
            shrink, p = tl.exp(m - m_new), tl.exp(s - m_new[:, None])
            l = l * shrink + tl.sum(p, 1)
            v_at = v_ptr + key.to(tl.int64)[:, None] * v_n + h * v_h + feature[None, :] * v_d
            v = tl.load(v_at, mask=key_in[:, None] & feature_in[None, :], other=0.0).to(OPERAND)
            acc = acc * shrink[:, None] + tl.dot(p.to(OPERAND), v, input_precision="ieee")
            m = m_new
        z_at = z_ptr + row.to(tl.int64)[:, None] * z_n + h * z_h + feature[None, :]
        tl.store(z_at, (acc / l[:, None]).to(z_ptr.dtype.element_ty), mask=row_in)


def forward(q: Tensor, k: Tensor, v: Tensor, packing: Packing, scale: float, grid: int) -> Tensor:
    """z [token head d_head] in q's dtype, by at most `grid` programs; any strides."""
    head, d_head = q.shape[1:]
    block = forward_blocks(q.dtype, d_head)
    z = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    begins = _row_blocks(packing, block.query)
    tiles = head * begins[-1]
    if not tiles:
        return z
    _varlen[(min(grid, tiles),)](
        q, k, v, z, packing.batch_idx, torch.tensor(begins, dtype=torch.int32, device=q.device), scale,
        head, len(packing.lengths), tiles,
        *q.stride(), *k.stride(), *v.stride(), *z.stride()[:2],
        **sizes(d_head, block), LANES=LANES, OPERAND=operand(q.dtype), num_warps=block.warps, num_stages=STAGES,
    )  # fmt: skip
    return z


def _row_blocks(packing: Packing, rows: int) -> list[int]:
    """How many blocks of query rows lie before each sequence, and all of them at the end."""
    begins = [0]
    for n in packing.lengths:
        begins.append(begins[-1] + -(-n // rows))
    return begins


def variants() -> Iterator[Variant]:
    """The kernel over dtypes and head dims."""
    for dtype, d_head in product(OPERANDS, HEAD_DIMS):
        block = forward_blocks(dtype, d_head)
        yield Variant(
            kernel=f"{__name__}:_varlen",
            dtype=dtype,
            head_dim=d_head,
            pointers={
                **dict.fromkeys(("q_ptr", "k_ptr", "v_ptr", "z_ptr"), dtype),
                **dict.fromkeys(("first_ptr", "tile_ptr"), torch.int32),
            },
            scalars={"scale": "fp32", **dict.fromkeys(("q_n", "k_n", "v_n", "z_n"), "i32:16")},
            constants={
                **dict.fromkeys(("q_d", "k_d", "v_d"), 1),
                **sizes(d_head, block),
                "LANES": LANES,
                "OPERAND": OPERANDS[dtype],
            },
            num_warps=block.warps,
            num_stages=STAGES,
        )
