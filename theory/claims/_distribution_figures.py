"""Pictures of posteriors and filters: the exact ones in black, networks in colour over them."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from microtome.lab.bayes.gaussian_mixture import GaussianMixture

COLOURS = {"every prior": "#D55E00", "one prior": "#0072B2"}
DASHES = {"every prior": "--", "one prior": ":"}
SHOWN = torch.linspace(-4, 4, 401, dtype=torch.float64)


def draw_posterior(
    axes: Any, prior: GaussianMixture, exact: GaussianMixture, answer: GaussianMixture, z: float
) -> None:
    """The three densities of one problem without batch, and its observation."""
    axes.plot(SHOWN, prior.log_prob(SHOWN[:, None]).exp(), ":", color="0.5", label="prior")
    axes.plot(SHOWN, exact.log_prob(SHOWN[:, None]).exp(), color="black", label="exact posterior")
    axes.plot(
        SHOWN, answer.log_prob(SHOWN[:, None]).exp(), "--", color=COLOURS["every prior"], label="network of every prior"
    )
    axes.plot([z], [0], "^", color="#009E73", clip_on=False, label="observation z", zorder=3)
    axes.set(xlabel="x", ylabel="density", xlim=(-4, 4), ylim=(0, None))


def draw_chain(
    axes: Any,
    exact_mean: Float[Tensor, " time"],
    exact_std: Float[Tensor, " time"],
    means: Mapping[str, Float[Tensor, " time"]],
) -> None:
    """Posterior means along one chain, by what the network was trained on."""
    time = range(1, len(exact_mean) + 1)
    axes.fill_between(time, exact_mean - exact_std, exact_mean + exact_std, color="0.88", label="exact ± 1 sd")
    axes.plot(time, exact_mean, color="black", label="exact posterior")
    for name, mean in means.items():
        axes.plot(time, mean, DASHES[name], color=COLOURS[name], label=f"network of {name}")
    axes.set(xlabel="step", ylabel="posterior mean of x", title="one chain")


def draw_distances(axes: Any, distances: Mapping[str, Float[Tensor, " time"]], bound: float) -> None:
    """How far the means are from the exact ones at every step."""
    for name, distance in distances.items():
        axes.plot(range(1, len(distance) + 1), distance, DASHES[name], color=COLOURS[name])
    axes.axhline(bound, color="0.6", linewidth=1)
    axes.set(xlabel="step", ylabel="rms distance, exact sd", title=f"all chains, bound {bound:g}", yscale="log")


def row(panels: int, width: float, title: str = "") -> tuple[Any, list[Any]]:
    """A figure with panels side by side."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, 3.3), layout="constrained")
    if title:
        figure.suptitle(title, fontsize="medium")
    return figure, list(figure.subplots(1, panels))


def legend_below(figure: Any, axes: Sequence[Any]) -> None:
    """One legend under all panels for what these axes label."""
    labelled = [pair for one in axes for pair in zip(*one.get_legend_handles_labels(), strict=True)]
    handles, labels = zip(*{label: (handle, label) for handle, label in labelled}.values(), strict=True)
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=len(labels) if len(labels) < 5 else 3,
        fontsize="small",
        frameon=False,
    )
