"""How far labels move when the weights, or the data, of a softmax regression move: ratios in float64 against bounds.

Source: Li et al., "The Closeness of In-Context Learning and Weight Shifting for Softmax Regression" (2023). Its main
theorem gives both moves one Lipschitz constant, M = n^1.5·exp(10R²). The constant R/2 is this laboratory's: the
spectral norm of diag f − ffᵀ is at most ½ (`icl_softmax_regression_symbolic`). M and R/2 are compared by logarithms.
"""

import math
from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from microtome.lab.bayes.softmax_regression import f, gradient, loss, shifted_target
from microtome.theory.claim import Claim
from microtome.theory.evidence import Check, Control, Evidence
from microtome.theory.statement import Statement

_PAPER = "Li et al., The Closeness of In-Context Learning and Weight Shifting for Softmax Regression (2023)"
RADII = (0.5, 1.0, 2.0, 4.0)
# At R = ½ four tokens share the whole so evenly that no ratio/R comes near 0.3: two tokens are what R/2 is sharp for.
TOKENS = (2, 4, 16, 64)
DIMS = (2, 5)
PAIRS = {"quick": 10_000, "full": 100_000}
SMALLEST_STEP = 1e-3  # below it cancellation in the difference of two f could fake a violation

LIPSCHITZ = Statement(
    name="both shifts move labels at most R/2 as far",
    text="‖b̃ − b‖ ≤ (R/2)‖x_{t+1} − x_t‖ for a shift of weights and ‖b̂ − b‖ ≤ (R/2)‖A_{t+1} − A_t‖₂ for a shift of "
    "data, so both lie below M = n^1.5·exp(10R²) by at least 1.5·ln n + 10R² − ln(R/2).",
    hypotheses=(
        "‖A‖₂ ≤ R and ‖x‖ ≤ R at both ends, R ∈ {½, 1, 2, 4}",
        "n ∈ {2, 4, 16, 64} tokens, d ∈ {2, 5}, steps of at least 1e-3",
        "random pairs, 10⁴ for each R and each kind of shift; 10⁵ at the full budget",
    ),
    source=f"{_PAPER}, main theorem; the constant R/2 is this laboratory's",
    slug="icl_softmax_regression",
)
DESCENT = Statement(
    name="a small step takes η‖∇L‖² off the loss",
    text="L(x − η∇L) = L(x) − η‖∇L‖² + O(η²), with the gradient in closed form.",
    hypotheses=("n = 16, d = 5, standard normal A and x, b the softmax of standard normals", "η from 1e-1 to 1e-4"),
    source=f"{_PAPER}, gradient of the softmax regression loss",
    slug="icl_softmax_regression",
)


class Ratios(NamedTuple):
    """Largest ‖label change‖/‖shift‖ over R, and how many ratios exceed R/2, of one radius, size and kind of shift."""

    largest: float
    violations: int


def in_ball(count: int, radius: float, shape: tuple[int, ...], generator: torch.Generator) -> Float[Tensor, "..."]:
    """Vectors or matrices of spectral norm U(0, radius), Gaussian in direction, [count *shape]."""
    drawn = torch.randn(count, *shape, generator=generator, dtype=torch.float64)
    size = radius * torch.rand(count, generator=generator, dtype=torch.float64)
    return drawn * (size / norm(drawn)).reshape(-1, *(1,) * len(shape))


def norm(each: Float[Tensor, "pair ..."]) -> Float[Tensor, " pair"]:
    """‖·‖₂ of vectors, the spectral norm of matrices."""
    return torch.linalg.matrix_norm(each, 2) if each.ndim == 3 else each.norm(dim=-1)


