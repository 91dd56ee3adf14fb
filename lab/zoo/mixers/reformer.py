"""Reformer (Kitaev et al. 2020, "Reformer: the efficient transformer"): softmax attention inside hash buckets.

Queries are keys, the keys of unit length: s_ij = q_i·q_j/(‖q_j‖√d). In each of `rounds` rounds a query sees the members
of its own bucket in its own chunk and the one before, itself only if it sees nobody else, and the rounds are joined by
their log-normalisers,

    z_i = Σ_r e^{l_i^r − l_i} z_i^r,   l_i = log Σ_r e^{l_i^r}

(equations 5 and 6), a key that shares its query's bucket in N rounds being counted 1/N in each. Directions are drawn
once a layer and frozen. A chunk has 2·n_ctx/n_buckets slots (section 2; "Long Range Arena", Tay et al. 2020, slug
`long_range_arena`: 10 buckets). Where the published code sorts all positions into one row of chunks, every bucket has
chunks of its own here: see `_lsh`.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from microtome.lab.zoo.mixers import _lsh
from microtome.lab.zoo.mixers._heads import softmax_or_zero
from microtome.lab.zoo.mixers._lsh import Buckets
from microtome.lab.zoo.mixers._pattern import Features, Heads, Pattern, PatternMixer
from microtome.lab.zoo.parts import Context, MixerPart, Shape
from microtome.lab.zoo.template import Template

CHUNK = 64
"""Slots of a chunk where the number of buckets is left open."""
ALONE = -1e5
"""The score of a position with itself: it counts where there is no other."""


class ReformerMixer(PatternMixer):
    """Multi-head hashed attention of one layer; `hook_q` carries what are queries and, normalised, keys."""

    absent: ClassVar = PatternMixer.absent | {"hook_k": "keys are the queries, normalised, and hook_q carries them"}

    def __init__(self, options: "Part", shape: Shape):
        super().__init__(shape)
        self.k = self.q
        del self.hook_k
        self.n_buckets = options.buckets_for(shape.n_ctx)
        self.longest_chunk = -(-2 * shape.n_ctx // self.n_buckets) if self.n_buckets > 1 else shape.n_ctx
        half = self.n_buckets // 2
        self.register_buffer("directions", torch.randn(options.rounds, shape.n_heads, self.d_head, half))

    def _heads(self, x: Tensor, context: Context) -> tuple[Features, Features, Heads]:
        split = (self.n_heads, self.d_head)
        q = self.hook_q(self.q(x).unflatten(-1, split)).transpose(1, 2)
        v = self.hook_v(self.v(x).unflatten(-1, split)).transpose(1, 2)
        return q, F.normalize(q, dim=-1), v

    def chunk(self, n: int) -> int:
        """Slots that a chunk has for inputs of n positions: no more than positions, of which a bucket has no more."""
        return min(self.longest_chunk, n)

    def _buckets(self, k: Heads, context: Context) -> list[Buckets]:
        return [_lsh.buckets(k, r, context.mask) for r in self.directions.to(k.dtype)]

    def _pattern(self, q: Features, k: Features, context: Context) -> Pattern:
        """All rounds on the n × n scores."""
        n, found = context.n, self._buckets(k, context)
        place = torch.arange(n, device=q.device)
        shared = torch.stack([b[..., :, None] == b[..., None, :] for b in found])  # [round batch head query key]
        scores = q @ k.mT * self.d_head**-0.5 - shared.sum(0).clamp(min=1).log()
        scores = torch.where(place[:, None] == place, ALONE, scores)
        allowed = torch.ones(n, n, dtype=torch.bool, device=q.device)
        if self.causal:
            allowed = allowed.tril()
        if context.mask is not None:
            allowed = allowed & context.mask[:, None, None]
        tables = []
        for same, bucket in zip(shared, found, strict=True):
            chunk = _lsh.layout(bucket, self.n_buckets, self.chunk(n)).slots // self.chunk(n)
            behind = chunk[..., :, None] - chunk[..., None, :]
            tables.append(scores.masked_fill(~(allowed & same & ((behind == 0) | (behind == 1))), -torch.inf))
        return softmax_or_zero(torch.stack(tables, dim=-2).flatten(-2)).unflatten(-1, (len(tables), n)).sum(-2)

    def _fast(self, q: Features, k: Features, v: Heads, context: Context) -> Heads:
        """Round by round over chunks, joined by their log-normalisers."""
        found = self._buckets(k, context)
        outputs, levels = zip(*(self._round(q, k, v, r, found, context) for r in range(len(found))), strict=True)
        level = torch.stack(levels)
        weights = softmax_or_zero(level.movedim(0, -1)).movedim(-1, 0)
        return (weights[..., None] * torch.stack(outputs)).sum(0)

    def _round(
        self, q: Heads, k: Heads, v: Heads, which: int, found: list[Buckets], context: Context
    ) -> tuple[Heads, Float[Tensor, "batch head pos"]]:
        """Output and log-normaliser of one round; 0 and −∞ where a position sees nothing."""
        sorted_ = _lsh.layout(found[which], self.n_buckets, self.chunk(context.n))
        q_c, k_c, v_c = (self._sorted(x, sorted_) for x in (q, k, v))
        scores = (q_c * self.d_head**-0.5) @ _with_previous(k_c).mT
        if len(found) > 1:
            labels = self._sorted(torch.stack(found, dim=-1), sorted_)  # [batch head chunk slot round]
            shared = labels[..., :, None, :] == _with_previous(labels)[..., None, :, :]
            scores = scores - shared.sum(-1).clamp(min=1).log()
        # A bucket's members keep their order, so that a slot's place in its window says which key is itself or later.
        ahead = torch.arange(-sorted_.chunk, sorted_.chunk, device=q.device)
        ahead = ahead - torch.arange(sorted_.chunk, device=q.device)[:, None]
        open_ = self._open(sorted_, found[which], context)[..., None, :]
        if self.causal:
            open_ = open_ & (ahead <= 0)
        scores = torch.where(ahead == 0, ALONE, scores).masked_fill(~open_, -torch.inf)
        level = _logsumexp(scores)
        weights = (scores - level.masked_fill(level == -torch.inf, 0.0)[..., None]).exp()
        z = weights @ _with_previous(v_c)
        slots = sorted_.slots
        return (
            z.flatten(2, 3).gather(2, slots[..., None].expand(-1, -1, -1, z.shape[-1])),
            level.flatten(2, 3).gather(2, slots),
        )

    def _open(
        self, sorted_: _lsh.Layout, bucket: Buckets, context: Context
    ) -> Bool[Tensor, "batch head chunk two_chunks"]:
        """Which slots of a chunk and of the one before it hold a real position of the chunk's own bucket."""
        real = torch.ones_like(bucket, dtype=torch.bool)
        if context.mask is not None:
            real = real & context.mask[:, None]
        held, label = (self._sorted(x[..., None], sorted_)[..., 0] for x in (real, bucket))
        whose = label[..., 0]  # a chunk is of one bucket, and filled from its first slot
        continues = F.pad(whose[..., 1:] == whose[..., :-1], (1, 0))[..., None]
        return torch.cat([_before(held) & continues, held], dim=-1)

    def _sorted(self, x: Tensor, sorted_: _lsh.Layout) -> Tensor:
        """[batch head pos width] as [batch head chunk slot width], zeros in empty slots."""
        members = sorted_.members[..., None].expand(-1, -1, -1, x.shape[-1])
        return _chunks(F.pad(x, (0, 0, 0, 1)).gather(2, members), sorted_.chunk)


