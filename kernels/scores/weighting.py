"""Attention whose weights are no softmax, over tiles: outputs, gradients and row entropies.

    z_i = Σ_j w_ij v_j,   w_ij a function of s_ij and, in some weightings, of a sum over the row.

With g_ij = ∂w_ij/∂s_ij at a held sum and dw = dz·vᵀ, the gradient of the scores is

    dS = g ⊙ dw                          of weights that know nothing of their row (sigmoid),
    dS = g ⊙ (dw − Σ_j w_ij dw_ij)       of weights w = y/(ε + Σ y) (power),

and dq = scale·dS·k, dk = scale·dSᵀ·q, dv = wᵀ·dz, dbias = Σ_batch dS. Tiles are made again in the backward pass instead
of being kept (as Dao et al. 2022, alg. 4), so that memory is linear in n.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from microtome.kernels.scores.tiles import Tile, add_to_table, scores, tiles, visible
from microtome.kernels.scores.transform import ScoreTransform

KEYS = 1024
"""Keys of a tile where weights do not need their whole row."""


class Weighting(ABC):
    """How scores become weights."""

    whole_rows: ClassVar[bool]
    """Whether a weight is divided by a sum over its row, so that tiles must hold whole rows."""

    @abstractmethod
    def plainly(self, s: Tensor) -> Tensor:
        """w [… key] of scores s, by the equation; differentiable, 0 where s is −∞."""

    @abstractmethod
    def weights(self, s: Tensor) -> Tensor:
        """The same, overwriting s."""

    @abstractmethod
    def slope(self, s: Tensor) -> tuple[Tensor, Tensor]:
        """w and ∂w_ij/∂s_ij at a held row sum; may overwrite s."""

    @abstractmethod
    def on_gpu(self, q: Tensor, k: Tensor, v: Tensor, transform: ScoreTransform) -> tuple[Tensor, ...]:
        """z by Triton, and the statistics of rows [batch head query] that its backward pass reads."""

    @abstractmethod
    def backward_on_gpu(
        self, inputs: tuple[Tensor, Tensor, Tensor], saved: tuple[Tensor, ...], dz: Tensor, transform: ScoreTransform
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of q, k and v by Triton; `saved` is what `on_gpu` gave."""


class Gradients(NamedTuple):
    """Of each input; None where none is asked for."""

    q: Tensor
    k: Tensor
    v: Tensor
    bias: Tensor | None


def forward(q: Tensor, k: Tensor, v: Tensor, transform: ScoreTransform, weighting: Weighting) -> Tensor:
    """z [batch head query d_head]; everything in the accumulation dtype, nothing empty."""
    z = torch.zeros(q.shape, dtype=q.dtype, device=q.device)
    for tile, keys in _pieces(q, k, transform, weighting):
        z[tile] += weighting.weights(scores(q, k, tile, keys, transform)) @ v[tile.batch, tile.head, keys]
    return z


def backward(
    inputs: tuple[Tensor, Tensor, Tensor],
    dz: Tensor,
    transform: ScoreTransform,
    weighting: Weighting,
    needs_bias: bool,
) -> Gradients:
    """Gradients of all inputs from that of z; everything in the accumulation dtype."""
    q, k, v = inputs
    bias = torch.zeros_like(transform.bias, dtype=q.dtype) if needs_bias else None
    into = Gradients(torch.zeros_like(q), torch.zeros_like(k), torch.zeros_like(v), bias)
    for tile, keys in _pieces(q, k, transform, weighting):
        seen = (tile.batch, tile.head, keys)
        w, slope = weighting.slope(scores(q, k, tile, keys, transform))
        into.v[seen] += w.mT @ dz[tile]
        dw = dz[tile] @ v[seen].mT
        if weighting.whole_rows:
            dw.sub_(w.mul_(dw).sum(-1, keepdim=True))
        ds = dw.mul_(slope)
        if bias is not None:
            add_to_table(bias, ds, tile, keys)
        into.q[tile] += (ds @ k[seen]).mul_(transform.scale)
        into.k[seen] += (ds.mT @ q[tile]).mul_(transform.scale)
    return into


def row_entropy(q: Tensor, k: Tensor, transform: ScoreTransform, weighting: Weighting) -> Tensor:
    """[batch head query] in nats, of each row of weights divided by its sum; 0 for a row of zeros."""
    total, own = (torch.zeros(q.shape[:3], dtype=q.dtype, device=q.device) for _ in range(2))
    for tile, keys in _pieces(q, k, transform, weighting):
        w = weighting.weights(scores(q, k, tile, keys, transform))
        total[tile] += w.sum(-1)
        own[tile] += torch.special.entr(w).sum(-1)
    safe = total.masked_fill(total == 0, 1.0)
    # H(w/T) = (Σ −w log w)/T + log T
    return (own / safe + safe.log()).clamp_min_(0.0)


def _pieces(q: Tensor, k: Tensor, transform: ScoreTransform, weighting: Weighting) -> Iterator[tuple[Tile, slice]]:
    """Tiles with the keys that they are to be met with, one piece after the other."""
    n_key = k.shape[2]
    longest = n_key if weighting.whole_rows else min(n_key, KEYS)
    for tile in tiles(*q.shape[:3], longest):
        last = visible(tile, n_key, transform).stop
        for start in range(0, last, longest):
            yield tile, slice(start, min(start + longest, last))
