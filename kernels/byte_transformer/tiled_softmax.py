"""Softmax over tiles of columns, as the grouped-GEMM attention makes it without a pass of its own over the scores.

GEMM 1 leaves for each row of a tile m = max_j s_j and l = Σ_j e^{s_j − m}; a light kernel merges the tiles of a row,

    (m, l) ⊕ (m', l') = (M, l·e^{m − M} + l'·e^{m' − M}),   M = max(m, m'),   identity (−∞, 0),

and GEMM 2 applies e^{s − m}/l to the scores as it loads them (Zhai et al. 2022, section III-D).
"""

import torch
from jaxtyping import Float
from torch import Tensor


def tile_statistics(
    scores: Float[Tensor, "*row key"], width: int
) -> tuple[Float[Tensor, "*row tile"], Float[Tensor, "*row tile"]]:
    """m and l of tiles of `width` columns, the last one narrower if need be; columns of −∞ do not count.

    Raises ValueError for a width below 1.
    """
    if width < 1:
        raise ValueError(f"a tile must be at least 1 column wide, got {width}")
    tiles = scores.split(width, -1)
    m = torch.stack([tile.amax(-1) for tile in tiles], -1)
    safe = m.masked_fill(m == -torch.inf, 0.0)
    l = torch.stack([(tile - safe[..., i, None]).exp().sum(-1) for i, tile in enumerate(tiles)], -1)
    return m, l


def merge(
    m: Float[Tensor, "*row tile"], l: Float[Tensor, "*row tile"]
) -> tuple[Float[Tensor, "*row"], Float[Tensor, "*row"]]:
    """The statistics of whole rows."""
    top = m.amax(-1)
    safe = top.masked_fill(top == -torch.inf, 0.0)
    return top, (l * (m - safe[..., None]).exp()).sum(-1)


def softmax(scores: Float[Tensor, "*row key"], width: int) -> Float[Tensor, "*row key"]:
    """e^{s − m}/l with m and l merged from tiles; a row of −∞ alone gives 0."""
    m, l = merge(*tile_statistics(scores, width))
    safe, total = m.masked_fill(m == -torch.inf, 0.0), l.masked_fill(l == 0, 1.0)
    return (scores - safe[..., None]).exp() / total[..., None]
