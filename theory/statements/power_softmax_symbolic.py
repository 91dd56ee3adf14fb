"""PowerSoftmax and its division, by SymPy.

Source: "Power-Softmax: Towards Secure LLM Inference over Encrypted Data" (2024).
"""

import sympy as sp

from microtome.theory.claim import Claim
from microtome.theory.evidence import Check, Control, Evidence
from microtome.theory.statement import Statement

PAPER = "Power-Softmax: Towards Secure LLM Inference over Encrypted Data (2024)"
KEYS = 3
EXPONENTS = (2, 4, 6)
STEPS = 6

HOMOGENEOUS = Statement(
    name="homogeneous of degree 0",
    text="PowerSoftmax(αx) = PowerSoftmax(x) for every α ≠ 0, so that its Jacobian annihilates x.",
    hypotheses=(f"{KEYS} scores, p ∈ {{2, 4, 6}}, ε = 0, not all scores zero",),
    source=f"{PAPER}, definition of PowerSoftmax",
    slug="power_softmax",
)
GOLDSCHMIDT = Statement(
    name="Goldschmidt's error",
    text="After k steps r·b = 1 − (1 − b/B)^{2^k}.",
    hypotheses=(f"k from 0 to {STEPS}, b and B symbols",),
    source=f"{PAPER}, division",
    slug="power_softmax",
)


def weights(x: list[sp.Expr], p: int, epsilon: sp.Expr | int = 0) -> list[sp.Expr]:
    """x_j^p / (ε + Σ x_i^p)."""
    total = epsilon + sum(each**p for each in x)
    return [each**p / total for each in x]


def _homogeneous(budget: str, seed: int) -> Evidence:
    x, alpha, epsilon = sp.symbols(f"x:{KEYS}", real=True), sp.Symbol("alpha", nonzero=True), sp.Symbol("epsilon")

    def terms_left(epsilon: sp.Expr) -> tuple[int, int]:
        scaled = along = 0
        for p in EXPONENTS:
            w = weights(list(x), p, epsilon)
            grown = weights([alpha * each for each in x], p, epsilon)
            scaled += sum(sp.cancel(a - b) != 0 for a, b in zip(w, grown, strict=True))
            along += sum(sp.cancel(sum(sp.diff(each, of) * of for of in x)) != 0 for each in w)
        return scaled, along

    names = ("weights that change with α", "rows of the Jacobian that do not annihilate x")
    held, broken = terms_left(sp.Integer(0)), terms_left(epsilon)
    return Evidence(
        kind="symbolic",
        statement=HOMOGENEOUS,
        checks=tuple(Check(name, count, "==", 0) for name, count in zip(names, held, strict=True)),
        control=Control(
            "ε > 0 without a scale of its own",
            tuple(Check(name, count, "==", 0) for name, count in zip(names, broken, strict=True)),
        ),
        budget=budget,
    )


def iterates(squaring: bool) -> list[sp.Expr]:
    """1 − r_k·b for k = 0 … STEPS, as polynomials in u = b/B; without squaring e is left as it is."""
    u = sp.Symbol("u")
    e, r, found = 1 - u, sp.Integer(1), []  # r in units of 1/B
    for _ in range(STEPS + 1):
        found.append(sp.expand(1 - r * u))
        r, e = sp.expand(r * (1 + e)), sp.expand(e * e) if squaring else e
    return found


def _goldschmidt(budget: str, seed: int) -> Evidence:
    u = sp.Symbol("u")
    name = "steps whose error differs from (1 − b/B)^{2^k}"

    def wrong(squaring: bool) -> int:
        return sum(sp.expand(error - (1 - u) ** (2**k)) != 0 for k, error in enumerate(iterates(squaring)))

    return Evidence(
        kind="symbolic",
        statement=GOLDSCHMIDT,
        checks=(Check(name, wrong(True), "==", 0),),
        control=Control("e is not squared", (Check(name, wrong(False), "==", 0),)),
        budget=budget,
    )


CLAIMS = (Claim(HOMOGENEOUS, "symbolic", _homogeneous), Claim(GOLDSCHMIDT, "symbolic", _goldschmidt))
