"""Partial attention as a triple (m, l, O) and its merge, in base 2 and unnormalised.

    m = max_j s_j,   l = Σ_j 2^{s_j − m},   O = Σ_j 2^{s_j − m} v_j,   s_j = log₂e · scale · q·k_j

⊕ (in the package's docstring) is associative and commutative with the identity (−∞, 0, 0), so that any cut of the
keys, merged in any order, gives O/l = softmax attention (Sanovar et al. 2024, section 4.1).
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

LOG2_E = math.log2(math.e)


class Triple(NamedTuple):
    """m and l [... row], O [... row d_head]."""

    m: Tensor
    l: Tensor
    o: Tensor


def identity(rows: int, d_head: int, like: Tensor) -> Triple:
    """No key at all: (−∞, 0, 0), in the dtype of `like` and on its device."""
    return Triple(
        like.new_full((rows,), -torch.inf),
        like.new_zeros(rows),
        like.new_zeros(rows, d_head),
    )


def partial(
    q: Float[Tensor, "*batch row d_head"],
    k: Float[Tensor, "*batch key d_head"],
    v: Float[Tensor, "*batch key d_head"],
    scale: float,
) -> Triple:
    """The triple of some keys, at least one."""
    s = q @ k.mT * (scale * LOG2_E)
    m = s.amax(-1)
    p = torch.exp2(s - m[..., None])
    return Triple(m, p.sum(-1), p @ v)


def merge(a: Triple, b: Triple) -> Triple:
    """a ⊕ b."""
    m = torch.maximum(a.m, b.m)
    # −∞ − (−∞) is NaN; two identities have nothing to rescale.
    top = m.masked_fill(m == -torch.inf, 0.0)
    left, right = torch.exp2(a.m - top), torch.exp2(b.m - top)
    return Triple(m, a.l * left + b.l * right, a.o * left[..., None] + b.o * right[..., None])


def finish(a: Triple) -> Float[Tensor, "*batch row d_head"]:
    """O/l, and 0 for a row without keys."""
    return a.o / a.l.masked_fill(a.l == 0, 1.0)[..., None]
