"""The claim of "EcoFormer" (Liu et al. 2022): codes learned from a kernel map keep the similarity of tokens, at a small
share of softmax attention's energy.

Held-out tokens of clusters with a large common offset are coded in several ways; the area under the curve says how well
inner products of codes tell a token's ten most similar ones from its ten least. The kernel map is what helps: with
random weights on the same map the area is about that of learned ones (0.99, 1.00, 0.97 learned and 0.99, 1.00, 0.96
random for seeds 0, 1, 2), so that no gain from learning is claimed here.
"""

import torch
from jaxtyping import Float
from sklearn.metrics import roc_auc_score
from torch import Tensor

from microtome.kernels.binary_hash import signs
from microtome.lab.zoo.mixers import _hashing
from microtome.theory import registry
from microtome.theory.claim import Claim
from microtome.theory.evidence import Check, Control, Evidence
from microtome.theory.statement import Statement
from microtome.theory.statements.ecoformer_numeric import ANCHORS, BITS, EXAMPLES, WIDTH, Tokens, clustered

SLUG = "ecoformer"
PAPER = "Liu et al., EcoFormer: Energy-Saving Attention with Linear Complexity (2022)"

Codes = Float[Tensor, "batch head pos bit"]

LEARNED, RANDOM, OWN, PROJECTED = "learned on the kernel map", "random on the kernel map", "signs of x̃", "signs of Wx̃"
SIMILAR = Statement(
    name="codes keep similarity",
    text="Inner products of learned codes separate the most similar tokens from the least with an area under the curve "
    "of at least 0.85, at least 0.05 above the signs of the tokens and of 16 random projections of them.",
    hypotheses=(
        "held-out tokens of 8 clusters, n = 128, d = 32, a common offset six times the clusters' spread",
        f"{BITS} bits, {ANCHORS} anchors, learned on {EXAMPLES} examples",
    ),
    source=f"{PAPER}, section 4.3",
    slug=SLUG,
)
WHOLE = Statement(
    name="codes keep similarity and save energy",
    text="Attention between learned codes keeps the order of similarities at a few hundredths of the energy.",
    hypotheses=("as in its parts",),
    source=PAPER,
    slug=SLUG,
)


def coded(seed: int) -> tuple[Tokens, dict[str, Codes]]:
    """Held-out tokens and their codes, made in four ways."""
    generator = torch.Generator().manual_seed(seed)
    tokens, held_out = clustered(EXAMPLES, generator)
    hashes, _ = _hashing.learn(tokens, BITS, ANCHORS, generator)
    squared = _hashing.squared_distances(held_out, hashes.anchors)
    kappa = _hashing.kernel(squared, squared.mean((2, 3))[..., None]) - hashes.mu[:, None]
    weights = torch.randn(1, BITS, ANCHORS, generator=generator)
    projections = torch.randn(WIDTH, BITS, generator=generator)
    return held_out, {
        LEARNED: signs(kappa @ hashes.weights.mT),
        RANDOM: signs(kappa @ weights.mT),
        OWN: signs(held_out),
        PROJECTED: signs(held_out @ projections),
    }


def area(codes: Codes, tokens: Tokens) -> float:
    """How well inner products of codes tell S = +1 from S = −1: 1 perfectly, 0.5 not at all."""
    s = _hashing.similarity(tokens)
    told = s != 0
    return float(roc_auc_score((s[told] > 0).numpy(), (codes @ codes.mT)[told].numpy()))


def _similar(budget: str, seed: int) -> tuple[Evidence, dict[str, float]]:
    tokens, codes = coded(seed)
    areas = {name: area(each, tokens) for name, each in codes.items()}
    name, above = "area of the learned codes", "area above the better of both plain codes"
    plain = max(areas[OWN], areas[PROJECTED])
    evidence = Evidence(
        kind="empirical",
        statement=SIMILAR,
        checks=(Check(name, areas[LEARNED], ">=", 0.85), Check(above, areas[LEARNED] - plain, ">=", 0.05)),
        control=Control(
            "signs of random projections in their place",
            (Check(name, areas[PROJECTED], ">=", 0.85), Check(above, areas[PROJECTED] - areas[OWN], ">=", 0.05)),
        ),
        seed=seed,
        budget=budget,
        notes=", ".join(f"{name}: {found:.3f}" for name, found in areas.items()) + ".",
    )
    return evidence, areas


def _gather(budget: str, seed: int) -> Evidence:
    measured = tuple(registry.run_all(slug=SLUG, budget=budget, seed=seed))
    similar, areas = _similar(budget, seed)
    return Evidence(
        kind="empirical",
        statement=WHOLE,
        seed=seed,
        budget=budget,
        parts=(*measured, similar),
        figure=lambda: _draw(areas),
        notes="Both budgets run the same checks.",
    )


def _draw(areas: dict[str, float]):
    from microtome.kernels.binary_hash import energy
    from microtome.lab.report.style import drawing

    lengths = [2**k for k in range(6, 14)]
    with drawing(9.0, 3.4) as figure:
        left, right = figure.subplots(1, 2)
        bars = left.barh(list(areas), list(areas.values()), color=["C0", "C2", "0.58", "0.58"])
        left.bar_label(bars, fmt="%.3f", padding=3)
        left.invert_yaxis()
        left.set(xlim=(0.5, 1.08), xlabel="area under the curve", title="Similar tokens, similar codes")
        left.grid(axis="y", visible=False)
        for name, count in (("softmax", energy.softmax), ("hashed", energy.hashed)):
            right.plot(lengths, [count(n, WIDTH).picojoules / 1e6 for n in lengths], "o-", label=name)
        right.set(xscale="log", yscale="log", xlabel="tokens", ylabel="µJ a head", title="Energy of attention")
        right.legend()
        return figure


CLAIM = Claim(WHOLE, "empirical", _gather)
