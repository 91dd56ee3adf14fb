"""σReparam's entropy bound by SymPy: the tight row, why no shorter row does better, and what a minimum looks like.

Source: Zhai et al., "Stabilizing Transformer Training by Preventing Attention Entropy Collapse" (2023).
The number of keys T and the norm s are symbols; nothing here is for fixed sizes. That no row of norm s lies below
the bound is not proved here: `sigma_reparam_certified` certifies it for a grid of sizes, from the facts below.
"""

import sympy as sp

from microtome.theory.claim import Claim
from microtome.theory.constructions.sigma_reparam import entropy_bound, two_level_entropy, two_levels
from microtome.theory.evidence import Check, Control, Evidence
from microtome.theory.statement import Statement

_PAPER = "Zhai et al., Stabilizing Transformer Training by Preventing Attention Entropy Collapse (2023)"

TIGHT_ROW = Statement(
    name="the tight row attains the entropy bound",
    text="The row with one large logit and T−1 equal ones, of mean zero and norm s, has a softmax whose entropy is "
    "log(1+(T−1)β) + s√(T(T−1))β/(1+(T−1)β), β = exp(−s√(T/(T−1))).",
    hypotheses=("T ≥ 2 keys", "s > 0"),
    source=f"{_PAPER}, entropy bound and its tightness",
    slug="sigma_reparam",
)
MINIMUM_SHAPE = Statement(
    name="a minimum lies on the sphere and has at most three levels",
    text="Entropy never grows along a ray of logits, and the logits of a minimum of given norm take at most three "
    "different values.",
    hypotheses=("logits of norm at most s > 0",),
    source=f"{_PAPER}, proof of the entropy bound; the argument by levels is this laboratory's",
    slug="sigma_reparam",
)

T, s = sp.symbols("T s", positive=True)


def unproved_tightness(winners: int) -> dict[str, int]:
    """For each fact about the two-level row with so many winners, 1 where SymPy does not prove it.

    The entropy −Σ p log p is expanded from its definition, with the gap between the levels a symbol g; then g is
    replaced by the gap of the row and the result compared with the bound.
    """
    high, low = two_levels(T, winners, s, sp)
    g = sp.Symbol("g", positive=True)
    total = winners + (T - winners) * sp.exp(-g)
    p_high, p_low = 1 / total, sp.exp(-g) / total
    by_definition = -winners * p_high * -sp.log(total) - (T - winners) * p_low * (-g - sp.log(total))
    closed_form = two_level_entropy(T, winners, g, sp)
    at_the_gap = closed_form.subs(g, sp.sqrt(T / (winners * (T - winners))) * s)
    facts = {
        "mean is zero": winners * high + (T - winners) * low,
        "norm is s": winners * high**2 + (T - winners) * low**2 - s**2,
        "gap is s√(T/(k(T−k)))": (high - low) ** 2 - s**2 * T / (winners * (T - winners)),
        "closed form is −Σ p log p": by_definition - closed_form,
        "entropy is the bound": at_the_gap - entropy_bound(T, s, sp),
    }
    # T = 1 + t with t > 0 lets SymPy cancel the square roots of T(T−1) without cases.
    shifted = {T: winners + sp.Symbol("t", positive=True)}
    return {name: int(sp.simplify(sp.expand(fact.subs(shifted))) != 0) for name, fact in facts.items()}


def distance_at_a_point(winners: int) -> float:
    """|entropy of the two-level row − bound| at T = 16, s = 4, to 30 digits; tells a false fact from an unproved."""
    keys, norm = sp.Integer(16), sp.Integer(4)
    high, low = two_levels(keys, winners, norm, sp)
    return float(
        sp.N(abs(two_level_entropy(keys, winners, high - low, sp) - entropy_bound(keys, norm, sp)), 30, chop=1e-30)
    )


def _tight_row(budget: str, seed: int) -> Evidence:
    name = "|entropy − bound| at T=16, s=4"
    return Evidence(
        kind="symbolic",
        statement=TIGHT_ROW,
        checks=(
            *(Check(f"not proved: {fact}", n, "==", 0) for fact, n in unproved_tightness(1).items()),
            Check(name, distance_at_a_point(1), "<=", 1e-25),
        ),
        control=Control("two winners instead of one", (Check(name, distance_at_a_point(2), "<=", 1e-25),)),
        budget=budget,
    )


def ray_residual(squared_difference: sp.Expr) -> sp.Expr:
    """What is left of t·(Z Z'' − Z'²) + (entropy slope)·Z² after pairing, for one pair of logits u₁, u₂.

    With Z(t) = Σ e^{tu_i} the entropy of softmax(tu) is log Z − tZ'/Z. Its slope is −t(Z Z'' − Z'²)/Z², and
    Z Z'' − Z'² = Σ_{i<j} e^{t(u_i+u_j)} · `squared_difference`(u_i, u_j), which is never negative.
    """
    t = sp.Symbol("t", positive=True)
    u1, u2 = sp.symbols("u_1 u_2", real=True)
    Z = sp.Function("Z")(t)
    entropy = sp.log(Z) - t * Z.diff(t) / Z
    slope = sp.expand(entropy.diff(t) * Z**2 + t * (Z * Z.diff(t, 2) - Z.diff(t) ** 2))
    # The (i, j) and (j, i) terms of the double sum for Z Z'' − Z'², added.
    pair = sp.exp(t * (u1 + u2)) * (u2**2 - u1 * u2 + u1**2 - u1 * u2)
    return sp.expand(slope) + sp.expand(pair - sp.exp(t * (u1 + u2)) * squared_difference)


def stationary_curvature() -> sp.Expr:
    """Second derivative in ℓ = log p of the stationarity condition p(log p + H) − μ(log p − c) = 0.

    ∂H/∂a_i = −p_i(log p_i + H), so a Lagrange multiplier for the norm gives that condition with a_i = log p_i − c.
    """
    level, H, mu, c = sp.symbols("ell H mu c", real=True)
    return sp.diff(sp.exp(level) * (level + H) - mu * (level - c), level, 2)


def _minimum_shape(budget: str, seed: int) -> Evidence:
    u1, u2 = sp.symbols("u_1 u_2", real=True)
    level = sp.Symbol("ell", real=True)
    turns = sp.solveset(stationary_curvature(), level, sp.S.Reals)
    name = "slope along a ray not proved −t·Σ (difference)² e^{…}/Z²"
    return Evidence(
        kind="symbolic",
        statement=MINIMUM_SHAPE,
        checks=(
            Check(name, int(ray_residual((u1 - u2) ** 2) != 0), "==", 0),
            Check("inflexions of the condition on log p; one leaves at most three roots", len(turns), "<=", 1),
        ),
        control=Control(
            "second moment in place of the variance", (Check(name, int(ray_residual(u1**2 + u2**2) != 0), "==", 0),)
        ),
        budget=budget,
        notes="Subtracting the mean changes no probability and never lengthens the row, so a minimum has mean zero.",
    )


CLAIMS = (
    Claim(TIGHT_ROW, "symbolic", _tight_row),
    Claim(MINIMUM_SHAPE, "symbolic", _minimum_shape),
)
