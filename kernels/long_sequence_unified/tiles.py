"""One block of keys against a worker's rows, b × b scores at a time.

    S = scale·Q K_Jᵀ,   m′ = max(m, rowmax S),   c = e^{m−m′},   Ŝ = e^{S−m′}
    ℓ ← cℓ + rowsum Ŝ,   O ← cO + Ŝ V_J,   m ← m′;   at the end z = O/ℓ and lse = m + log ℓ

(Milakov & Gimelshein 2018 for the softmax; `long_sequence_unified`, 2023, for its use across workers). The triple does
not depend on the order of the blocks. The gradient recomputes S from z and lse alone:

    P = e^{S−lse},   δ = rowsum(dz ⊙ z),   dS = P ⊙ (dz Vᵀ − δ),   dV = Pᵀdz,   dQ = scale·dS K,   dK = scale·dSᵀQ
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Rows = Float[Tensor, "batch head query d_head"]
Keys = Float[Tensor, "batch head key d_head"]
Row = Float[Tensor, "batch head query"]


@dataclass(frozen=True)
class Rules:
    """What holds for all workers.

    Attributes:
        scale: what scores are multiplied by.
        causal: whether a row sees no key behind itself.
        tile: b, the side of the largest matrix of scores that is ever made, for each head.
    """

    scale: float
    causal: bool
    tile: int


class Block(NamedTuple):
    """Keys and values on their way round, with the position in the whole sequence of the first of them."""

    k: Keys
    v: Keys
    mask: Bool[Tensor, "batch key"] | None
    start: int


class Running(NamedTuple):
    """The triple of each row, changed in place: O, m and ℓ, in the dtype that sums are made in."""

    o: Rows
    m: Row
    l: Row


class Done(NamedTuple):
    """What the backward pass needs of a worker's rows: q, dz, lse and δ."""

    q: Rows
    dz: Rows
    lse: Row
    delta: Row


def accumulator(dtype: torch.dtype) -> torch.dtype:
    """The dtype that sums are made in: float32 for the half precisions."""
    return torch.float32 if dtype.itemsize < 4 else dtype


def begin(q: Rows) -> Running:
    """The triple of no keys: O = 0, m = −∞, ℓ = 0."""
    zero = torch.zeros(q.shape, dtype=accumulator(q.dtype), device=q.device)
    return Running(zero, zero.new_full(q.shape[:-1], -torch.inf), zero.new_zeros(q.shape[:-1]))


def fold(running: Running, q: Rows, start: int, block: Block, rules: Rules) -> None:
    """Takes a block into the triple of the rows that begin at position `start`."""
    for rows, keys in _tiles(q, start, block, rules):
        scores = _scores(q, start, block, rules, rows, keys)
        o, m, l = (each[:, :, rows] for each in running)
        new = torch.maximum(m, scores.amax(-1))
        shift = new.masked_fill(new == -torch.inf, 0.0)
        weights = scores.sub_(shift[..., None]).exp_()
        rescale = (m - shift).exp_()
        l.mul_(rescale).add_(weights.sum(-1))
        o.mul_(rescale[..., None]).add_(weights @ block.v[:, :, keys].to(weights.dtype))
        m.copy_(new)


def finish(running: Running) -> tuple[Rows, Row]:
    """z and lse; a row that saw no key has z = 0 and lse = −∞."""
    o, m, l = running
    return o / l.masked_fill(l == 0, 1.0)[..., None], m + l.log()


def fold_back(dq: Rows, done: Done, start: int, block: Block, rules: Rules) -> tuple[Keys, Keys]:
    """Adds a block's share to dq in place, and returns the rows' share of the block's (dk, dv)."""
    dk, dv = (torch.zeros(x.shape, dtype=dq.dtype, device=x.device) for x in (block.k, block.v))
    lse = done.lse.masked_fill(done.lse == -torch.inf, 0.0)
    for rows, keys in _tiles(done.q, start, block, rules):
        p = _scores(done.q, start, block, rules, rows, keys).sub_(lse[:, :, rows, None]).exp_()
        dz, k, v = done.dz[:, :, rows], block.k[:, :, keys].to(p.dtype), block.v[:, :, keys].to(p.dtype)
        dv[:, :, keys] += p.mT @ dz
        ds = (dz @ v.mT).sub_(done.delta[:, :, rows, None]).mul_(p).mul_(rules.scale)
        dq[:, :, rows] += ds @ k
        dk[:, :, keys] += ds.mT @ done.q[:, :, rows].to(p.dtype)
    return dk, dv


def _scores(
    q: Rows, start: int, block: Block, rules: Rules, rows: slice, keys: slice
) -> Float[Tensor, "batch head tile_query tile_key"]:
    """Scaled scores of one tile, −∞ where a row may not look."""
    wide = accumulator(q.dtype)
    scores = (q[:, :, rows].to(wide) * rules.scale) @ block.k[:, :, keys].to(wide).mT
    if rules.causal and block.start + keys.stop > start + rows.start + 1:
        at = torch.arange(start + rows.start, start + rows.stop, device=q.device)
        key = torch.arange(block.start + keys.start, block.start + keys.stop, device=q.device)
        scores.masked_fill_(key > at[:, None], -torch.inf)
    if block.mask is not None:
        scores.masked_fill_(~block.mask[:, None, None, keys], -torch.inf)
    return scores


def _tiles(q: Rows, start: int, block: Block, rules: Rules) -> Iterator[tuple[slice, slice]]:
    """Pairs of rows and keys, at most `tile` of each, without those that lie in the future altogether."""
    for rows in _slices(q.shape[2], rules.tile):
        for keys in _slices(block.k.shape[2], rules.tile):
            if rules.causal and block.start + keys.start >= start + rows.stop:
                break
            yield rows, keys


def _slices(n: int, size: int) -> Iterator[slice]:
    return (slice(i, min(i + size, n)) for i in range(0, n, size))
