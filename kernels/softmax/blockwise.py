"""Softmax attention over tiles of query rows: the CPU path that every score transform can take, and the
backward pass of every path.

A tile of scores stays near 1 MiB, so neither direction holds an n×n matrix per sample. The backward pass
recomputes P instead of keeping it (as Dao et al. 2022, alg. 4) and uses

    dS = P ⊙ (factor ⊙ (dz·vᵀ) − ⟨dz_i, z_i⟩ + dlse_i − dEnt_i (log P + Ent_i)),
    dfactor = Σ_batch P ⊙ (dz·vᵀ),   dbias = Σ_batch dS,   dq = scale·dS·k,   dk = scale·dSᵀ·q,

the last term of dS because ∂Ent_i/∂s_ij = −P_ij (log P_ij + Ent_i). Sums run in float32 for half precision.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from microtome.kernels.scores.tiles import Tile, add_to_table, scores, table, tiles, visible
from microtome.kernels.scores.transform import ScoreTransform

# exp of this is 0 in every dtype, and 0 · it is 0 where 0 · −∞ would be NaN.
NO_SCORE = -1e4


class Statistics(NamedTuple):
    """z [batch head query d_head], entropy and lse [batch head query]; None where not asked for."""

    z: Tensor | None
    entropy: Tensor | None
    lse: Tensor | None


def forward(q: Tensor, k: Tensor, v: Tensor | None, transform: ScoreTransform, statistics: bool = True) -> Statistics:
    """z if there are values, entropy and lse if `statistics`; accumulation dtype throughout, nothing empty."""
    z = None if v is None else torch.empty(q.shape, dtype=q.dtype, device=q.device)
    entropy = torch.empty(q.shape[:3], dtype=q.dtype, device=q.device) if statistics else None
    lse = torch.empty_like(entropy) if statistics else None
    for tile in tiles(*q.shape[:3], k.shape[2]):
        keys = visible(tile, k.shape[2], transform)
        s = scores(q, k, tile, keys, transform)
        if statistics:
            p, entropy[tile], lse[tile] = _statistics(s)
        else:
            p = _softmax(s, transform)
        if v is not None:
            if transform.factor is not None:
                p.mul_(table(transform.factor, tile, keys))
            z[tile] = p @ v[tile.batch, tile.head, keys]
    return Statistics(z, entropy, lse)


def _statistics(s: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(P, entropy, lse) of one tile, overwriting its scores."""
    top = s.amax(-1, keepdim=True)
    top.masked_fill_(top == -torch.inf, 0.0)
    p = s.sub_(top).exp()
    total = p.sum(-1, keepdim=True)
    # A row without keys has total 0: dividing by 1 instead leaves its zeros alone.
    safe = total.masked_fill(total == 0, 1.0)
    # With the row's maximum taken off, log Σ exp − Σ P s loses nothing to large logits.
    mean_score = s.clamp_min_(NO_SCORE).mul_(p).sum(-1, keepdim=True) / safe
    entropy = (safe.log() - mean_score).clamp_min_(0.0)
    return p.div_(safe), entropy[..., 0], (total.log() + top)[..., 0]


def _softmax(s: Tensor, transform: ScoreTransform) -> Tensor:
    """P of one tile; rows without a key, which only a mask or a bias can make, become 0."""
    p = s.softmax(-1)
    if transform.mask is not None or transform.bias is not None:
        p.masked_fill_(s.amax(-1, keepdim=True) == -torch.inf, 0.0)
    return p


class Gradients(NamedTuple):
    """What `backward` accumulates into; None where no gradient is asked for."""

    q: Tensor
    k: Tensor
    v: Tensor | None
    bias: Tensor | None
    factor: Tensor | None


def backward(
    inputs: tuple[Tensor, Tensor, Tensor | None],
    saved: Statistics,
    grad: Statistics,
    transform: ScoreTransform,
    needs_tables: tuple[bool, bool],
) -> Gradients:
    """Gradients of all inputs by recomputing each tile; `grad` holds None where an output was not used.

    Everything is in the accumulation dtype. `needs_tables` says whether bias and factor want gradients.
    """
    q, k, v = inputs
    bias, factor = transform.bias, transform.factor
    into = Gradients(
        torch.empty_like(q),
        torch.zeros_like(k),
        None if v is None else torch.zeros_like(v),
        torch.zeros_like(bias, dtype=q.dtype) if needs_tables[0] else None,
        torch.zeros_like(factor, dtype=q.dtype) if needs_tables[1] else None,
    )
    for tile in tiles(*q.shape[:3], k.shape[2]):
        _backward_tile(inputs, saved, grad, transform, tile, into)
    return into


def _backward_tile(
    inputs, saved: Statistics, grad: Statistics, transform: ScoreTransform, tile: Tile, into: Gradients
) -> None:
    q, k, v = inputs
    keys = visible(tile, k.shape[2], transform)
    seen = (tile.batch, tile.head, keys)
    p = _softmax(scores(q, k, tile, keys, transform), transform)
    if grad.z is None:
        slope = torch.zeros_like(p)
    else:
        dz, weights = grad.z[tile], p
        slope = dz @ v[seen].mT
        if transform.factor is not None:
            factor = table(transform.factor, tile, keys)
            if into.factor is not None:
                add_to_table(into.factor, p * slope, tile, keys)
            slope.mul_(factor)
            weights = p * factor
        into.v[seen] += weights.mT @ dz
        slope.sub_((dz * saved.z[tile]).sum(-1, keepdim=True))
    if grad.lse is not None:
        slope.add_(grad.lse[tile][..., None])
    if grad.entropy is not None:
        surprise = p.log().clamp_min_(NO_SCORE).add_(saved.entropy[tile][..., None])
        slope.sub_(surprise.mul_(grad.entropy[tile][..., None]))
    ds = slope.mul_(p)
    if into.bias is not None:
        add_to_table(into.bias, ds, tile, keys)
    into.q[tile] = (ds @ k[seen]).mul_(transform.scale)
    into.k[seen] += (ds.mT @ q[tile]).mul_(transform.scale)
