"""ByteTransformer's attention measured in float64: softmax from tiles, and packed rows without a leak.

Source: Zhai et al., "ByteTransformer: A High-Performance Transformer Boosted for Variable-Length Inputs" (2022),
section III.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from microtome.kernels.byte_transformer import Packing, attention, packing
from microtome.kernels.byte_transformer import tiled_softmax as tiled
from microtome.theory.claim import Claim
from microtome.theory.evidence import Check, Control, Evidence
from microtome.theory.statement import Statement

_COLUMNS = 257
_LENGTHS, _HEADS, _WIDTH = (5, 0, 33, 1, 64, 64, 20), 2, 16

TILED = Statement(
    name="softmax from tiles of any width",
    text="The statistics (m, l) of tiles of columns, merged, give the softmax of the row, whatever the tiles' width.",
    hypotheses=(f"rows of {_COLUMNS} scores from N(0, 30²), some of them −∞", f"every width from 1 to {_COLUMNS + 1}"),
    source="Zhai et al., ByteTransformer (2022), section III-D",
    slug="byte_transformer",
)
NO_LEAK = Statement(
    name="packed attention is attention of each sequence",
    text="Attention on packed rows gives what masked attention gives on the padded batch.",
    hypotheses=(f"lengths {', '.join(map(str, _LENGTHS))}, {_HEADS} heads of width {_WIDTH}, entries from N(0, 1)",),
    source="Zhai et al., ByteTransformer (2022), section III-D",
    slug="byte_transformer",
)


def unrescaled_softmax(scores: Float[Tensor, "row key"], width: int) -> Float[Tensor, "row key"]:
    """The control: sums of tiles added up as if all had one maximum."""
    m, l = tiled.tile_statistics(scores, width)
    return (scores - m.amax(-1, keepdim=True)).exp() / l.sum(-1, keepdim=True)


def _tiled(budget: str, seed: int) -> Evidence:
    generator = torch.Generator().manual_seed(seed)
    scores = 30 * torch.randn(16, _COLUMNS, generator=generator, dtype=torch.float64)
    scores[torch.rand(scores.shape, generator=generator) < 0.2] = -torch.inf
    scores[0, :200] = -torch.inf
    wanted = scores.softmax(-1)

    def check(softmax) -> Check:
        worst = max((softmax(scores, width) - wanted).abs().max().item() for width in range(1, _COLUMNS + 2))
        return Check("largest error over all widths", worst, "<=", 1e-14)

    return Evidence(
        kind="numeric",
        statement=TILED,
        checks=(check(tiled.softmax),),
        control=Control("sums of tiles added without rescaling", (check(unrescaled_softmax),)),
        seed=seed,
        budget=budget,
    )


def padded_attention(
    q: Float[Tensor, "token head d_head"],
    k: Float[Tensor, "token head d_head"],
    v: Float[Tensor, "token head d_head"],
    packed: Packing,
) -> Float[Tensor, "token head d_head"]:
    """The valid rows of masked attention on the padded batch."""
    keep = torch.arange(packed.longest) < torch.tensor(packed.lengths)[:, None]
    padded = (packed.unpack(x).transpose(1, 2) for x in (q, k, v))
    z = scaled_dot_product_attention(*padded, attn_mask=keep[:, None, None, :])
    return packed.pack(z.transpose(1, 2))


def _no_leak(budget: str, seed: int) -> Evidence:
    generator = torch.Generator().manual_seed(seed)
    packed = packing(_LENGTHS)
    q, k, v = torch.randn(3, packed.tokens, _HEADS, _WIDTH, generator=generator, dtype=torch.float64)
    wanted = padded_attention(q, k, v, packed)

    def check(with_packing: Packing) -> Check:
        return Check("largest error", (attention(q, k, v, with_packing) - wanted).abs().max().item(), "<=", 1e-12)

    return Evidence(
        kind="numeric",
        statement=NO_LEAK,
        checks=(check(packed),),
        control=Control("the same rows taken for one sequence", (check(packing([packed.tokens])),)),
        seed=seed,
        budget=budget,
    )


CLAIMS = (Claim(TILED, "numeric", _tiled), Claim(NO_LEAK, "numeric", _no_leak))
