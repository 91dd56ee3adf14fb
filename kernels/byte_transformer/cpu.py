"""The fast CPU path: torch's fused attention on each run of neighbours of one length, which packed rows hold as views.

A sequence's heads are enough work for the threads, so that sequences go one after the other and nothing is copied but
the results into one tensor. Differentiable.
"""

from itertools import groupby

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from microtome.kernels.byte_transformer.packing import Packing


def forward(q: Tensor, k: Tensor, v: Tensor, packing: Packing, scale: float) -> Tensor:
    """z [token head d_head]."""
    first, done = 0, []
    for n, members in groupby(packing.lengths):
        count = len(list(members))
        rows = slice(first, first + count * n)
        first = rows.stop
        if n:
            inputs = (x[rows].unflatten(0, (count, n)).transpose(1, 2) for x in (q, k, v))
            z = scaled_dot_product_attention(*inputs, scale=scale)
            done.append(z.transpose(1, 2).flatten(0, 1))
    return torch.cat(done) if done else torch.empty_like(q)
