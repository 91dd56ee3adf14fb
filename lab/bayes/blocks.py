"""Runs a batched computation over blocks of prompts: its temporaries stay in cache and memory is bounded."""

from collections.abc import Callable

import torch
from torch import Tensor

ENTRIES = 2**20  # 8 MB of float64: [batch points points] temporaries take half the time that they take uncut


def over_prompts(
    function: Callable[[Tensor, Tensor], tuple[Tensor, ...]],
    xs: Tensor,
    ys: Tensor,
    entries: int,
    limit: int = ENTRIES,
) -> tuple[Tensor, ...]:
    """`function(xs, ys)` of all prompts, computed for as many prompts at once as `limit` allows.

    Args:
        function: maps [batch points dim] and [batch points] to tensors whose first axis is the batch.
        xs: inputs, [batch points dim].
        ys: labels, [batch points].
        entries: numbers that the largest temporary of one prompt holds.
        limit: numbers that the largest temporary may hold; one prompt is always allowed.
    """
    size = max(1, limit // entries)
    if len(xs) <= size:
        return function(xs, ys)
    parts = [function(*block) for block in zip(xs.split(size), ys.split(size), strict=True)]
    return tuple(torch.cat(part) for part in zip(*parts, strict=True))
