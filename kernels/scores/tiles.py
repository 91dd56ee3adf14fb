"""Tiles of query rows: how every blockwise attention walks over [batch, head, query, key] and reads its scores.

A tile of scores stays near 1 MiB, so that neither direction of any attention holds an n×n matrix per sample.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from microtome.kernels.scores.transform import ScoreTransform

TILE_ELEMENTS = 1 << 18


class Tile(NamedTuple):
    """Slices over batch, head and query row."""

    batch: slice
    head: slice
    rows: slice


def tiles(batch: int, head: int, query: int, key: int) -> Iterator[Tile]:
    """Cuts [batch, head, query, key] into tiles of about TILE_ELEMENTS scores: whole rows of keys, at least
    32 of them (matrix products of fewer rows waste the cores), then whole heads, then whole samples."""
    rows = min(query, max(32, TILE_ELEMENTS // key))
    heads = min(head, max(1, TILE_ELEMENTS // (rows * key)))
    samples = min(batch, max(1, TILE_ELEMENTS // (head * rows * key))) if heads == head else 1
    for b in range(0, batch, samples):
        for h in range(0, head, heads):
            for r in range(0, query, rows):
                yield Tile(
                    slice(b, min(b + samples, batch)),
                    slice(h, min(h + heads, head)),
                    slice(r, min(r + rows, query)),
                )


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """float64 stays; everything narrower is summed in float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def visible(tile: Tile, n_key: int, transform: ScoreTransform) -> slice:
    """The keys that any row of the tile may see by its place: under plain causality those up to its last row."""
    aligned = transform.causal and transform.positions is None
    return slice(0, min(n_key, tile.rows.stop) if aligned else n_key)


def scores(q: Tensor, k: Tensor, tile: Tile, keys: slice, transform: ScoreTransform) -> Tensor:
    """Fresh s [batch head row key] of one tile against these keys; −∞ where a row may not look."""
    s = torch.matmul(q[tile] * transform.scale, k[tile.batch, tile.head, keys].mT)
    if transform.bias is not None:
        s.add_(table(transform.bias, tile, keys))
    # Plain causality forbids nothing before the tile's first row.
    first = keys.start if transform.positions is not None else max(keys.start, tile.rows.start)
    future = transform.future(tile.rows, slice(first, keys.stop), q.device) if first < keys.stop else None
    if future is not None:
        s[..., first - keys.start :].masked_fill_(future, -math.inf)
    if transform.mask is not None:
        s.masked_fill_(~transform.mask[tile.batch, None, None, keys], -math.inf)
    return s


def table(whole: Tensor, tile: Tile, keys: slice) -> Tensor:
    """The [head | 1, row, key] part of a bias or factor that this tile reads."""
    heads = tile.head if whole.shape[0] > 1 else slice(0, 1)
    return whole[heads, tile.rows, keys]


def add_to_table(into: Tensor, part: Tensor, tile: Tile, keys: slice) -> None:
    """Adds a tile's [batch head row key] gradient to its table, summing over what the table broadcasts."""
    total = part.sum(0)
    if into.shape[0] == 1:
        total = total.sum(0, keepdim=True)
    table(into, tile, keys).add_(total)
