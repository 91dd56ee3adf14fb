"""Binary codes in attention: positive weights, exact identities of bits, and energy.

Source: Liu et al., "EcoFormer: Energy-Saving Attention with Linear Complexity" (2022).
"""

from functools import cache

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from microtome.kernels import binary_hash
from microtome.kernels.binary_hash import energy
from microtome.theory.claim import Claim
from microtome.theory.evidence import Check, Control, Evidence
from microtome.theory.statement import Statement

_PAPER = "Liu et al., EcoFormer: Energy-Saving Attention with Linear Complexity (2022)"
TOKENS, WIDTH, CLUSTERS, NOISE, OFFSET, EXAMPLES = 128, 32, 8, 0.7, 6.0, 4
BITS, ANCHORS, ALL_BITS = 16, 25, 7
COST_TOKENS = 3136

POSITIVE = Statement(
    name="weights of codes are positive",
    text="⟨h, h'⟩ = b − 2·Hamming(h, h') for all codes, so that ⟨h, h'⟩ + c > 0 for c > b, and for no smaller c.",
    hypotheses=(f"all pairs of codes of 1 to {ALL_BITS} bits",),
    source=f"{_PAPER}, equations 3 and 8",
    slug="ecoformer",
)
COST = Statement(
    name="energy of hashed attention",
    text="At 3,136 tokens hashed attention takes at most 2 % of softmax attention's energy, and grows linearly.",
    hypotheses=("one head of width 32, 16 bits, 25 anchors", "3.7 pJ a multiplication, 0.9 pJ an addition"),
    source=f"{_PAPER}, section 4.4 and table 1",
    slug="ecoformer",
)

Tokens = Float[Tensor, "batch head pos d_head"]


def clustered(batch: int, generator: torch.Generator) -> tuple[Tokens, Tokens]:
    """Two batches of unit vectors from the same clusters around a common offset: one to learn from, one held out."""
    centres = torch.randn(CLUSTERS, WIDTH, generator=generator)
    offset = OFFSET * torch.randn(WIDTH, generator=generator)

    def draw() -> Tensor:
        of = torch.randint(CLUSTERS, (batch, 1, TOKENS), generator=generator)
        noise = NOISE * torch.randn(batch, 1, TOKENS, WIDTH, generator=generator)
        return F.normalize(centres[of] + offset + noise, dim=-1)

    return draw(), draw()


@cache
def all_codes(bits: int) -> Float[Tensor, "code bit"]:
    """Every code of so many bits."""
    return binary_hash.unpack(torch.arange(2**bits)[:, None], bits)


def _positive(budget: str, seed: int) -> Evidence:
    unequal, lowest = 0, []
    for bits in range(1, ALL_BITS + 1):
        h = all_codes(bits)
        inner = h @ h.T
        packed = binary_hash.pack(h)
        differing = (h[:, None] != h[None]).sum(-1)
        unequal += int((inner != bits - 2 * differing).sum())
        unequal += int((inner != binary_hash.inner_products(packed, packed, bits)).sum())
        lowest.append((inner.min() + bits).item())
    name = "smallest ⟨h, h'⟩ + c over all pairs"
    return Evidence(
        kind="exhaustive",
        statement=POSITIVE,
        checks=(
            Check("pairs whose product is not b − 2·Hamming", unequal, "==", 0),
            Check(name, min(lowest) + 1, ">", 0),
        ),
        control=Control("c = b", (Check(name, min(lowest), ">", 0),)),
        budget=budget,
        notes="c = b + 1 in the checks.",
    )


def _cost(budget: str, seed: int) -> Evidence:
    hashed = [energy.hashed(n, WIDTH, ANCHORS, BITS).picojoules for n in (COST_TOKENS, 2 * COST_TOKENS)]
    softmax = [energy.softmax(n, WIDTH).picojoules for n in (COST_TOKENS, 2 * COST_TOKENS)]
    name = "distance of the growth at twice the tokens from 2"
    return Evidence(
        kind="numeric",
        statement=COST,
        checks=(
            Check("energy over softmax attention's", hashed[0] / softmax[0], "<=", 0.02),
            Check(name, abs(hashed[1] / hashed[0] - 2), "<=", 0.01),
            Check("softmax attention's growth at twice the tokens", softmax[1] / softmax[0], ">=", 4 - 1e-9),
        ),
        control=Control("softmax attention", (Check(name, abs(softmax[1] / softmax[0] - 2), "<=", 0.01),)),
        budget=budget,
    )


CLAIMS = (
    Claim(POSITIVE, "exhaustive", _positive),
    Claim(COST, "numeric", _cost),
)
