"""Why dividing by a sum of similarities has no bounded gradient and softmax has, by SymPy.

Source: Qin et al., "The Devil in Linear Transformer" (2022), section 3.1.
"""

import sympy as sp

from microtome.theory.claim import Claim
from microtome.theory.evidence import Check, Control, Evidence
from microtome.theory.statement import Statement

_PAPER = "Qin et al., The Devil in Linear Transformer (2022)"

SOFTMAX = Statement(
    name="softmax has gradients of at most a quarter",
    text="∂p_j/∂s_k = p_j(δ_jk − p_k) lies between −1/4 and 1/4, whatever the scores.",
    hypotheses=("the rest of the row's sum is any positive number",),
    source=f"{_PAPER}, equations 4 and 5",
    slug="transnormer",
)
SCALED = Statement(
    name="a scaled sum has gradients without a bound",
    text="p_j = s_j/Σ_l s_l has ∂p_j/∂s_k = (δ_jk − p_j)/Σ_l s_l, which tends to infinity as the sum tends to zero.",
    hypotheses=("similarities of any sign, the rest of the row's sum any real number",),
    source=f"{_PAPER}, equations 6 and 7",
    slug="transnormer",
)

s_j, s_k, rest = sp.symbols("s_j s_k r", real=True)
r = sp.Symbol("r", positive=True)


def softmax_share() -> sp.Expr:
    """p_j with two of the scores shown and the rest of the sum a symbol."""
    return sp.exp(s_j) / (sp.exp(s_j) + sp.exp(s_k) + r)


def scaled_share() -> sp.Expr:
    """p_j of scaled similarities, the rest of the sum a symbol of any sign."""
    return s_j / (s_j + s_k + rest)


def _unequal(a: sp.Expr, b: sp.Expr) -> int:
    return int(sp.simplify(a - b) != 0)


def _softmax(budget: str, seed: int) -> Evidence:
    p, p_k = softmax_share(), sp.exp(s_k) / (sp.exp(s_j) + sp.exp(s_k) + r)
    own, other = sp.Symbol("p", positive=True), sp.Symbol("p_k", positive=True)
    unproved = [
        _unequal(p.diff(s_j), p * (1 - p)),
        _unequal(p.diff(s_k), -p * p_k),
        # The room below a quarter is a sum of squares: of the diagonal, and off it, where p + p_k ≤ 1.
        _unequal(sp.Rational(1, 4) - own * (1 - own), (own - sp.Rational(1, 2)) ** 2),
        _unequal((own + other) ** 2 / 4 - own * other, (own - other) ** 2 / 4),
    ]
    name = "gradient in the limit of a vanishing sum"
    vanishing = sp.limit(scaled_share().diff(s_j).subs({s_k: 1, rest: -2}), s_j, 1, "+")
    spared = sp.limit(p.diff(s_j).subs({s_k: 0}), s_j, -sp.oo)
    return Evidence(
        kind="symbolic",
        statement=SOFTMAX,
        checks=(
            Check("identities that are not proved", sum(unproved), "==", 0),
            Check(name, float(abs(spared)), "<=", 0.25),
        ),
        control=Control("s_j/Σs", (Check(name, float(abs(vanishing)), "<=", 0.25),)),
        budget=budget,
    )


def _scaled(budget: str, seed: int) -> Evidence:
    p, total = scaled_share(), s_j + s_k + rest
    unproved = _unequal(p.diff(s_j), (1 - p) / total) + _unequal(p.diff(s_k), -p / total)
    name = "gradient in the limit of a vanishing sum"
    limit = sp.limit(p.diff(s_j).subs({s_k: 1, rest: -2}), s_j, 1, "+")
    bounded = sp.limit(softmax_share().diff(s_j).subs({s_k: 0}), s_j, -sp.oo)
    return Evidence(
        kind="symbolic",
        statement=SCALED,
        checks=(
            Check("identities that are not proved", unproved, "==", 0),
            Check(name, float(abs(limit)), ">=", float("inf")),
        ),
        control=Control(
            "softmax as its sum of exponentials shrinks", (Check(name, float(bounded), ">=", float("inf")),)
        ),
        budget=budget,
    )


CLAIMS = (Claim(SOFTMAX, "symbolic", _softmax), Claim(SCALED, "symbolic", _scaled))
