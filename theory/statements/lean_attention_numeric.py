"""LeanAttention's triple measured: any cut of the keys, merged in any tree, is softmax attention.

Source: Sanovar et al., "Lean Attention: Hardware-Aware Scalable Attention Mechanism for the Decode-Phase of
Transformers" (2024), section 4.1.
"""

from collections.abc import Callable, Sequence
from functools import partial, reduce

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from microtome.kernels.lean_attention import triple
from microtome.kernels.lean_attention.triple import Triple
from microtome.theory.claim import Claim
from microtome.theory.evidence import Check, Control, Evidence
from microtome.theory.statement import Statement

_KEYS, _WIDTH, _ROWS = 257, 64, 4
# Largest absolute difference from attention in float64.
TOLERANCES = {torch.float64: 1e-12, torch.float32: 2e-6}

ANY_CUT = Statement(
    name="any cut, any tree",
    text="The partial states of any cut of the keys, merged in any order and bracketing, give softmax attention to "
    "1e-12 in float64 and 2e-6 in float32.",
    hypotheses=(
        f"{_ROWS} queries, {_KEYS} keys, head width {_WIDTH}, entries from N(0, 1), scale 1/√d",
        "parts of any size, empty ones too, merged two at a time at random",
    ),
    source="Sanovar et al., Lean Attention (2024), section 4.1",
    slug="lean_attention",
)

Merge = Callable[[Sequence[Triple], torch.Generator], Float[Tensor, "row d_head"]]


def random_tree(parts: Sequence[Triple], generator: torch.Generator) -> Float[Tensor, "row d_head"]:
    """O/l after merging two random parts at a time."""
    left = list(parts)
    while len(left) > 1:
        i, j = torch.randperm(len(left), generator=generator)[:2].tolist()
        merged = triple.merge(left[i], left[j])
        left = [part for at, part in enumerate(left) if at not in (i, j)] + [merged]
    return triple.finish(left[0])


def average(parts: Sequence[Triple], generator: torch.Generator) -> Float[Tensor, "row d_head"]:
    """The mean of the normalised parts: what forgets how much each part weighs."""
    done = [triple.finish(part) for part in parts if part.m.isfinite().all()]
    return reduce(torch.add, done) / len(done)


def error_of_cuts(merge: Merge, dtype: torch.dtype, cuts: int, generator: torch.Generator) -> float:
    """The largest difference from attention over random inputs, cuts into 2 to 12 parts, and merges."""
    worst = 0.0
    for _ in range(cuts):
        q, k, v = (
            torch.randn(n, _WIDTH, generator=generator, dtype=torch.float64).to(dtype) for n in (_ROWS, _KEYS, _KEYS)
        )
        wanted = scaled_dot_product_attention(*(x.double() for x in (q, k, v)))
        n_parts = int(torch.randint(2, 13, (), generator=generator))
        ends = torch.randint(0, _KEYS + 1, (n_parts - 1,), generator=generator).sort().values.tolist()
        bounds = zip([0, *ends], [*ends, _KEYS], strict=True)
        whole = partial(triple.partial, q, scale=_WIDTH**-0.5)
        parts = [whole(k[a:b], v[a:b]) if b > a else triple.identity(_ROWS, _WIDTH, q) for a, b in bounds]
        worst = max(worst, (merge(parts, generator).double() - wanted).abs().max().item())
    return worst


def _any_cut(budget: str, seed: int) -> Evidence:
    generator = torch.Generator().manual_seed(seed)
    cuts = {"quick": 30, "full": 1000}[budget]

    def checks(merge: Merge) -> tuple[Check, ...]:
        return tuple(
            Check(f"largest error in {str(dtype)[6:]}", error_of_cuts(merge, dtype, cuts, generator), "<=", bound)
            for dtype, bound in TOLERANCES.items()
        )

    return Evidence(
        kind="numeric",
        statement=ANY_CUT,
        checks=checks(random_tree),
        control=Control("averages of normalised parts", checks(average)),
        seed=seed,
        budget=budget,
        notes=f"{cuts} random cuts a dtype.",
    )


CLAIMS = (Claim(ANY_CUT, "numeric", _any_cut),)
