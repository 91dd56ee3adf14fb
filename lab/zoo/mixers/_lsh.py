"""Locality-sensitive hashing for Reformer (Kitaev et al. 2020, "Reformer: the efficient transformer", section 2): which
bucket a vector falls into, and in which slot of which chunk it then stands.

Each bucket's members keep their order and are cut into chunks of their own. What a query can see then does not depend
on anything after it; chunks that run on from one bucket into the next, as published, would let the number of later
tokens in lower buckets decide.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

Heads = Float[Tensor, "batch head pos d_head"]
Buckets = Int[Tensor, "batch head pos"]


def buckets(x: Heads, directions: Float[Tensor, "head d_head half"], real: Bool[Tensor, "batch pos"] | None) -> Buckets:
    """argmax over [xR; −xR], equation 3's angular hash; positions that are not real have a bucket behind all others.

    Without directions, `half` = 0, all are in bucket 0.
    """
    half = directions.shape[-1]
    if half:
        projected = x @ directions
        found = torch.cat([projected, -projected], dim=-1).argmax(-1)
    else:
        found = x.new_zeros(x.shape[:3], dtype=torch.long)
    return found if real is None else found.masked_fill(~real[:, None], max(2 * half, 1))


@dataclass(frozen=True)
class Layout:
    """Where positions stand when sorted by bucket and cut into chunks.

    Attributes:
        slots: the slot of each position, [batch head pos].
        members: the position in each slot, [batch head slot]; n where a slot is empty.
        chunk: slots a chunk has.
    """

    slots: Int[Tensor, "batch head pos"]
    members: Int[Tensor, "batch head slot"]
    chunk: int


def layout(bucket: Buckets, n_buckets: int, chunk: int) -> Layout:
    """Chunks of `chunk` slots, begun anew in each of the n_buckets + 1 buckets.

    There are as many chunks as the fullest head needs.
    """
    *lead, n = bucket.shape
    order = bucket.argsort(dim=-1, stable=True)
    counts = torch.zeros(*lead, n_buckets + 1, dtype=torch.long, device=bucket.device)
    counts.scatter_add_(-1, bucket, torch.ones_like(bucket))
    firsts = counts.cumsum(-1) - counts  # rank of each bucket's first member among all
    chunks = -(-counts // chunk)
    chunk_starts = chunks.cumsum(-1) - chunks
    ranks = torch.empty_like(bucket).scatter_(-1, order, torch.arange(n, device=bucket.device).expand_as(order))
    within = ranks - firsts.gather(-1, bucket)
    slots = chunk_starts.gather(-1, bucket) * chunk + within
    total = int(chunks.sum(-1).max()) * chunk
    members = torch.full((*lead, total), n, dtype=torch.long, device=bucket.device)
    members.scatter_(-1, slots, torch.arange(n, device=bucket.device).expand_as(slots))
    return Layout(slots, members, chunk)
