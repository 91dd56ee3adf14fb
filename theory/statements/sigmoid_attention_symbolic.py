"""The logit bias of sigmoid attention, by SymPy.

Source: Ramapuram et al., "Theory, Analysis, and Best Practices for Sigmoid Self-Attention" (2025).
"""

import sympy as sp

from microtome.theory.claim import Claim
from microtome.theory.evidence import Check, Control, Evidence
from microtome.theory.statement import Statement

ROW_SUM = Statement(
    name="a row of zero logits weighs about one",
    text="σ(−log n) = 1/(n + 1), so that n keys of zero logit weigh n/(n + 1), which tends to 1 with n.",
    hypotheses=("n a positive number",),
    source="Ramapuram et al., Theory, Analysis, and Best Practices for Sigmoid Self-Attention (2025), section 4",
    slug="sigmoid_attention",
)


def row_sum(b: sp.Expr, n: sp.Symbol) -> sp.Expr:
    """What n keys of zero logit weigh."""
    return n / (1 + sp.exp(-b))


def _row_sum(budget: str, seed: int) -> Evidence:
    n = sp.symbols("n", positive=True)
    biased, unbiased = row_sum(-sp.log(n), n), row_sum(sp.Integer(0), n)
    name, limit = "terms left of the row's weight − n/(n + 1)", "limit of the row's weight"
    return Evidence(
        kind="symbolic",
        statement=ROW_SUM,
        checks=(
            Check(name, _terms(biased - n / (n + 1)), "==", 0),
            Check(limit, float(sp.limit(biased, n, sp.oo)), "==", 1),
        ),
        control=Control(
            "b = 0",
            (
                Check(name, _terms(unbiased - n / (n + 1)), "==", 0),
                Check(limit, float(sp.limit(unbiased, n, sp.oo)), "==", 1),
            ),
        ),
        budget=budget,
    )


def _terms(difference: sp.Expr) -> int:
    left = sp.simplify(difference)
    return 0 if left == 0 else len(sp.Add.make_args(sp.expand(left)))


CLAIMS = (Claim(ROW_SUM, "symbolic", _row_sum),)
