"""σReparam's entropy bound in float64: random logit rows stay above it, minimised ones come down to it.

Source: Zhai et al., "Stabilizing Transformer Training by Preventing Attention Entropy Collapse" (2023).
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from microtome.theory.claim import Claim
from microtome.theory.constructions.sigma_reparam import entropy_bound
from microtome.theory.evidence import Check, Control, Evidence
from microtome.theory.statement import Statement

_KEYS = (4, 16, 64)
_NORMS = (0.5, 1.0, 2.0, 4.0, 8.0)
_ROWS = 10_000

ENTROPY_BOUND = Statement(
    name="entropy bound on random and minimised rows",
    text="Softmax rows whose logits have norm at most s have at least the bound's entropy, and rows that minimise the "
    "entropy reach it.",
    hypotheses=("T ∈ {4, 16, 64}", "s ∈ {½, 1, 2, 4, 8}", "10,000 random rows each, half of them of norm exactly s"),
    source="Zhai et al., Stabilizing Transformer Training by Preventing Attention Entropy Collapse (2023), "
    "entropy bound",
    slug="sigma_reparam",
)


def entropy(logits: Float[Tensor, "*batch key"]) -> Float[Tensor, "*batch"]:
    """Entropy of softmax(logits), in nats."""
    return -(logits.softmax(-1) * logits.log_softmax(-1)).sum(-1)


def random_rows(keys: int, norm: float, generator: torch.Generator) -> Float[Tensor, "row key"]:
    """10,000 rows of norm at most `norm`: half on the sphere, half inside the ball.

    Within each half, every second direction is a cubed Gaussian, which puts much of the norm on few keys.
    """
    direction = torch.randn(_ROWS, keys, generator=generator, dtype=torch.float64)
    direction[::2] = direction[::2] ** 3
    radius = torch.ones(_ROWS, 1, dtype=torch.float64)
    radius[_ROWS // 2 :] = torch.rand(_ROWS - _ROWS // 2, 1, generator=generator, dtype=torch.float64)
    return norm * radius * direction / direction.norm(dim=-1, keepdim=True)


def minimised_entropy(
    keys: int, norms: Float[Tensor, " norm"], restarts: int, steps: int, generator: torch.Generator
) -> Float[Tensor, " norm"]:
    """The least entropy that Adam finds among rows of each norm, over so many random starts."""
    shape = (len(norms), restarts, keys)
    free = torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
    optimiser = torch.optim.Adam([free], lr=0.1)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        found = entropy(_on_sphere(free, norms))
        optimiser.zero_grad()
        found.sum().backward()
        optimiser.step()
        decay.step()
    return entropy(_on_sphere(free.detach(), norms)).amin(-1)


def _on_sphere(free: Tensor, norms: Tensor) -> Tensor:
    return norms[:, None, None] * free / free.norm(dim=-1, keepdim=True)


def _entropy_bound(budget: str, seed: int) -> Evidence:
    generator = torch.Generator().manual_seed(seed)
    restarts, steps = {"quick": (8, 500), "full": (64, 1000)}[budget]
    norms = torch.tensor(_NORMS, dtype=torch.float64)
    random = {(T, s): entropy(random_rows(T, s, generator)).min().item() for T in _KEYS for s in _NORMS}
    minimal = {T: minimised_entropy(T, norms, restarts, steps, generator).tolist() for T in _KEYS}
    best = {(T, s): value for T in _KEYS for s, value in zip(_NORMS, minimal[T], strict=True)}

    def margin(found: dict, shrink: float) -> float:
        return min(value - entropy_bound(T, shrink * s, math) for (T, s), value in found.items())

    reached = max(value - entropy_bound(T, s, math) for (T, s), value in best.items())
    below = "smallest entropy − bound, "
    return Evidence(
        kind="numeric",
        statement=ENTROPY_BOUND,
        checks=(
            # Entropies up to log 64 are computed to a few units of rounding, far below 1e-12.
            Check(f"{below}random rows", margin(random, 1.0), ">=", -1e-12),
            Check(f"{below}minimised rows", margin(best, 1.0), ">=", -1e-12),
            Check("largest entropy − bound, minimised rows", reached, "<=", 1e-6),
        ),
        control=Control(
            "the bound evaluated at s/2",
            (
                Check(f"{below}random rows", margin(random, 0.5), ">=", -1e-12),
                Check(f"{below}minimised rows", margin(best, 0.5), ">=", -1e-12),
            ),
        ),
        seed=seed,
        budget=budget,
        notes=f"Minimised at T=16, s=4: {best[16, 4.0]:.6f} nats; {restarts} starts of {steps} Adam steps.",
        figure=lambda: _draw(best, seed),
    )


def _draw(best: dict[tuple[int, float], float], seed: int) -> object:
    from matplotlib.figure import Figure

    generator = torch.Generator().manual_seed(seed)
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    for axes, T in zip(figure.subplots(1, 3), _KEYS, strict=True):
        inside = random_rows(T, _NORMS[-1], generator)[-2000:]
        axes.plot(inside.norm(dim=-1), entropy(inside), ".", ms=2, alpha=0.4, label="random rows")
        axes.plot(_NORMS, [best[T, s] for s in _NORMS], "kx", label="minimised rows")
        grid = [0.02 * step for step in range(1, 426)]
        axes.plot(grid, [entropy_bound(T, s, math) for s in grid], color="black", label="bound at s")
        halved = [entropy_bound(T, s / 2, math) for s in grid]
        axes.plot(grid, halved, color="tab:red", ls="--", label="bound at s/2 (control)")
        axes.set(xlabel="norm of the logits", title=f"T = {T}")
    figure.axes[0].set_ylabel("entropy (nats)")
    figure.axes[-1].legend(fontsize="small", loc="lower left")
    return figure


CLAIMS = (Claim(ENTROPY_BOUND, "numeric", _entropy_bound),)
