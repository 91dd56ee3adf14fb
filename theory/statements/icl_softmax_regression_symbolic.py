"""Softmax regression by SymPy: its derivatives, its shifted targets, and why diag f − ffᵀ has norm at most ½.

Source: Li et al., "The Closeness of In-Context Learning and Weight Shifting for Softmax Regression" (2023). The bound ½
holds for any number of tokens: what it needs of f and of a unit vector are two moments and two entries, all symbols.
"""

import sympy as sp

from microtome.theory.claim import Claim
from microtome.theory.evidence import Check, Control, Evidence
from microtome.theory.statement import Statement

_PAPER = "Li et al., The Closeness of In-Context Learning and Weight Shifting for Softmax Regression (2023)"
_TOKENS, _DIM = 3, 2

HALF = Statement(
    name="the softmax Jacobian has norm at most one half",
    text="vᵀ(diag f − ffᵀ)v is the variance of v under f, and ½ less that is a sum of four terms that are not "
    "negative; f = (½, ½), v = (1, −1)/√2 attains ½.",
    hypotheses=("f a probability vector of any length", "‖v‖ = 1"),
    source="Popoviciu's inequality; the use for softmax is this laboratory's",
    slug="icl_softmax_regression",
)
DERIVATIVES = Statement(
    name="derivatives and shifted targets of softmax regression",
    text="∂f/∂x = (diag f − ffᵀ)A with column sums 0, ∇L = Aᵀ(f⊙c − ⟨f, c⟩f), which is 0 for b = f, "
    "∂f/∂A·ΔA = (diag f − ffᵀ)ΔA·x, and f(x_t) − b̃ = f(x_{t+1}) − b.",
    hypotheses=("n = 3 tokens, d = 2, all entries symbols",),
    source=f"{_PAPER}, gradient computations and the two updates",
    slug="icl_softmax_regression",
)


def what_is_left(bound: sp.Expr) -> sp.Expr:
    """bound − Var_f(v), less four terms that are not negative for a unit vector v with extreme entries lo and hi.

    With s₁ = Σfv, s₂ = Σfv² and m the middle of lo and hi, the terms are Σf(hi − v)(v − lo), (s₁ − m)², (hi + lo)²/4
    and (1 − hi² − lo²)/2; in the last, hi and lo are two entries of a unit vector (a vector with equal entries has
    variance 0).
    """
    hi, lo, s1, s2 = sp.symbols("hi lo s_1 s_2", real=True)
    middle = (hi + lo) / 2
    inside = -s2 + (hi + lo) * s1 - hi * lo
    terms = inside + (s1 - middle) ** 2 + middle**2 + (1 - hi**2 - lo**2) / 2
    return sp.expand(bound - (s2 - s1**2) - terms)


def inside_by_definition() -> sp.Expr:
    """Σf(hi − v)(v − lo) for three tokens, less its form in the moments."""
    hi, lo = sp.symbols("hi lo", real=True)
    f, v = sp.symbols("f_1:3", positive=True), sp.symbols("v_1:4", real=True)
    probabilities = (*f, 1 - sum(f))
    s1, s2 = (sum(p * each**k for p, each in zip(probabilities, v, strict=True)) for k in (1, 2))
    summed = sum(p * (hi - each) * (each - lo) for p, each in zip(probabilities, v, strict=True))
    variance = sp.Matrix(v).T * _spread(sp.Matrix(probabilities)) * sp.Matrix(v)
    moments = summed - (-s2 + (hi + lo) * s1 - hi * lo) + (variance[0] - (s2 - s1**2))
    return sp.expand(moments)


def _spread(f: sp.Matrix) -> sp.Matrix:
    return sp.diag(*f) - f * f.T


def _half(budget: str, seed: int) -> Evidence:
    name = "½ − variance not proved the sum of the four terms"
    even = _spread(sp.Matrix([sp.Rational(1, 2), sp.Rational(1, 2)]))
    return Evidence(
        kind="symbolic",
        statement=HALF,
        checks=(
            Check(name, int(what_is_left(sp.Rational(1, 2)) != 0), "==", 0),
            Check("moments not proved those of the matrix", int(inside_by_definition() != 0), "==", 0),
            Check("½ less the largest eigenvalue at f = (½, ½)", 0.5 - float(max(even.eigenvals())), "==", 0),
        ),
        control=Control(
            "the bound ¼ in place of ½", (Check(name, int(what_is_left(sp.Rational(1, 4)) != 0), "==", 0),)
        ),
        budget=budget,
    )


def unproved_derivatives(normalised: bool = True) -> dict[str, int]:
    """For each formula, 1 where SymPy does not prove it; without the normaliser, f is exp(Ax)."""
    A = sp.Matrix(_TOKENS, _DIM, sp.symbols(f"a_1:{_TOKENS * _DIM + 1}", real=True))
    change = sp.Matrix(_TOKENS, _DIM, sp.symbols(f"e_1:{_TOKENS * _DIM + 1}", real=True))
    x, moved = (sp.Matrix(sp.symbols(f"{name}_1:{_DIM + 1}", real=True)) for name in ("x", "y"))
    b = sp.Matrix(sp.symbols(f"b_1:{_TOKENS + 1}", real=True))
    t = sp.Symbol("t", real=True)

    def f(A: sp.Matrix, x: sp.Matrix) -> sp.Matrix:
        exponentials = (A * x).applyfunc(sp.exp)
        return exponentials / sum(exponentials) if normalised else exponentials

    said = f(A, x)
    c = said - b
    J, by_hand = said.jacobian(x), _spread(said) * A
    loss = c.dot(c) / 2
    inner = said.dot(c)
    slope = A.T * (said.multiply_elementwise(c) - inner * said)
    target = b - (f(A, moved) - said)
    facts = {
        "Jacobian": J - by_hand,
        "sums over tokens": sp.ones(1, _TOKENS) * J,
        "gradient": sp.Matrix([loss.diff(each) for each in x]) - slope,
        "gradient at b = f": slope.subs(dict(zip(b, said, strict=True)), simultaneous=True),
        "derivative in the data": f(A + t * change, x).diff(t).subs(t, 0) - _spread(said) * change * x,
        "residual on the shifted target": (said - target) - (f(A, moved) - b),
    }
    return {name: int(not _vanishes(fact)) for name, fact in facts.items()}


def _vanishes(matrix: sp.Matrix) -> bool:
    """Whether every entry is zero: expressions in exp(a·x) are rational in those, which `together` can decide."""
    return all(sp.expand(sp.numer(sp.together(sp.powsimp(sp.expand(entry))))) == 0 for entry in matrix)


def _derivatives(budget: str, seed: int) -> Evidence:
    def checks(found: dict[str, int]) -> tuple[Check, ...]:
        return tuple(Check(f"not proved: {fact}", n, "==", 0) for fact, n in found.items())

    return Evidence(
        kind="symbolic",
        statement=DERIVATIVES,
        checks=checks(unproved_derivatives()),
        control=Control("exp(Ax) without the normaliser", checks(unproved_derivatives(normalised=False))),
        budget=budget,
    )


CLAIMS = (
    Claim(HALF, "symbolic", _half),
    Claim(DERIVATIVES, "symbolic", _derivatives),
)
