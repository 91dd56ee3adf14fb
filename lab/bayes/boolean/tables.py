"""Label bits of all hypotheses at a point, put together from tables over a few coordinates each.

A conjunction is false if any coordinate contradicts it, a parity is the sum of its coordinates: both are one bitwise
operation over coordinates. Six coordinates at a time are tabulated, 64 rows a table.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, UInt64

COORDINATES = 6

Points = Bool[np.ndarray, "point dim"]
Words = UInt64[np.ndarray, "point word"]


class CoordinateTables:
    """Folds a bit set for each coordinate and value of x into one for each x.

    Args:
        minus: bits to fold in where x_j = −1, [dim word].
        plus: bits to fold in where x_j = +1, [dim word].
        fold: `np.bitwise_or` or `np.bitwise_xor`, with 0 as its neutral element.
    """

    def __init__(self, minus: UInt64[np.ndarray, "dim word"], plus: UInt64[np.ndarray, "dim word"], fold: Callable):
        self.fold = fold
        dim = len(minus)
        self.parts = [slice(start, min(start + COORDINATES, dim)) for start in range(0, dim, COORDINATES)]
        self.tables = [self._tabulate(minus[part], plus[part]) for part in self.parts]

    def __call__(self, xs: Points) -> Words:
        """The folded bits of every point."""
        found = None
        for part, table in zip(self.parts, self.tables, strict=True):
            rows = table[xs[:, part] @ (1 << np.arange(xs[:, part].shape[1]))]
            found = rows if found is None else self.fold(found, rows, out=rows)
        return found

    def _tabulate(self, minus: np.ndarray, plus: np.ndarray) -> np.ndarray:
        table = np.zeros((1, minus.shape[1]), dtype=np.uint64)
        for without, with_ in zip(minus, plus, strict=True):
            table = np.concatenate([self.fold(table, without), self.fold(table, with_)])
        return table
