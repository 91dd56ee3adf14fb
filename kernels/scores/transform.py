"""The score transform: which scores s_ij a query row sees, and what softmax's probabilities are multiplied by.

    s_ij = scale · q_i·k_j + bias_ij     where key j is allowed for row i, else −∞
    A_ij = softmax_j(s_ij) · factor_ij

(scaled dot products: Vaswani et al. 2017, eq. 1; bias: relative positions, Raffel et al. 2020, Press et al.
2022; factor: URPE, Luo et al. 2022, eq. 4). Every path of every weighting reads the same checked record.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class ScoreTransform:
    """What turns q·k into attention weights; built and checked by `score_transform`.

    `positions` [query] is None unless row i stands elsewhere than at key i. `bias` and `factor` are
    [head | 1, query, key]; `mask` [batch, key] is True where a key may be attended to.
    """

    scale: float
    bias: Tensor | None = None
    factor: Tensor | None = None
    causal: bool = False
    mask: Tensor | None = None
    positions: Tensor | None = None

    def scores(self, q: Tensor, k: Tensor) -> Tensor:
        """s [batch, head, query, key] in full, −∞ where a row may not look; differentiable."""
        s = self.scale * (q @ k.mT)
        if self.bias is not None:
            s = s + self.bias
        if self.mask is not None:
            s = s.masked_fill(~self.mask[:, None, None, :], -torch.inf)
        future = self.future(slice(0, q.shape[2]), slice(0, k.shape[2]), q.device)
        return s if future is None else s.masked_fill(future, -torch.inf)

    def future(self, rows: slice, keys: slice, device: torch.device) -> Tensor | None:
        """[row, key] True where causality forbids that key to that row; None without causality."""
        if not self.causal:
            return None
        aligned = self.positions is None
        stands = torch.arange(rows.start, rows.stop, device=device) if aligned else self.positions[rows]
        return torch.arange(keys.start, keys.stop, device=device) > stands[:, None]


def score_transform(
    q: Tensor,
    k: Tensor,
    *,
    bias: Tensor | None = None,
    factor: Tensor | None = None,
    causal: bool = False,
    mask: Tensor | None = None,
    scale: float | None = None,
    positions: Tensor | None = None,
) -> ScoreTransform:
    """Checks one call's arguments against q [batch, head, query, d_head] and k [batch, head, key, d_head].

    Raises ValueError or TypeError with one sentence that names the argument, what it was and what is allowed.
    `scale` defaults to 1/√d_head.
    """
    _check_pair("q", q, "k", k)
    batch, _, n_query, d_head = q.shape
    n_key = k.shape[2]
    if q.shape[:2] != k.shape[:2] or k.shape[3] != d_head:
        raise ValueError(f"k must share batch, head and d_head with q {tuple(q.shape)}, got {tuple(k.shape)}")
    if d_head == 0:
        raise ValueError("d_head must be at least 1, got q and k with no features")
    if scale is None:
        scale = 1 / math.sqrt(d_head)
    elif not math.isfinite(scale):
        raise ValueError(f"scale must be a finite number, got {scale}")
    _check_table("bias", bias, q, n_key)
    _check_table("factor", factor, q, n_key)
    if mask is not None and (mask.dtype != torch.bool or mask.shape != (batch, n_key)):
        raise ValueError(
            f"mask must be boolean [batch, key] = {(batch, n_key)}, True where a key may be attended to, "
            f"got {mask.dtype} {tuple(mask.shape)}"
        )
    _check_positions(positions, causal, n_query, n_key)
    return ScoreTransform(float(scale), bias, factor, causal, mask, positions)


def check_values(k: Tensor, v: Tensor) -> None:
    """Raises unless v has the shape, dtype and device of k."""
    _check_pair("k", k, "v", v)
    if v.shape != k.shape:
        raise ValueError(f"v must have the shape of k {tuple(k.shape)}, got {tuple(v.shape)}")


def _check_pair(first: str, a: Tensor, second: str, b: Tensor) -> None:
    for name, x in ((first, a), (second, b)):
        if x.dim() != 4 or not x.is_floating_point():
            raise ValueError(
                f"{name} must be a floating-point tensor [batch, head, position, d_head], "
                f"got {x.dtype} {tuple(x.shape)}"
            )
    if a.dtype != b.dtype or a.device != b.device:
        raise TypeError(
            f"{first} and {second} must share dtype and device, got {a.dtype} on {a.device} and {b.dtype} on {b.device}"
        )


def _check_table(name: str, table: Tensor | None, q: Tensor, n_key: int) -> None:
    if table is None:
        return
    _, head, n_query, _ = q.shape
    allowed = {(1, n_query, n_key), (head, n_query, n_key)}
    if not table.is_floating_point() or tuple(table.shape) not in allowed:
        raise ValueError(
            f"{name} must be floating point [head or 1, query, key] = {(head, n_query, n_key)}, "
            f"got {table.dtype} {tuple(table.shape)}"
        )


def _check_positions(positions: Tensor | None, causal: bool, n_query: int, n_key: int) -> None:
    if positions is None:
        if causal and n_query != n_key:
            raise ValueError(
                f"causal attention of {n_query} queries to {n_key} keys needs positions: "
                "the key index at which each query row stands"
            )
        return
    if not causal:
        raise ValueError("positions say where causal rows stand; without causal=True leave them out")
    if positions.shape != (n_query,) or positions.is_floating_point() or positions.dtype == torch.bool:
        raise ValueError(
            f"positions must be integers [query] = ({n_query},), got {positions.dtype} {tuple(positions.shape)}"
        )
    if n_query and (positions.min() < 0 or positions.max() >= n_key):
        raise ValueError(f"positions must lie in [0, {n_key}), got {int(positions.min())} to {int(positions.max())}")
