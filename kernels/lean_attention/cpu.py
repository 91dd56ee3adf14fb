"""The fast CPU path: torch's fused attention over what there is to read, and nothing else.

Decoding is bound by the reading of keys and values. A group's query heads become rows of one query tile, so that the
keys are read once for all of them; a sequence's keys end at its length. Torch deals heads and sequences to threads;
where there are fewer of them than threads, the keys are cut into as many parts as threads and merged by ⊕.
"""

from itertools import groupby

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from microtome.kernels.lean_attention import triple
from microtome.kernels.lean_attention.triple import LOG2_E, Triple

SHORTEST_PART = 4096
"""Keys of a part below which a thread is not worth waking."""
_OPERATOR = getattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu", None)


def forward(q: Tensor, k: Tensor, v: Tensor, lengths: list[int], scale: float) -> Tensor:
    """z [batch head d_head]; neighbours of equal length go through one call."""
    batch, head, d_head = q.shape
    rows = q.reshape(batch, k.shape[1], head // k.shape[1], d_head)
    z = torch.zeros_like(rows)
    for n, members in groupby(range(batch), key=lengths.__getitem__):
        members = list(members)
        run = slice(members[0], members[-1] + 1)
        if n:
            z[run] = _attend(rows[run], k[run, :, :n], v[run, :, :n], scale)
    return z.reshape(batch, head, d_head)


def _attend(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """Sequences of one length, [batch kv_head row d_head]."""
    parts = min(torch.get_num_threads(), k.shape[2] // SHORTEST_PART)
    # The operator reads features as if they lay side by side, whatever their stride says.
    takes = _OPERATOR is not None and k.stride(-1) == v.stride(-1) == 1
    if not takes or parts < 2 or q.shape[:2].numel() >= torch.get_num_threads():
        return scaled_dot_product_attention(q, k, v, scale=scale)
    each = [_in_parts(*of, parts, scale) for of in zip(q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1), strict=True)]
    return torch.stack(each).view_as(q)


def _in_parts(q: Tensor, k: Tensor, v: Tensor, parts: int, scale: float) -> Tensor:
    """One head of one sequence, q [row d_head], its keys [key d_head] cut into parts for the threads."""
    whole = k.shape[0] // parts * parts
    cut = [x[:whole].unflatten(0, (parts, -1))[:, None] for x in (k, v)]
    z, lse = _OPERATOR(q.contiguous().expand(parts, 1, *q.shape), *cut, scale=scale)
    # A normalised part is the triple (lse, 1, z): its weight is in its logarithm.
    found = [
        Triple(m.to(z.dtype) * LOG2_E, torch.ones_like(m, dtype=z.dtype), o)
        for m, o in zip(lse[:, 0], z[:, 0], strict=True)
    ]
    if whole < k.shape[0]:
        found.append(triple.partial(q, k[whole:], v[whole:], scale))
    total = found[0]
    for part in found[1:]:
        total = triple.merge(total, part)
    return triple.finish(total)
