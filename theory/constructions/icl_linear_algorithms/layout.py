"""Which rows of a token hold what: named registers, work space, LayerNorm pads and positions."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from microtome.theory._names import unknown


@dataclass(frozen=True)
class Layout:
    """The rows of every token, in this order: registers, two operand groups, three pads, one-hot positions.

    The registers "y" (1 row) and "x" (dim rows) come first, so that an input token is its paper form padded with
    zeros. The pads are N, −N and a balance that keeps the sum over all rows at zero; the LayerNorm of a layer then
    only rescales.

    Attributes:
        registers: number of rows by register name, in order.
        operands: rows in each of the two groups "left" and "right" that a product reads.
        columns: number of tokens.
        pad: the N of the pads. The LayerNorm is linear up to a relative error of Σ rows²/(4N²) and rounds its input
            to about N·1e-16; 1e7 balances the two for rows whose squares sum to some 1e5.
    """

    registers: dict[str, int]
    operands: int
    columns: int
    pad: float = 1e7

    def rows(self, name: str) -> range:
        """The rows of a register, or of "left", "right", "plus", "minus", "balance", "position"; KeyError otherwise."""
        sizes = self._sizes()
        if name not in sizes:
            raise KeyError(unknown("register", name, sizes))
        start = 0
        for other, size in sizes.items():
            if other == name:
                return range(start, start + size)
            start += size
        raise AssertionError("unreachable: the name is among the sizes")

    @property
    def size(self) -> int:
        return sum(self._sizes().values())

    def select(self, name: str) -> Float[Tensor, "part row"]:
        """The matrix that reads a register out of a token."""
        return torch.eye(self.size, dtype=torch.float64)[list(self.rows(name))]

    def constant(self) -> Float[Tensor, "1 row"]:
        """The functional that reads 1 out of every token: the sum of its one-hot position."""
        return self.select("position").sum(0, keepdim=True)

    def embed(
        self,
        xs: Float[Tensor, "*batch points dim"],
        ys: Float[Tensor, "*batch points"],
        query: Float[Tensor, "*batch dim"],
    ) -> Float[Tensor, "*batch column row"]:
        """The prompt x₁ y₁ … x_n y_n x_{n+1} as tokens."""
        tokens = torch.zeros(*xs.shape[:-2], self.columns, self.size, dtype=torch.float64)
        x, y = list(self.rows("x")), self.rows("y")[0]
        tokens[..., 0:-1:2, x] = xs
        tokens[..., 1::2, y] = ys
        tokens[..., -1, x] = query
        tokens[..., self.rows("plus")[0]] = self.pad
        tokens[..., self.rows("minus")[0]] = -self.pad
        tokens[..., list(self.rows("position"))] = torch.eye(self.columns, dtype=torch.float64)
        payload = tokens[..., : self.rows("plus")[0]].sum(-1)
        tokens[..., self.rows("balance")[0]] = -payload - 1.0
        return tokens

    def _sizes(self) -> dict[str, int]:
        work = {"left": self.operands, "right": self.operands}
        return {**self.registers, **work, "plus": 1, "minus": 1, "balance": 1, "position": self.columns}
