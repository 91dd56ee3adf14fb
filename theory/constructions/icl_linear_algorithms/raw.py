"""The read-arithmetic-write operator, division, and the primitives made of them.

Akyürek et al., "What learning algorithm is in-context learning?" (2023). RAW replaces, in every column i that it is
told to act on, h_i[w] ← W_o((W_a Σ_{j∈K(i)} h_j[r]) ⋆ (W h_i[s])) with ⋆ either + or the entrywise product, and
leaves everything else alone. The row sets r, s, w are spelled here as matrices that read all rows, and as the rows
that are written. `apply` carries out an instruction directly; `compiler` turns it into a transformer layer.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from microtome.theory.constructions.icl_linear_algorithms.layout import Layout

Reads = Mapping[int, tuple[int, ...]]


@dataclass(frozen=True)
class Raw:
    """One RAW operator.

    Attributes:
        op: "+" or "*".
        W_a: reads the gathered columns.
        W: reads the column itself.
        W_o: from the result to the written rows.
        write: the written rows.
        reads: K, the columns gathered for each column that is acted on; all of one size.

    Raises ValueError for another op, and where K looks at later columns or has sets of different or no size.
    """

    op: str
    W_a: Float[Tensor, "inner row"]
    W: Float[Tensor, "inner row"]
    W_o: Float[Tensor, "written inner"]
    write: tuple[int, ...]
    reads: Reads

    def __post_init__(self):
        if self.op not in ("+", "*"):
            raise ValueError(f"RAW has op {self.op!r}; allowed are + and *")
        if any(source > column for column, sources in self.reads.items() for source in sources):
            raise ValueError("RAW reads a later column; allowed are the column itself and earlier ones")
        if len({len(sources) for sources in self.reads.values()}) != 1 or () in self.reads.values():
            raise ValueError("RAW reads different numbers of columns; all sets K(i) must have one size of at least 1")


@dataclass(frozen=True)
class Divide:
    """h_i[write] ← h_i[dividend] / |h_i[divisor]| in the given columns. The divisor must not be zero."""

    dividend: tuple[int, ...]
    divisor: int
    write: tuple[int, ...]
    columns: tuple[int, ...]


Instruction = Raw | Divide


def apply(instruction: Instruction, h: Float[Tensor, "*batch column row"]) -> Float[Tensor, "*batch column row"]:
    """What the instruction means, computed directly."""
    after = h.clone()
    if isinstance(instruction, Divide):
        for column in instruction.columns:
            dividend, divisor = h[..., column, list(instruction.dividend)], h[..., column, instruction.divisor]
            after[..., column, list(instruction.write)] = dividend / divisor.abs()[..., None]
        return after
    for column, sources in instruction.reads.items():
        gathered = h[..., list(sources), :].sum(-2) @ instruction.W_a.T
        own = h[..., column, :] @ instruction.W.T
        result = gathered + own if instruction.op == "+" else gathered * own
        after[..., column, list(instruction.write)] = result @ instruction.W_o.T
    return after


def itself(columns: tuple[int, ...]) -> Reads:
    """K(i) = {i}."""
    return {column: (column,) for column in columns}


def mov(layout: Layout, source: str, target: str, reads: Reads) -> Raw:
    """Copies a register out of earlier columns, summed where K(i) has several."""
    size = len(layout.rows(target))
    return Raw("+", layout.select(source), _nothing(layout, size), _eye(size), tuple(layout.rows(target)), reads)


def aff(
    layout: Layout,
    target: str,
    terms: Mapping[str, float],
    columns: tuple[int, ...],
    constant: Float[Tensor, " part"] | None = None,
) -> Raw:
    """target ← Σ coefficient · register + constant, within a column; all registers of one size."""
    size = len(layout.rows(target))
    own = sum((coefficient * layout.select(name) for name, coefficient in terms.items()), _nothing(layout, size))
    if constant is not None:
        own = own + constant.to(torch.float64)[:, None] * layout.constant()
    return Raw("+", _nothing(layout, size), own, _eye(size), tuple(layout.rows(target)), itself(columns))


def mul(
    layout: Layout, target: str, left: str, right: str, shape: tuple[int, int, int], columns: tuple[int, ...]
) -> Raw:
    """target ← left · right for matrices of shapes (a, b) and (b, c), stored row by row; takes a·b·c products."""
    a, b, c = shape
    outer, inner, last = torch.meshgrid(torch.arange(a), torch.arange(b), torch.arange(c), indexing="ij")
    reads_left = layout.select(left)[(outer * b + inner).flatten()]
    reads_right = layout.select(right)[(inner * c + last).flatten()]
    sums = _eye(a * c)[:, (outer * c + last).flatten()]
    return Raw("*", reads_left, reads_right, sums, tuple(layout.rows(target)), itself(columns))


def div(layout: Layout, target: str, dividend: str, divisor: str, columns: tuple[int, ...]) -> Divide:
    """target ← dividend / |divisor|, within a column."""
    rows = (tuple(layout.rows(name)) for name in (dividend, target))
    read, write = rows
    return Divide(read, layout.rows(divisor)[0], write, columns)


def _eye(size: int) -> Tensor:
    return torch.eye(size, dtype=torch.float64)


def _nothing(layout: Layout, size: int) -> Tensor:
    return torch.zeros(size, layout.size, dtype=torch.float64)
