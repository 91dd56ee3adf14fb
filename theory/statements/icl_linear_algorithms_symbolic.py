"""Why weights can multiply and divide: the expansions behind the constructed learning algorithms, by SymPy.

Source: Akyürek et al., "What learning algorithm is in-context learning? Investigations with linear models" (2023).

A product needs an activation whose second derivative at 0 is √(2/π) and whose third is 0. The exact GELU, xΦ(x), and
its tanh approximation both have that, so the same weights work with either; only the error differs, by the factor
−(2u² + 3uv + 2v²)/6 · s⁻² of the product for the exact one and 1.034 times as much for the other. SiLU would do
with another constant in place of √(π/2). ReLU has no curvature and cannot do it.
"""

import sympy as sp

from microtome.theory.claim import Claim
from microtome.theory.evidence import Check, Control, Evidence
from microtome.theory.statement import Statement

_PAPER = "Akyürek et al., What learning algorithm is in-context learning? (2023)"

PRODUCT = Statement(
    name="a GELU layer multiplies",
    text="s²√(π/2)[GELU((u+v)/s) − GELU(u/s) − GELU(v/s)] = uv + O(s⁻²), for the exact GELU and its tanh form.",
    hypotheses=("u, v fixed, s → ∞",),
    source=f"{_PAPER}, by-construction proofs",
    slug="icl_linear_algorithms",
)
PADS = Statement(
    name="padded LayerNorm is linear and divides",
    text="With pads Nc, −Nc and a third that balances the sum, N√(2/H)·LN(y) = y/|c| up to a relative error of second "
    "order in 1/N.",
    hypotheses=("H rows of sum zero", "c ≠ 0", "N → ∞"),
    source=f"{_PAPER}, by-construction proofs; the third pad is this laboratory's",
    slug="icl_linear_algorithms",
)

u, v = sp.symbols("u v", real=True)
x = sp.Symbol("x", real=True)
shrink = sp.Symbol("delta", positive=True)  # 1/s

ACTIVATIONS = {
    "exact": x * (1 + sp.erf(x / sp.sqrt(2))) / 2,
    "tanh": x * (1 + sp.tanh(sp.sqrt(2 / sp.pi) * (x + sp.Rational(44715, 10**6) * x**3))) / 2,
}


def product_error(activation: sp.Expr, u: sp.Symbol, v: sp.Symbol) -> sp.Expr:
    """(constructed product − uv) up to second order in 1/s."""
    constructed = activation.subs(x, (u + v) * shrink) - activation.subs(x, u * shrink)
    constructed = sp.sqrt(sp.pi / 2) * (constructed - activation.subs(x, v * shrink)) / shrink**2
    return sp.expand(sp.simplify(sp.series(constructed, shrink, 0, 3).removeO() - u * v))


def _product(budget: str, seed: int) -> Evidence:
    errors = {name: product_error(activation, u, v) for name, activation in ACTIVATIONS.items()}
    # The expansion of ReLU depends on signs; a pair of positive factors is enough to refute it.
    relu = product_error(sp.Max(x, 0), *sp.symbols("u v", positive=True))
    name = "orders below s⁻² in which the product is not proved uv"

    def wrong_orders(error: sp.Expr) -> int:
        return sum(error.coeff(shrink, order) != 0 for order in (-1, 0, 1))

    expected = -u * v * (2 * u**2 + 3 * u * v + 2 * v**2) / 6
    second = sp.simplify(errors["exact"].coeff(shrink, 2) - expected)
    return Evidence(
        kind="symbolic",
        statement=PRODUCT,
        checks=(
            Check(f"exact GELU: {name}", wrong_orders(errors["exact"]), "==", 0),
            Check(f"tanh GELU: {name}", wrong_orders(errors["tanh"]), "==", 0),
            Check("exact GELU: error is not proved −uv(2u²+3uv+2v²)/6 · s⁻²", int(second != 0), "==", 0),
        ),
        control=Control("ReLU in GELU's place, u, v > 0", (Check(name, wrong_orders(relu), "==", 0),)),
        budget=budget,
    )


def pad_error(squared_pads: sp.Expr, c: sp.Expr, inverse_pad: sp.Symbol) -> sp.Expr:
    """(N√(2/H)·LN(y) / (y/|c|)) − 1 to second order in 1/N, where `squared_pads` is the sum of all squares / N²."""
    H = sp.Symbol("H", positive=True)
    normalised = sp.sqrt(2 / H) / sp.sqrt(squared_pads / H) * c
    return sp.series(normalised, inverse_pad, 0, 3).removeO() - 1


def _pads(budget: str, seed: int) -> Evidence:
    c, rest, total, small = sp.symbols("c Q S i", positive=True)
    # Sums of squares in units of N²: the pads, the balance S (the sum of the other rows), the other rows' squares Q.
    balanced = pad_error(2 * c**2 + (total**2 + rest) * small**2, c, small)
    folded = pad_error(1 + (1 + total * small) ** 2 + rest * small**2, sp.Integer(1), small)
    name = "orders below N⁻² in which the LayerNorm is not proved to divide by |c|"
    second = sp.simplify(balanced.coeff(small, 2) + (total**2 + rest) / (4 * c**2))

    def wrong_orders(error: sp.Expr) -> int:
        return sum(sp.simplify(sp.expand(error).coeff(small, order)) != 0 for order in (0, 1))

    return Evidence(
        kind="symbolic",
        statement=PADS,
        checks=(
            Check(name, wrong_orders(balanced), "==", 0),
            Check("error is not proved −Σ rows²/(4N²c²)", int(second != 0), "==", 0),
        ),
        control=Control("two pads N and −N−Σx instead of three", (Check(name, wrong_orders(folded), "==", 0),)),
        budget=budget,
        notes="Two pads work as well, with a relative error of −Σx/(2N).",
    )


CLAIMS = (
    Claim(PRODUCT, "symbolic", _product),
    Claim(PADS, "symbolic", _pads),
)
