"""Toeplitz matrices out of their 2n − 1 scalars: T_ij = t_{j−i}.

The gradient of t_δ is the sum of the matrix's gradient along the diagonal j − i = δ. URPE (Luo et al. 2022, equation 4)
and relative position biases read such tables.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def reference(table: Float[Tensor, "head offset"]) -> Float[Tensor, "head query key"]:
    """The n × n matrix, entry by entry; offset index j − i + n − 1."""
    n = (table.shape[1] + 1) // 2
    rows = [torch.stack([table[:, j - i + n - 1] for j in range(n)], dim=-1) for i in range(n)]
    return torch.stack(rows, dim=1)


def toeplitz(
    table: Float[Tensor, "head offset"], queries: Int[Tensor, " query"] | None = None
) -> Float[Tensor, "head query key"]:
    """Rows of the n × n Toeplitz matrix of each head, n = (offsets + 1)/2.

    Args:
        table: t_δ for δ = −(n−1) … n−1, in this order.
        queries: which rows, in any order; None for all.

    Raises:
        ValueError: for an even number of offsets, which belongs to no square matrix, or a row outside it.
    """
    offsets = table.shape[1]
    if offsets % 2 == 0:
        raise ValueError(f"a Toeplitz matrix of n rows has 2n − 1 scalars, an odd number, not {offsets}.")
    n = (offsets + 1) // 2
    # Window s of the table is row n − 1 − s of the matrix.
    windows = table.unfold(1, n, 1)
    if queries is None:
        return windows.flip(1)
    if queries.numel() and (queries.min() < 0 or queries.max() >= n):
        raise ValueError(f"queries must be rows 0 … {n - 1}, not {int(queries.min())} … {int(queries.max())}.")
    return windows.index_select(1, n - 1 - queries)
