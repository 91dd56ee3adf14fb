"""The four patterns of Combiner (Ren et al. 2021, slug `combiner`): attention as a conditional expectation.

    z_i = Σ_{j∈Ω⁰} p(j|i) v_j + Σ_r p(Ω_r|i) Σ_{j∈Ω_r} p(j|Ω_r) v_j

p(·|i) is one softmax over q_i·k_j for the direct keys and q_i·K_r for the regions; inside a region p(j|Ω_r) =
softmax_j(Q_r·k_j) does not depend on i. Q_r and K_r pool the queries and the keys of the region, elementwise. Queries
come scaled. Every function is linear in v, so that values which are the unit matrix give the n × n weights.
"""

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from microtome.lab.zoo.mixers._heads import softmax_or_zero

Heads = Float[Tensor, "batch head pos d_head"]
Values = Float[Tensor, "batch head pos width"]
Real = Bool[Tensor, "batch pos"]
Pool = Literal["max", "mean"]


class Input(NamedTuple):
    """Scaled queries, keys and values, which positions are real, whether the future is hidden, and how to pool."""

    q: Tensor
    k: Tensor
    v: Tensor
    real: Tensor
    causal: bool
    pool: Pool


def fixed(given: Input, w: int) -> Values:
    """Segments of w: the own one directly, every earlier one (every other one, without causality) as a region."""
    n = given.q.shape[2]
    q, k, v, real = _cut(given, w)  # [batch head segment place …]
    segments = q.shape[2]
    direct = (q @ k.mT).masked_fill(~_own_row(real, given.causal), -torch.inf)
    keys, summary, there = _regions(q, k, v, real, given.pool)
    at = torch.arange(segments, device=q.device)
    other = at < at[:, None] if given.causal else at != at[:, None]
    seen = (other & there[..., None, :])[..., None, :]
    regions = (q @ keys[:, :, None].mT).masked_fill(~seen, -torch.inf)  # [batch head segment place region]
    own, of_regions = _softmax(direct, regions)
    z = own @ v + of_regions @ summary[:, :, None]
    return z.flatten(2, 3)[:, :, :n]


def logsparse(given: Input) -> Values:
    """Itself directly; at every level l the segment of 2^l beside its own: the one before it if it has an odd number,
    and, without causality, the one behind it if it has an even one. So the binary digits of i cut what lies before it
    into regions."""
    q, n = given.q, given.q.shape[2]
    real = given.real[:, None]
    logits = [((q * given.k).sum(-1)).masked_fill(~real, -torch.inf)]
    values = [given.v]
    at = torch.arange(n, device=q.device)
    for level in range((n - 1).bit_length()):
        size = 1 << level
        pieces = _cut(given, size, even=True)
        keys, summary, there = _regions(*pieces, given.pool)
        segment = at // size
        beside = segment ^ 1
        seen = there[..., beside]
        if given.causal:
            seen = seen & (segment % 2 == 1)
        logits.append(((q * keys[:, :, beside]).sum(-1)).masked_fill(~seen, -torch.inf))
        values.append(summary[:, :, beside])
    (weights,) = _softmax(torch.stack(logits, dim=-1))
    return sum(weights[..., i, None] * value for i, value in enumerate(values))


def axial(given: Input, w: int, summary_keys: Heads) -> Values:
    """Rows of w positions: the own row directly; of every earlier row (every other one) the summary that stands in the
    own column: what its position there sees of its whole row, under the key `summary_keys` has for it."""
    n = given.q.shape[2]
    q, k, v, real = _cut(given, w)
    keys = _cut(given._replace(k=summary_keys), w)[1]
    direct = (q @ k.mT).masked_fill(~_own_row(real, given.causal), -torch.inf)
    summary = _softmax((q @ k.mT).masked_fill(~_own_row(real, False), -torch.inf))[0] @ v
    by_column = q.transpose(2, 3) @ keys.transpose(2, 3).mT  # [batch head column row other_row]
    seen = _other_rows(q.shape[2], given.causal, q.device) & real.any(-1)[:, :, None, None]
    own, of_rows = _softmax(direct, by_column.masked_fill(~seen, -torch.inf).transpose(2, 3))
    z = own @ v + (of_rows.transpose(2, 3) @ summary.transpose(2, 3)).transpose(2, 3)
    return z.flatten(2, 3)[:, :, :n]


def row_outputs(given: Input, w: int) -> Values:
    """What each position sees of its whole row, by softmax: the summaries' values, before their keys are made."""
    q, k, v, real = _cut(given, w)
    weights = _softmax((q @ k.mT).masked_fill(~_own_row(real, False), -torch.inf))[0]
    return (weights @ v).flatten(2, 3)[:, :, : given.q.shape[2]]