def _chunks(x: Tensor, chunk: int) -> Tensor:
    return x.unflatten(2, (-1, chunk))


def _before(x: Tensor) -> Tensor:
    """Of each chunk the one before it; zeros before the first."""
    return torch.cat([torch.zeros_like(x[:, :, :1]), x[:, :, :-1]], dim=2)


def _with_previous(x: Tensor) -> Tensor:
    """[batch head chunk slot width], each chunk behind the one before it."""
    return torch.cat([_before(x), x], dim=3)


def _logsumexp(scores: Tensor) -> Tensor:
    """Over the last axis, with no gradient where a row is −∞."""
    empty = (scores == -torch.inf).all(-1)
    return scores.masked_fill(empty[..., None], 0.0).logsumexp(-1).masked_fill(empty, -torch.inf)


@dataclass(frozen=True)
class Part(MixerPart):
    """`n_buckets`: an even number, 1 for a single bucket without hashing, or None for as many as give chunks of 64
    slots; `rounds` of hashing.
    """

    template: ClassVar = Template(
        matrix="softmax(QK̂ᵀ/√d) inside hash buckets, K̂ = Q/‖Q‖",
        depends="input",
        structure="block-diagonal after sorting",
        cost="rounds·n·2·chunk·d",
        normalised="softmax over keys",
        local="two chunks of the query's bucket",
    )

    n_buckets: int | None = None
    rounds: int = 1

    def buckets_for(self, n_ctx: int) -> int:
        return 2 * max(1, round(n_ctx / CHUNK)) if self.n_buckets is None else self.n_buckets

    def build(self, shape: Shape) -> ReformerMixer:
        buckets = self.buckets_for(shape.n_ctx)
        if buckets < 1 or (buckets > 1 and buckets % 2) or self.rounds < 1:
            raise ValueError(f"n_buckets must be even or 1, and rounds at least 1, not {buckets} and {self.rounds}.")
        return ReformerMixer(self, shape)
