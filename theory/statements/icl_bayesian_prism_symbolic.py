"""Why the exact answer to a mixture is the components' answers, weighed by the evidence: one weight, one pair.

Source: Panwar, Ahuja & Goyal, "In-context learning through the Bayesian prism" (2024).

A component N(μ, τ²) and a label y = wx + N(0, σ²) give p(w)p(y | w) = N(y; μx, τ²x² + σ²) · N(w; m, v) with the shift
form m = μ + τ²x(y − μx)/(τ²x² + σ²). The first factor does not hold w: it is the evidence that the component is weighed
by, and the second is its posterior. A sum of such products is a mixture of posteriors with weights β ∝ α · evidence.
"""

import sympy as sp

from microtome.theory.claim import Claim
from microtome.theory.evidence import Check, Control, Evidence
from microtome.theory.statement import Statement

_PAPER = "Panwar, Ahuja & Goyal, In-context learning through the Bayesian prism (2024)"

FACTORS = Statement(
    name="prior times likelihood is evidence times posterior",
    text="N(w; μ, τ²) N(y; wx, σ²) = N(y; μx, τ²x² + σ²) N(w; m, v), m = μ + τ²x(y − μx)/(τ²x² + σ²), "
    "v = τ²σ²/(τ²x² + σ²).",
    hypotheses=("one weight, one pair", "τ, σ > 0"),
    source=f"{_PAPER}, the posterior mean of Gaussian mixtures",
    slug="icl_bayesian_prism",
)
w, x, y, mu = sp.symbols("w x y mu", real=True)
tau, sigma = sp.symbols("tau sigma", positive=True)


def normal(value: sp.Expr, mean: sp.Expr, variance: sp.Expr) -> sp.Expr:
    """The density of N(mean, variance) at a value."""
    return sp.exp(-((value - mean) ** 2) / (2 * variance)) / sp.sqrt(2 * sp.pi * variance)


def shift_form(mu: sp.Expr, tau: sp.Expr) -> tuple[sp.Expr, sp.Expr, sp.Expr]:
    """Posterior mean and variance of a component, and the variance of its label."""
    label = tau**2 * x**2 + sigma**2
    return mu + tau**2 * x * (y - mu * x) / label, tau**2 * sigma**2 / label, label


def log_gap(evidence_variance: sp.Expr) -> sp.Expr:
    """log of prior times likelihood minus log of evidence times posterior."""
    m, v, _ = shift_form(mu, tau)
    left = normal(w, mu, tau**2) * normal(y, w * x, sigma**2)
    right = normal(y, mu * x, evidence_variance) * normal(w, m, v)
    return sp.simplify(sp.expand_log(sp.log(left), force=True) - sp.expand_log(sp.log(right), force=True))


def _factors(budget: str, seed: int) -> Evidence:
    label = shift_form(mu, tau)[2]
    name = "gaps between the two products not proved zero"
    return Evidence(
        kind="symbolic",
        statement=FACTORS,
        checks=(Check(name, int(log_gap(label) != 0), "==", 0),),
        control=Control("evidence without the label noise", (Check(name, int(log_gap(tau**2 * x**2) != 0), "==", 0),)),
        budget=budget,
    )


CLAIMS = (Claim(FACTORS, "symbolic", _factors),)
