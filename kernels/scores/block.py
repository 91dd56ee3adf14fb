"""Blocks of scores in Triton: what the kernels of every weighting share. Imported when a kernel is.

A program holds a block of rows [row, feature], loads keys [key, feature] and makes s [row, key], −∞ where a row may not
look. Products are summed in float32; TF32 would keep 10 bits of each score, so that float32 callers get float32
products. `no_type_check` keeps run-time checks of annotations, which wrap functions, from what Triton reads as source.
"""

from collections.abc import Callable, Iterator, Mapping
from itertools import product
from typing import Any, NamedTuple, no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

from microtome.kernels.ahead_of_time import Variant
from microtome.kernels.scores.transform import ScoreTransform

STAGES = 2
OPERANDS = {torch.float32: tl.float32, torch.float16: tl.float16, torch.bfloat16: tl.bfloat16}
HEAD_DIMS = (16, 32, 64, 128, 256)


@triton.jit
@no_type_check
def load(x_ptr, row, feature, x_n, x_d, row_in, D_HEAD: tl.constexpr, OPERAND: tl.constexpr):
    """[row, feature], 0 outside."""
    inside = row_in[:, None] & (feature < D_HEAD)[None, :]
    return tl.load(x_ptr + row[:, None] * x_n + feature[None, :] * x_d, mask=inside, other=0.0).to(OPERAND)


@triton.jit
@no_type_check
def scores(
    q, k, row, key, stands, row_in, key_in, bias_ptr, bias_at, mask_ptr, mask_at, scale, bias_n, bias_m, mask_m,
    CAUSAL: tl.constexpr, HAS_BIAS: tl.constexpr, HAS_MASK: tl.constexpr,
):  # fmt: skip
    """s [row, key] of q [row, feature] and k [key, feature]; `bias_at` leads to the head, `mask_at` to the sample."""
    s = tl.dot(q, tl.trans(k), input_precision="ieee") * scale
    allowed = row_in[:, None] & key_in[None, :]
    if HAS_BIAS:
        at = bias_ptr + bias_at + row[:, None] * bias_n + key[None, :] * bias_m
        s += tl.load(at, mask=allowed, other=0.0).to(tl.float32)
    if CAUSAL:
        allowed = allowed & (key[None, :] <= stands[:, None])
    if HAS_MASK:
        allowed = allowed & (tl.load(mask_ptr + mask_at + key * mask_m, mask=key_in, other=0) != 0)[None, :]
    return tl.where(allowed, s, float("-inf"))


@triton.jit
@no_type_check
def power(x, P: tl.constexpr):
    """x^P by multiplications, P ≥ 1."""
    y = x
    for _ in tl.static_range(P - 1):
        y = y * x
    return y


class Blocks(NamedTuple):
    """How a program is cut: its rows, the keys of one step, the features it holds, the warps that share them."""

    query: int
    key: int
    feature: int
    warps: int


def forward_blocks(dtype: torch.dtype, d_head: int) -> Blocks:
    """The most rows whose accumulator stays in registers, as compiled for sm_80 and sm_90: no choice spills.

    float32 products have no tensor cores, so that their operands fill registers too.
    """
    feature = max(16, triton.next_power_of_2(d_head))
    if dtype == torch.float32:
        return Blocks(64 if feature <= 32 else 32, 32 if feature <= 128 else 16, feature, 8)
    return Blocks(64 if feature <= 128 else 32, 32, feature, 4 if feature <= 64 else 8)


def supports(q: Tensor) -> bool:
    """float32, bfloat16 or float16 and d_head up to 256 (a block of rows then fits a GPU's shared memory)."""
    return q.dtype in OPERANDS and q.shape[-1] <= 256


def operand(dtype: torch.dtype) -> tl.dtype:
    """What the products multiply; Triton's interpreter multiplies bfloat16 as raw bits, so it gets float32."""
    return tl.float32 if dtype == torch.bfloat16 and triton.knobs.runtime.interpret else OPERANDS[dtype]