def pairs(start: Float[Tensor, "pair ..."], end: Float[Tensor, "pair ..."], generator: torch.Generator) -> Tensor:
    """Ends brought nearer to their starts by log-uniform factors, to steps of at least `SMALLEST_STEP`."""
    factor = 10 ** (-3 * torch.rand(len(start), generator=generator, dtype=torch.float64))
    factor = torch.maximum(factor, SMALLEST_STEP / norm(end - start)).clamp(max=1)
    return start + factor.reshape(-1, *(1,) * (start.ndim - 1)) * (end - start)


def ratios(
    radius: float, tokens: int, dim: int, count: int, generator: torch.Generator, normalised: bool = True
) -> dict[str, Ratios]:
    """The ratios for shifts of the weights and of the data; without the normaliser α for a control."""
    A, x = in_ball(count, radius, (tokens, dim), generator), in_ball(count, radius, (dim,), generator)
    moved_x = pairs(x, in_ball(count, radius, (dim,), generator), generator)
    moved_A = pairs(A, in_ball(count, radius, (tokens, dim), generator), generator)
    said = f if normalised else _unnormalised
    before, b = said(A, x), f(A, torch.zeros_like(x))
    found = {}
    for kind, after, step in (("weights", said(A, moved_x), moved_x - x), ("data", said(moved_A, x), moved_A - A)):
        size = norm(step)
        kept = size >= SMALLEST_STEP * (1 - 1e-9)  # two ends may be drawn nearer than that
        ratio = ((shifted_target(b, before, after) - b).norm(dim=-1) / size)[kept]
        found[kind] = Ratios(ratio.max().item() / radius, int((ratio > radius / 2).sum()))
    return found


def _unnormalised(A: Tensor, x: Tensor) -> Tensor:
    return (A @ x[..., None]).squeeze(-1).exp()


def log_slack(largest: float, radius: float, tokens: int) -> float:
    """ln M − ln(largest ratio), less what R/2 guarantees; negative only where R/2 is violated."""
    log_m = 1.5 * math.log(tokens) + 10 * radius**2
    return log_m - math.log(largest * radius) - (log_m - math.log(radius / 2))


Table = dict[tuple[str, float, int], Ratios]


def table(count: int, seed: int, normalised: bool = True) -> Table:
    """Ratios by kind of shift, radius and number of tokens, from `count` pairs for each radius and kind."""
    generator = torch.Generator().manual_seed(seed)
    each = count // (len(TOKENS) * len(DIMS))
    found: Table = {}
    for radius in RADII:
        for n in TOKENS:
            by_dim = [ratios(radius, n, d, each, generator, normalised) for d in DIMS]
            for kind in ("weights", "data"):
                rows = [row[kind] for row in by_dim]
                worst, violated = max(r.largest for r in rows), sum(r.violations for r in rows)
                found[kind, radius, n] = Ratios(worst, violated)
    return found


def _checks(found: Table) -> tuple[Check, ...]:
    def largest(radius: float) -> float:
        return max(row.largest for (_, R, _), row in found.items() if radius == R)

    checks = [Check("pairs with a ratio above R/2", sum(row.violations for row in found.values()), "==", 0)]
    for radius in (R for R in RADII if R <= 2):
        name = f"largest ratio/R at R = {radius:g}"
        checks.append(Check(name, largest(radius), ">=", 0.3))
        checks.append(Check(f"{name}, from above", largest(radius), "<=", 0.5))
    slack = min(log_slack(row.largest, R, n) for (_, R, n), row in found.items())
    return (*checks, Check("least of ln M − ln ratio − (1.5·ln n + 10R² − ln(R/2))", slack, ">=", 0))


def _lipschitz(budget: str, seed: int) -> Evidence:
    found = table(PAIRS[budget], seed)
    return Evidence(
        kind="numeric",
        statement=LIPSCHITZ,
        checks=_checks(found),
        control=Control("exp(Ax) without the normaliser", _checks(table(PAIRS["quick"], seed, normalised=False))),
        seed=seed,
        budget=budget,
        notes="Largest ratio/R for n = 4, 16, 64 at any R: "
        + ", ".join(f"{max(r.largest for (_, _, m), r in found.items() if m == n):.3f}" for n in TOKENS[1:])
        + f"; ln(M/ratio) between {_span(found)}.",
        figure=lambda: draw(found),
    )