def mixture(given: Input, w: int) -> Values:
    """A grid of rows of w: own row and, above, own column directly; as regions the columns' parts above (all of the
    others, without causality), and of every row above (every other one) what lies left and right of the own column.
    Regions overlap: a position may be reached on several ways."""
    n = given.q.shape[2]
    q, k, v, real = _cut(given, w)
    rows = q.shape[2]
    others = _other_rows(rows, given.causal, q.device)
    down = [x.transpose(2, 3) for x in (q, k, v)]  # [batch head column row …]
    real_down = real.transpose(2, 3)
    in_row = (q @ k.mT).masked_fill(~_own_row(real, given.causal), -torch.inf)
    in_column = (down[0] @ down[1].mT).masked_fill(~(others & real_down[..., None, :]), -torch.inf)
    keys, of_column, there = (x.transpose(2, 3) for x in _prefixes(*down, real_down, given.pool, given.causal))
    column = torch.arange(w, device=q.device)
    seen = (column != column[:, None]) & there[..., None, :]
    to_columns = (q @ keys.mT).masked_fill(~seen, -torch.inf)  # [batch head row column other_column]
    sides = [_beside(q, k, v, real, given.pool, flip) for flip in (False, True)]
    to_sides = []
    for side_keys, _, side_there in sides:
        scores = down[0] @ side_keys.transpose(2, 3).mT  # [batch head column row other_row]
        open_ = others & side_there.transpose(2, 3)[..., None, :]
        to_sides.append(scores.masked_fill(~open_, -torch.inf).transpose(2, 3))
    own, above, columns, left, right = _softmax(in_row, in_column.transpose(2, 3), to_columns, *to_sides)
    z = own @ v + columns @ of_column
    for weights, values in ((above, v), (left, sides[0][1]), (right, sides[1][1])):
        z = z + (weights.transpose(2, 3) @ values.transpose(2, 3)).transpose(2, 3)
    return z.flatten(2, 3)[:, :, :n]


def _prefixes(q: Tensor, k: Tensor, v: Tensor, real: Tensor, pool: Pool, causal: bool) -> tuple[Tensor, ...]:
    """Of every place on lines [batch head line place …]: key, value and presence of the region of the places before
    it; without causality of the whole line."""
    if not causal:
        keys, values, there = _regions(q, k, v, real, pool)
        size = q.shape[3]
        spread = (x[:, :, :, None].expand(-1, -1, -1, size, -1) for x in (keys, values))
        return *spread, there[..., None].expand(-1, -1, -1, size)
    return _strictly_before(q, k, v, real, pool)


def _beside(q: Tensor, k: Tensor, v: Tensor, real: Tensor, pool: Pool, flip: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Key, value and presence of the part of each row left of each column; right of it if flipped."""
    if not flip:
        return _strictly_before(q, k, v, real, pool)
    keys, values, there = _strictly_before(*(x.flip(3) for x in (q, k, v)), real.flip(3), pool)
    return keys.flip(3), values.flip(3), there.flip(3)


def _strictly_before(q: Tensor, k: Tensor, v: Tensor, real: Tensor, pool: Pool) -> tuple[Tensor, Tensor, Tensor]:
    """Of lines [batch head line place …]: the region of the places before each place."""
    size = q.shape[3]
    pooled_q, pooled_k = (_shifted(_cumulative(x, real, pool)) for x in (q, k))
    at = torch.arange(size, device=q.device)
    open_ = (at < at[:, None]) & real[..., None, :]
    weights = _softmax((pooled_q @ k.mT).masked_fill(~open_, -torch.inf))[0]
    return pooled_k, weights @ v, open_.any(-1).expand(*q.shape[:2], -1, -1)


def _cumulative(x: Tensor, real: Tensor, pool: Pool) -> Tensor:
    """The pool of real places up to each; 0 where there is none."""
    seen = real.cumsum(-1)[..., None]
    if pool == "mean":
        return (x * real[..., None]).cumsum(3) / seen.clamp(min=1)
    low = torch.finfo(x.dtype).min
    return x.masked_fill(~real[..., None], low).cummax(3).values.masked_fill(seen == 0, 0.0)


def _shifted(x: Tensor) -> Tensor:
    return F.pad(x, (0, 0, 1, 0))[..., :-1, :]


def _regions(q: Tensor, k: Tensor, v: Tensor, real: Tensor, pool: Pool) -> tuple[Tensor, Tensor, Tensor]:
    """Key [… d_head], value [… width] and presence of each line [batch head line place …] as a region."""
    pooled_q, pooled_k = (_pooled(x, real, pool) for x in (q, k))
    scores = (k @ pooled_q[..., None])[..., 0].masked_fill(~real, -torch.inf)
    (weights,) = _softmax(scores)
    return pooled_k, (weights[..., None, :] @ v)[..., 0, :], real.any(-1)


def _pooled(x: Tensor, real: Tensor, pool: Pool) -> Tensor:
    if pool == "mean":
        return (x * real[..., None]).sum(3) / real.sum(-1, keepdim=True).clamp(min=1)
    low = torch.finfo(x.dtype).min
    return x.masked_fill(~real[..., None], low).amax(3).masked_fill(~real.any(-1, keepdim=True), 0.0)


def _cut(given: Input, size: int, even: bool = False) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """q, k, v [batch head line place …] and real [batch 1 line place], filled up to whole lines, an even number if
    asked."""
    short = -given.q.shape[2] % (2 * size if even else size)
    lines = (F.pad(x, (0, 0, 0, short)).unflatten(2, (-1, size)) for x in given[:3])
    return *lines, F.pad(given.real, (0, short)).unflatten(1, (-1, size))[:, None]


def _own_row(real: Tensor, causal: bool) -> Tensor:
    """[batch 1 line query key]: which places of its line each place sees."""
    at = torch.arange(real.shape[-1], device=real.device)
    seen = real[..., None, :].expand(*real.shape, real.shape[-1])
    return seen & (at <= at[:, None]) if causal else seen


def _other_rows(rows: int, causal: bool, device: torch.device) -> Bool[Tensor, "row other_row"]:
    at = torch.arange(rows, device=device)
    return at < at[:, None] if causal else at != at[:, None]


def _softmax(*logits: Tensor) -> tuple[Tensor, ...]:
    """One softmax over all last axes together; a row of −∞ weighs nothing."""
    every = torch.cat(logits, dim=-1)
    weights = softmax_or_zero(every)
    return weights.split([each.shape[-1] for each in logits], dim=-1)
