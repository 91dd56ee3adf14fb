"""Sigmoid attention in float64: how large its outputs start, and how steep the map is.

Source: Ramapuram et al., "Theory, Analysis, and Best Practices for Sigmoid Self-Attention" (2025).
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from microtome.theory.claim import Claim
from microtome.theory.evidence import Check, Control, Evidence
from microtome.theory.statement import Statement

PAPER = "Ramapuram et al., Theory, Analysis, and Best Practices for Sigmoid Self-Attention (2025)"
LENGTHS = (64, 256, 1024)
WIDTH = 16

OUTPUT_NORM = Statement(
    name="size of outputs at the start",
    text="With b = −log n the output of sigmoid attention is between half and twice as large as softmax's; with b = 0 "
    "it is n/2 times as large, to 20 %.",
    hypotheses=("n ∈ {64, 256, 1024}, all keys visible", "scores N(0, 0.1²), values N(0, 1)", "5 draws a length"),
    source=f"{PAPER}, section 4",
    slug="sigmoid_attention",
)
JACOBIAN = Statement(
    name="bound of the Jacobian",
    text="‖Jac φ‖₂ ≤ ‖W_v‖₂ (σ_∞ + 2 σ′_∞ ‖W_qᵀW_k‖₂ (1/n) Σ_i ‖x_i‖²) with σ_∞ and σ′_∞ n times the largest weight "
    "and slope of the logits that occur.",
    hypotheses=(
        "φ_i(X) = Σ_j σ(⟨W_q x_i, W_k x_j⟩ + b) W_v x_j with b = −log n",
        "n from 2 to 16 tokens in a ball of radius at most 4, in 3 dimensions, scattered or around one point",
        "Gaussian W_q, W_k, W_v of random size",
    ),
    source=f"{PAPER}, theorem on the Lipschitz constant",
    slug="sigmoid_attention",
)


def norm_ratio(n: int, b: float, generator: torch.Generator, draws: int = 5) -> Float[Tensor, " draw"]:
    """‖sigmoid outputs‖ / ‖softmax outputs‖, Frobenius, over random small scores [query key] and values."""
    s = 0.1 * torch.randn(draws, n, n, generator=generator, dtype=torch.float64)
    v = torch.randn(draws, n, WIDTH, generator=generator, dtype=torch.float64)
    sigmoid, softmax = torch.sigmoid(s + b) @ v, s.softmax(-1) @ v
    return torch.linalg.matrix_norm(sigmoid) / torch.linalg.matrix_norm(softmax)


def _output_norm(budget: str, seed: int) -> Evidence:
    generator = torch.Generator().manual_seed(seed)
    ratios = {n: norm_ratio(n, -math.log(n), generator) for n in LENGTHS}
    unbiased = {n: norm_ratio(n, 0.0, generator) for n in LENGTHS}
    least, most = min(r.min() for r in ratios.values()), max(r.max() for r in ratios.values())
    off = max((r / (n / 2) - 1).abs().max() for n, r in unbiased.items())
    names = ("smallest ratio to softmax", "largest ratio to softmax")
    control = (min(r.min() for r in unbiased.values()), max(r.max() for r in unbiased.values()))
    return Evidence(
        kind="numeric",
        statement=OUTPUT_NORM,
        checks=(
            Check(names[0], least.item(), ">=", 0.5),
            Check(names[1], most.item(), "<=", 2.0),
            Check("largest relative distance from n/2 at b = 0", off.item(), "<=", 0.2),
        ),
        control=Control(
            "b = 0",
            (Check(names[0], control[0].item(), ">=", 0.5), Check(names[1], control[1].item(), "<=", 2.0)),
        ),
        seed=seed,
        budget=budget,
    )


@dataclass(frozen=True)
class Layer:
    """One head, W_q, W_k, W_v [d d], and its tokens X [n d]."""

    W_q: Tensor
    W_k: Tensor
    W_v: Tensor
    X: Tensor

    @property
    def b(self) -> float:
        return -math.log(len(self.X))

    def logits(self, X: Float[Tensor, "n d"]) -> Float[Tensor, "n n"]:
        return (X @ self.W_q.T) @ (X @ self.W_k.T).T + self.b

    def outputs(self, X: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        return torch.sigmoid(self.logits(X)) @ X @ self.W_v.T


def draw_layer(generator: torch.Generator) -> Layer:
    """Half of all draws have their tokens around one point, where the slopes of all scores add up."""

    def uniform(low: float, high: float) -> float:
        return low + (high - low) * torch.rand((), generator=generator, dtype=torch.float64).item()

    n = int(torch.randint(2, 17, (), generator=generator))
    X = torch.randn(n, 3, generator=generator, dtype=torch.float64)
    if torch.rand((), generator=generator) < 0.5:
        X = X[:1] + 0.1 * X
    X = X * uniform(0.5, 4.0) / X.norm(dim=-1).max()
    W_q, W_k, W_v = (
        uniform(0.2, 2.0) * torch.randn(3, 3, generator=generator, dtype=torch.float64) / math.sqrt(3) for _ in range(3)
    )
    return Layer(W_q, W_k, W_v, X)


def jacobian_norm(layer: Layer) -> float:
    """‖Jac φ‖₂ at X, by automatic differentiation."""
    size = layer.X.numel()
    jacobian = torch.autograd.functional.jacobian(layer.outputs, layer.X, vectorize=True).reshape(size, size)
    return torch.linalg.matrix_norm(jacobian, 2).item()


def jacobian_bound(layer: Layer, slopes: float = 2.0) -> float:
    """The bound; `slopes` is the factor of its second term."""
    n, weights = len(layer.X), torch.sigmoid(layer.logits(layer.X))
    sup, steepest = n * weights.max().item(), n * (weights * (1 - weights)).max().item()
    product = torch.linalg.matrix_norm(layer.W_q.T @ layer.W_k, 2).item()
    mean_square = layer.X.square().sum(-1).mean().item()
    return torch.linalg.matrix_norm(layer.W_v, 2).item() * (sup + slopes * steepest * product * mean_square)


def _jacobian(budget: str, seed: int) -> Evidence:
    generator = torch.Generator().manual_seed(seed)
    layers = [draw_layer(generator) for _ in range({"quick": 300, "full": 5000}[budget])]
    norms = [jacobian_norm(layer) for layer in layers]
    bounds = [jacobian_bound(layer) for layer in layers]
    worst = max(norm / bound for norm, bound in zip(norms, bounds, strict=True))
    without = max(norm / jacobian_bound(layer, slopes=0.0) for norm, layer in zip(norms, layers, strict=True))
    name = "largest ‖Jac‖ over its bound"
    return Evidence(
        kind="numeric",
        statement=JACOBIAN,
        # Saturated weights meet the bound, then to rounding.
        checks=(Check(name, worst, "<=", 1 + 1e-12),),
        control=Control("the bound without its slopes", (Check(name, without, "<=", 1 + 1e-12),)),
        seed=seed,
        budget=budget,
        notes=f"{len(layers)} draws.",
        figure=lambda: _draw(norms, bounds),
    )


def _draw(norms: list[float], bounds: list[float]) -> object:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6, 4), layout="constrained")
    axes = figure.subplots()
    axes.loglog(bounds, norms, ".", markersize=3, alpha=0.5)
    ends = [1e-3, max(bounds)]  # fewer than one draw in a hundred lies below
    axes.plot(ends, ends, color="0.4", linewidth=1)
    axes.set(
        xlabel="bound", ylabel="‖Jac φ‖₂", title="Never steeper than the bound", xlim=(1e-3, None), ylim=(1e-4, None)
    )
    return figure


CLAIMS = (Claim(OUTPUT_NORM, "numeric", _output_norm), Claim(JACOBIAN, "numeric", _jacobian))
