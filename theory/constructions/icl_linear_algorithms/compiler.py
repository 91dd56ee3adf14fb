"""RAW instructions and divisions as weights of transformer layers, one layer an instruction.

Three heads carry a layer. *Gather* attends to K(i) and brings W_a h_j. *Own* attends to column i itself, if i is acted
on, and brings W h_i minus the old content of the written rows, which cancels the residual. *Wipe* attends to every
column's own rows and clears the operand groups and resets the pads. Sums are then finished; products and quotients
are left to the feed-forward network, which sees its input through a LayerNorm that the pads ±N make nearly linear,
LN(z) ≈ z √(H/2)/N for H rows:

* product: uv = √(π/2)[GELU(u+v) − GELU(u) − GELU(v)] + O(fourth order), on operands divided by `shrink`;
* quotient: with pads ±Nc instead of ±N the LayerNorm divides by |c|, and GELU(P + u) − P passes u on.

Whatever writes to the stream has columns that sum to zero, through the balance row, so that the mean stays zero.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from microtome.theory.constructions.icl_linear_algorithms.layout import Layout
from microtome.theory.constructions.icl_linear_algorithms.machine import Head, Layer
from microtome.theory.constructions.icl_linear_algorithms.raw import Divide, Instruction, Raw, Reads, itself

# e^-1000 is zero in float64, so attention is exact: 1/|K(i)| on K(i) and 0 elsewhere.
_SHARPNESS = 1e3


@dataclass(frozen=True)
class Scales:
    """Large numbers that the construction's errors depend on.

    Attributes:
        shrink: s; operands of a product are divided by it, so that its relative error falls like s⁻² (until float64
            rounding, which grows like s, takes over).
        carry: P; what passes a GELU linearly must be smaller than P − 10 in absolute value.
    """

    shrink: float = 1e5
    carry: float = 1e3


def compile_layer(instruction: Instruction, layout: Layout, scales: Scales) -> Layer:
    """The layer that carries out one instruction."""
    if isinstance(instruction, Divide):
        return _quotient(instruction, layout, scales)
    return _sum(instruction, layout) if instruction.op == "+" else _product(instruction, layout, scales)


def _sum(raw: Raw, layout: Layout) -> Layer:
    write = _unit_columns(raw.write, layout)
    none = torch.zeros(0, layout.size, dtype=torch.float64)
    heads = (_gather(raw, write @ raw.W_o, layout), _own(raw.W, write @ raw.W_o, raw.write, raw.reads, layout))
    return Layer(heads, none, none[:, 0], none.T, torch.zeros(layout.size, dtype=torch.float64))


def _product(raw: Raw, layout: Layout, scales: Scales) -> Layer:
    size = len(raw.W)
    left, right = (layout.select(name)[:size] for name in ("left", "right"))
    heads = (
        _gather(raw, left.T, layout),
        _own(raw.W, right.T, raw.write, raw.reads, layout),
        _wipe(layout),
    )
    W_1 = torch.cat([left + right, left, right]) * _linear_gain(layout) / scales.shrink
    entry = _unit_columns(raw.write, layout) @ raw.W_o * math.sqrt(math.pi / 2) * scales.shrink**2
    W_2 = _balanced(torch.cat([entry, -entry, -entry], dim=1), layout)
    return Layer(heads, W_1, torch.zeros(len(W_1), dtype=torch.float64), W_2, torch.zeros_like(W_2[:, 0]))


def _quotient(divide: Divide, layout: Layout, scales: Scales) -> Layer:
    size, reads = len(divide.write), itself(divide.columns)
    eye = torch.eye(layout.size, dtype=torch.float64)
    left = layout.select("left")[:size]
    # Beside the dividend, the own head brings c − 1, which turns the pads ±N into ±Nc.
    read = torch.cat([eye[list(divide.dividend)], eye[divide.divisor][None] - layout.constant()])
    pads = layout.pad * (layout.select("plus") - layout.select("minus")).T
    heads = (_own(read, torch.cat([left.T, pads], dim=1), divide.write, reads, layout), _wipe(layout))
    W_2 = _balanced(_unit_columns(divide.write, layout), layout)
    carry = torch.full((size,), scales.carry, dtype=torch.float64)
    return Layer(heads, left * _linear_gain(layout), carry, W_2, -W_2 @ carry)


def _gather(raw: Raw, place: Float[Tensor, "row inner"], layout: Layout) -> Head:
    count = len(next(iter(raw.reads.values())))  # attention averages over K(i)
    return _head(raw.reads, count * raw.W_a, place, layout)


def _own(
    read: Float[Tensor, "inner row"],
    place: Float[Tensor, "row inner"],
    write: tuple[int, ...],
    reads: Reads,
    layout: Layout,
) -> Head:
    replaced = _unit_columns(write, layout)
    W_V, W_O = torch.cat([read, replaced.T]), torch.cat([place, -replaced], dim=1)
    return _head(itself(tuple(reads)), W_V, W_O, layout)


def _wipe(layout: Layout) -> Head:
    work = torch.cat([layout.select(name) for name in ("left", "right", "plus", "minus")])
    pads = layout.pad * (layout.select("plus") - layout.select("minus"))
    W_V, W_O = torch.cat([work, layout.constant()]), torch.cat([-work.T, pads.T], dim=1)
    return _head(itself(tuple(range(layout.columns))), W_V, W_O, layout)


def _head(reads: Reads, W_V: Tensor, W_O: Tensor, layout: Layout) -> Head:
    """A head whose column i attends to K(i) = reads[i], and to the zero logit alone where i has no entry."""
    position = layout.select("position")
    wanted = torch.full((layout.columns, layout.columns), -_SHARPNESS, dtype=torch.float64)  # [key query]
    for column, sources in reads.items():
        wanted[list(sources), column] = _SHARPNESS
    return Head(wanted @ position, position, W_V, _balanced(W_O, layout))


def _linear_gain(layout: Layout) -> float:
    return layout.pad * math.sqrt(2 / layout.size)


def _unit_columns(rows: tuple[int, ...], layout: Layout) -> Tensor:
    return torch.eye(layout.size, dtype=torch.float64)[:, list(rows)]


def _balanced(writes: Float[Tensor, "row inner"], layout: Layout) -> Float[Tensor, "row inner"]:
    return writes - layout.select("balance").T * writes.sum(0)
