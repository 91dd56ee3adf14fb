"""Gradient descent and ridge regression by construction, measured in float64 against direct computation.

Source: Akyürek et al., "What learning algorithm is in-context learning? Investigations with linear models" (2023).
Prompts are of the paper's law: x ~ N(0, 1₃), w ~ N(0, 1₃), y = wᵀx + N(0, ½²), and λ = σ²/τ² = ¼.
"""

from collections.abc import Callable
from functools import partial
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from microtome.theory.claim import Claim
from microtome.theory.constructions.icl_linear_algorithms import (
    Construction,
    Layout,
    Scales,
    direct_gradient_step,
    direct_ridge,
    direct_sgd_pass,
    gradient_step,
    mov,
    mul,
    ridge,
    sgd_pass,
)
from microtome.theory.evidence import Check, Control, Evidence
from microtome.theory.statement import Statement

_PAPER = "Akyürek et al., What learning algorithm is in-context learning? (2023)"
_DIM, _NOISE, _PENALTY, _RATE = 3, 0.5, 0.25, 0.05
_POINTS = (1, 2, 3, 5)
_SHRINK = 1e5  # the s of the statements
_BEST_SHRINK = 1e6
_PROMPTS = {"quick": 100, "full": 2000}
ACTIVATIONS = {"exact GELU": F.gelu, "tanh GELU": partial(F.gelu, approximate="tanh"), "ReLU": F.relu}

PRODUCT_ERROR = Statement(
    name="product error falls like s⁻²",
    text="A constructed layer's product has an error that falls about a hundredfold when s grows tenfold, until "
    "float64 rounding takes over.",
    hypotheses=("scalar products of standard normal vectors, d = 3", "s from 10 to 10⁴"),
    source=f"{_PAPER}, by-construction proofs",
    slug="icl_linear_algorithms",
)
GRADIENT_DESCENT = Statement(
    name="gradient descent by construction",
    text="Transformer weights, nothing trained, carry out one gradient-descent step over all examples and one pass of "
    "stochastic gradient descent in context.",
    hypotheses=("d = 3, n ∈ {1, 2, 3, 5}", "float64", "s = 10⁵"),
    source=f"{_PAPER}, theorem on gradient descent",
    slug="icl_linear_algorithms",
)
RIDGE = Statement(
    name="ridge regression by construction",
    text="Transformer weights, nothing trained, carry out ridge regression by Sherman–Morrison updates in context.",
    hypotheses=("d = 3, n ∈ {1, 2, 3, 5}, λ = ¼", "float64", "s = 10⁵"),
    source=f"{_PAPER}, theorem on closed-form regression",
    slug="icl_linear_algorithms",
)

Solve = Callable[[Tensor, Tensor], Tensor]  # (xs, ys) -> weights


def prompts(
    points: int, count: int, generator: torch.Generator
) -> tuple[Float[Tensor, "batch points dim"], Float[Tensor, "batch points"], Float[Tensor, "batch dim"]]:
    """Examples xs, ys and a query."""
    xs, w, query, noise = (
        torch.randn(shape, generator=generator, dtype=torch.float64)
        for shape in ((count, points, _DIM), (count, _DIM), (count, _DIM), (count, points))
    )
    return xs, (xs @ w[..., None])[..., 0] + _NOISE * noise, query


def errors(
    construction: Construction,
    solve: Solve,
    prompt: tuple[Tensor, Tensor, Tensor],
    shrink: float = _SHRINK,
    activation: str = "exact GELU",
) -> Float[Tensor, " batch"]:
    """|constructed prediction − direct prediction| for each prompt."""
    xs, ys, query = prompt
    direct = (solve(xs, ys) * query).sum(-1)
    return (construction.predict(xs, ys, query, Scales(shrink=shrink), ACTIVATIONS[activation]) - direct).abs()


def _gradient_descent(budget: str, seed: int) -> Evidence:
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(_DIM, generator=generator, dtype=torch.float64)
    arguments = {"rate": _RATE, "decay": _PENALTY, "start": start}
    found: dict[str, list[Tensor]] = {"step": [], "pass": [], "tanh GELU": [], "ReLU": []}
    for points in _POINTS:
        prompt = prompts(points, _PROMPTS[budget], generator)
        step, step_solve = gradient_step(points, **arguments), partial(direct_gradient_step, **arguments)
        found["step"].append(errors(step, step_solve, prompt))
        found["pass"].append(errors(sgd_pass(points, **arguments), partial(direct_sgd_pass, **arguments), prompt))
        for activation in ("tanh GELU", "ReLU"):
            found[activation].append(errors(step, step_solve, prompt, activation=activation))
    largest = {name: torch.cat(parts).max().item() for name, parts in found.items()}
    name = "largest error, one step over all examples"
    return Evidence(
        kind="numeric",
        statement=GRADIENT_DESCENT,
        checks=(
            Check(name, largest["step"], "<=", 1e-6),
            Check("largest error, one stochastic pass", largest["pass"], "<=", 1e-6),
            Check(f"{name}, tanh GELU", largest["tanh GELU"], "<=", 1e-6),
        ),
        control=Control("ReLU in GELU's place", (Check(name, largest["ReLU"], "<=", 1e-6),)),
        seed=seed,
        budget=budget,
        notes=f"{_PROMPTS[budget]} prompts for each n; α = {_RATE}, λ = {_PENALTY}, random start.",
    )