def table_strides(table: Tensor | None) -> tuple[int, int, int]:
    """Strides over head, query and key; a table shared by the heads does not move with the head."""
    if table is None:
        return 0, 0, 0
    head, query, key = table.stride()
    return (head if table.shape[0] > 1 else 0), query, key


def arguments(transform: ScoreTransform) -> dict[str, Any]:
    """What a kernel takes of a score transform, beside its factor."""
    mask = None if transform.mask is None else transform.mask.to(torch.int8)
    named = {
        "bias_ptr": transform.bias,
        "mask_ptr": mask,
        "position_ptr": transform.positions,
        "scale": transform.scale,
        "CAUSAL": transform.causal,
        "HAS_BIAS": transform.bias is not None,
        "HAS_MASK": mask is not None,
        "HAS_POSITIONS": transform.positions is not None,
    }
    strides = (*table_strides(transform.bias), *((0, 0) if mask is None else mask.stride()))
    return named | dict(zip(("bias_h", "bias_n", "bias_m", "mask_b", "mask_m"), strides, strict=True))


def strides(**tensors: Tensor) -> dict[str, int]:
    """`q_b, q_h, q_n, q_d` and so on of tensors [batch head pos d_head]."""
    return {
        f"{name}_{axis}": step for name, x in tensors.items() for axis, step in zip("bhnd", x.stride(), strict=True)
    }


def sizes(d_head: int, block: Blocks) -> dict[str, Any]:
    """The constants of a cut, as a launch and `variants` give them alike."""
    return {"D_HEAD": d_head, "BLOCK_D": block.feature, "BLOCK_M": block.query, "BLOCK_N": block.key}


def variants(
    kernel: str,
    cut: Callable[[torch.dtype, int], Blocks],
    inputs: tuple[str, ...],
    *,
    also: Mapping[str, torch.dtype | None] | None = None,
    scalars: tuple[str, ...] = (),
    factor: bool = False,
    takes: Callable[[torch.dtype, int], bool] = lambda dtype, d_head: True,
    fixed: Mapping[str, Any] | None = None,
) -> Iterator[Variant]:
    """A causal kernel over dtypes and head dims, and once with every table that a call may give.

    Args:
        kernel: "module:function".
        cut: what `forward_blocks` is to the forward pass.
        inputs: names of the tensors [batch head pos d_head] without `_ptr`; their features lie side by side.
        also: further pointers and what they point to, None for the dtype of the grid.
        scalars: float32 arguments beside `scale`.
        factor: whether the kernel takes a factor.
        takes: which dtypes and head dims the kernel is launched for.
        fixed: further constants.
    """
    tables = {"bias": None, "mask": torch.int8, "position": torch.int64} | ({"factor": None} if factor else {})
    flags = [f"HAS_{'POSITIONS' if name == 'position' else name.upper()}" for name in tables]
    grid = [(dtype, d_head, False) for dtype, d_head in product(OPERANDS, HEAD_DIMS) if takes(dtype, d_head)]
    for dtype, d_head, whole in [*grid, (torch.float32, 128, True)]:
        block = cut(dtype, d_head)
        pointers = dict.fromkeys((f"{name}_ptr" for name in inputs), dtype)
        given = {f"{name}_ptr": kind for name, kind in tables.items()} if whole else {}
        pointers |= {name: kind or dtype for name, kind in ((also or {}) | given).items()}
        constants = {
            **({} if whole else dict.fromkeys(f"{name}_ptr" for name in tables)),
            **dict.fromkeys(flags, whole),
            **{f"{name}_d": 1 for name in inputs},
            **sizes(d_head, block),
            "CAUSAL": True,
            "OPERAND": OPERANDS[dtype],
            **(fixed or {}),
        }
        scalar_types = dict.fromkeys(("scale", *scalars), "fp32")
        yield Variant(kernel, pointers, constants, scalar_types, dtype, d_head, block.warps, STAGES)