def _span(found: Table) -> str:
    gaps = [1.5 * math.log(n) + 10 * R**2 - math.log(row.largest * R) for (_, R, n), row in found.items()]
    return f"{min(gaps):.1f} and {max(gaps):.1f}"


def decreases(rates: tuple[float, ...], seed: int, sign: float = 1.0) -> list[float]:
    """|[L(x) − L(x ∓ η∇L)]/(η‖∇L‖²) − 1| for every η, the mean over 200 problems; `sign` −1 steps uphill."""
    generator = torch.Generator().manual_seed(seed)
    A, x, logits = (torch.randn(200, *s, generator=generator, dtype=torch.float64) for s in ((16, 5), (5,), (16,)))
    b = logits.softmax(-1)
    slope = gradient(A, x, b)
    promised = slope.square().sum(-1)
    taken = [loss(A, x, b) - loss(A, x - sign * rate * slope, b) for rate in rates]
    return [(each / (rate * promised) - 1).abs().mean().item() for each, rate in zip(taken, rates, strict=True)]


def _descent(budget: str, seed: int) -> Evidence:
    rates = (1e-1, 1e-2, 1e-3, 1e-4)
    down, up = (decreases(rates, seed, sign) for sign in (1.0, -1.0))
    name = "largest of (relative error at η)/(that at 10η), η from 1e-2"

    def falls(errors: list[float]) -> float:
        return max(fine / coarse for coarse, fine in pairwise(errors))

    return Evidence(
        kind="numeric",
        statement=DESCENT,
        checks=(Check(name, falls(down), "<=", 0.12), Check("relative error at η = 1e-4", down[-1], "<=", 1e-3)),
        control=Control("a step uphill", (Check(name, falls(up), "<=", 0.12),)),
        seed=seed,
        budget=budget,
        notes="Mean relative error by η: " + ", ".join(f"{r:g} {e:.1e}" for r, e in zip(rates, down, strict=True)),
    )


def draw(found: Table) -> object:
    """Largest ratios by radius for every number of tokens, under R/2, and how far above them M lies."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.4), layout="constrained")
    ratio, slack = figure.subplots(1, 2)
    for n, colour in zip(TOKENS, ("C0", "C1", "C2", "C3"), strict=True):
        for kind, style in (("weights", "o-"), ("data", "s--")):
            rows = [found[kind, R, n].largest * R for R in RADII]
            label = f"n = {n}" if kind == "weights" else None
            ratio.plot(RADII, rows, style, color=colour, label=label, markersize=4)
        log_m = [(1.5 * math.log(n) + 10 * R**2) / math.log(10) for R in RADII]
        slack.plot(RADII, log_m, "^-", color=colour, markersize=4, label=f"M, n = {n}")
    ratio.plot(RADII, [R / 2 for R in RADII], color="black", linewidth=1, label="R/2")
    ratio.set(xscale="log", yscale="log", title="Largest ratios (dashed: shifts of data)")
    slack.plot(RADII, [math.log10(R / 2) for R in RADII], color="black", linewidth=1, label="R/2")
    slack.set(xscale="log", ylabel="log₁₀ of the bound", title="The two bounds")
    ratio.set_ylabel("label change / shift")
    for axes in (ratio, slack):
        axes.set_xlabel("R, bound on ‖A‖₂ and ‖x‖")
        axes.set_xticks(RADII, [f"{R:g}" for R in RADII])
        axes.minorticks_off()
        axes.legend(fontsize="x-small")
    return figure


CLAIMS = (
    Claim(LIPSCHITZ, "numeric", _lipschitz),
    Claim(DESCENT, "numeric", _descent),
)