def _ridge(budget: str, seed: int) -> Evidence:
    generator = torch.Generator().manual_seed(seed)
    solve = partial(direct_ridge, penalty=_PENALTY)
    found: dict[str, list[Tensor]] = {"s": [], "best s": [], "ReLU": []}
    for points in _POINTS:
        prompt = prompts(points, _PROMPTS[budget], generator)
        construction = ridge(points, _DIM, _PENALTY)
        found["s"].append(errors(construction, solve, prompt))
        found["best s"].append(errors(construction, solve, prompt, shrink=_BEST_SHRINK))
        found["ReLU"].append(errors(construction, solve, prompt, activation="ReLU"))
    joined = {name: torch.cat(parts) for name, parts in found.items()}
    name = "root mean square error at s=1e5"

    def root_mean_square(error: Tensor) -> float:
        return error.square().mean().sqrt().item()

    over = (joined["s"] > 1e-6).double().mean().item()
    return Evidence(
        kind="numeric",
        statement=RIDGE,
        checks=(
            Check(name, root_mean_square(joined["s"]), "<=", 1e-6),
            Check("error of 99 in 100 prompts at s=1e5", joined["s"].quantile(0.99).item(), "<=", 1e-6),
        ),
        control=Control("ReLU in GELU's place", (Check(name, root_mean_square(joined["ReLU"]), "<=", 1e-6),)),
        seed=seed,
        budget=budget,
        notes=f"{_PROMPTS[budget]} prompts for each n. At s=1e5 {over:.2%} of them err by more than 1e-6, the worst by "
        f"{joined['s'].max().item():.1e}; at s=1e6, the best s, the worst errs by {joined['best s'].max().item():.1e}. "
        "Gaussian prompts have no worst case: the error grows with the fourth power of A⁻¹x.",
        figure=lambda: _draw_ridge(seed),
    )


def product_error(shrink: float, activation: str, seed: int) -> float:
    """The largest error of one constructed scalar product over 1,000 pairs of standard normal vectors."""
    generator = torch.Generator().manual_seed(seed)
    layout = Layout({"y": 1, "x": _DIM, "w": _DIM}, operands=_DIM, columns=3)
    bring = mov(layout, "x", "w", {2: (0,)})
    product = Construction(layout, (bring, mul(layout, "y", "w", "x", (1, _DIM, 1), (2,))))
    return errors(product, lambda xs, ys: xs[:, 0], prompts(1, 1000, generator), shrink, activation).max().item()


def _product_error(budget: str, seed: int) -> Evidence:
    shrinks = [10.0**exponent for exponent in range(1, 9)]
    by_activation = {
        activation: [product_error(shrink, activation, seed) for shrink in shrinks] for activation in ACTIVATIONS
    }

    def falls(activation: str) -> list[float]:
        before_rounding = by_activation[activation][:4]
        return [coarse / fine for coarse, fine in pairwise(before_rounding)]

    name = "smallest fall of the error per tenfold s"
    exact = falls("exact GELU")
    return Evidence(
        kind="numeric",
        statement=PRODUCT_ERROR,
        checks=(
            Check(name, min(exact), ">=", 50),
            Check("largest fall of the error per tenfold s", max(exact), "<=", 200),
            Check("smallest fall, tanh GELU", min(falls("tanh GELU")), ">=", 50),
        ),
        control=Control("ReLU in GELU's place", (Check(name, min(falls("ReLU")), ">=", 50),)),
        seed=seed,
        budget=budget,
        notes="Largest error by s: "
        + ", ".join(f"{s:.0e} {e:.1e}" for s, e in zip(shrinks, by_activation["exact GELU"], strict=True)),
        figure=lambda: _draw_product(shrinks, by_activation),
    )


def _draw_product(shrinks: list[float], by_activation: dict[str, list[float]]) -> object:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for (activation, found), style in zip(by_activation.items(), ("o-", "x--", "s:"), strict=True):
        axes.loglog(shrinks, found, style, label=activation)
    axes.set(xlabel="s", ylabel="largest error of a product", title="A product made of three activations")
    axes.legend()
    return figure


def _draw_ridge(seed: int) -> object:
    from matplotlib.figure import Figure

    generator = torch.Generator().manual_seed(seed)
    points = 3
    prompt = prompts(points, 100, generator)
    construction, solve = ridge(points, _DIM, _PENALTY), partial(direct_ridge, penalty=_PENALTY)
    shrinks = [10.0**exponent for exponent in range(2, 9)]
    found = torch.stack([errors(construction, solve, prompt, shrink=shrink) for shrink in shrinks])  # [s batch]
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    axes.loglog(shrinks, found.amax(-1), "o-", label="largest of 100 prompts")
    axes.loglog(shrinks, found.square().mean(-1).sqrt(), "s-", label="root mean square")
    axes.loglog(shrinks, found.median(-1).values, "^-", label="median")
    axes.axhline(1e-6, color="grey", linestyle="--", linewidth=1)
    axes.set(xlabel="s", ylabel="|constructed − direct|", title=f"Ridge by construction, n = {points}, d = {_DIM}")
    axes.legend()
    return figure


CLAIMS = (
    Claim(PRODUCT_ERROR, "numeric", _product_error),
    Claim(GRADIENT_DESCENT, "numeric", _gradient_descent),
    Claim(RIDGE, "numeric", _ridge),
)
