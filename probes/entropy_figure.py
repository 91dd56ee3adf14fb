"""The picture of a tracked run: entropy per head, spectral norm of W_QK, and loss, over steps."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from microtome.probes.entropy import Check, Collapse


def draw(checks: Sequence["Check"], collapses: Sequence["Collapse"], threshold: float) -> Figure:
    """Three panels over one axis of steps: a line a head, a colour a layer, collapses marked where they were called."""
    steps = [c.step for c in checks]
    figure = Figure(figsize=(7.5, 7.5), layout="constrained")
    entropy, norm, loss = figure.subplots(3, 1, sharex=True)
    _per_head(entropy, steps, torch.stack([c.entropy for c in checks]))
    uniform = [c.uniform for c in checks]
    entropy.plot(steps, uniform, color="0.4", linestyle="--", linewidth=1, label="uniform attention")
    entropy.plot(
        steps,
        [threshold * u for u in uniform],
        color="tab:red",
        linestyle=":",
        linewidth=1,
        label=f"alarm at {threshold:.0%}",
    )
    for c in collapses:
        at = next(check for check in checks if check.step == c.step)
        entropy.plot(c.step, float(at.entropy[c.layer, c.head]), "x", color="tab:red", markersize=8)
    entropy.set_ylabel("attention entropy (nats)")
    entropy.set_ylim(bottom=0)
    entropy.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0.0)
    norms = torch.stack([c.score_norm for c in checks])
    if norms.isnan().all():
        _say(norm, "no scores: the mixers have no queries and keys")
    else:
        _per_head(norm, steps, norms)
        norm.set_yscale("log")
    norm.set_ylabel("spectral norm of $W_Q W_K^T$")
    losses = [(c.step, c.loss) for c in checks if c.loss is not None]
    if losses:
        loss.plot(*zip(*losses, strict=True), color="0.15", linewidth=1)
        loss.set_yscale("log")
    else:
        _say(loss, "no losses: tracked outside training")
    loss.set_ylabel("training loss")
    loss.set_xlabel("step" if losses else "check")
    for axes in (entropy, norm, loss):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.2)
    return figure


def _say(axes: Axes, sentence: str) -> None:
    axes.text(0.5, 0.5, sentence, ha="center", va="center", transform=axes.transAxes)


def _per_head(axes: Axes, steps: Sequence[int], values: torch.Tensor) -> None:
    """Lines of values [check layer head]."""
    _, n_layers, n_heads = values.shape
    for layer in range(n_layers):
        colour = colormaps["viridis"](0.85 * layer / max(n_layers - 1, 1))
        for head in range(n_heads):
            axes.plot(
                steps,
                values[:, layer, head].tolist(),
                color=colour,
                linewidth=1,
                alpha=0.8,
                label=f"layer {layer}" if head == 0 else None,
            )
