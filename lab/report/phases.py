"""The phase picture: which known algorithm a trained learner follows, over its depth and the noise of its task.

Akyürek et al. 2023, "What learning algorithm is in-context learning? Investigations with linear models" (slug
`icl_linear_algorithms`, section 4.4): shallow learners lie near a gradient step, deeper ones near ridge regression and
the deepest near least squares, or near Bayes where labels are noisy.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from microtome.lab.bayes.nearest import FAMILIES, Comparison, algorithms, compare
from microtome.lab.bayes.protocol import Predictor
from microtome.lab.report import style
from microtome.lab.tasks.protocol import Task
from microtome.lab.tasks.regression import LinearRegression

Learner = Callable[[int, float], Predictor]
"""From a depth in layers and a noise σ to the learner that was trained so."""

PROMPTS, CONTEXTS = 2048, 128
_COLOURS = dict(zip(FAMILIES, (*style.COLOURS[:4], "0.6"), strict=True))


@dataclass(frozen=True)
class Phases:
    """What was found.

    Attributes:
        depths: layers, the columns.
        noises: σ, the rows.
        cells: the comparison of each (depth, noise).
    """

    depths: tuple[int, ...]
    noises: tuple[float, ...]
    cells: dict[tuple[int, float], Comparison]


def phases(
    depths: Sequence[int], noises: Sequence[float], learner: Learner, *, dim: int = 2, points: int = 6, seed: int = 0
) -> Phases:
    """Compares the learner of each depth and noise with the known algorithms on fresh prompts of its own law.

    Args:
        depths: layers, at least one, different.
        noises: σ ≥ 0 of the labels, at least one, different; weights have τ = 1.
        learner: gives the learner of a cell, e.g. one of `trained` on `LinearRegression(dim, noise)`.
        dim: dimensions of x, at least 2; what the learners were trained on.
        points: pairs a prompt, at least dim.
        seed: of the prompts that learners are judged on.

    Raises:
        ValueError: if there is no cell, a depth or noise occurs twice, or the sizes are out of range.
    """
    for name, values in (("depths", depths), ("noises", noises)):
        if not values or len(set(values)) < len(values):
            raise ValueError(f"{name} must be at least one, each once, not {list(values)}.")
    if not 2 <= dim <= points:
        raise ValueError(f"dim must lie between 2 and points = {points}, not {dim}.")
    cells = {}
    for noise in noises:
        task, generator = LinearRegression(dim, noise), torch.Generator().manual_seed(seed)
        tuning, prompt = (task.sample(PROMPTS, points, generator) for _ in range(2))
        queries = torch.randn(CONTEXTS, 2 * dim, dim, generator=generator)
        among = algorithms(tuning.xs, tuning.ys, noise)
        for depth in depths:
            cells[depth, noise] = compare(learner(depth, noise), among, prompt.xs, prompt.ys, queries)
    return Phases(tuple(depths), tuple(noises), cells)


def trained(depth: int, task: Task, *, steps: int, points: int = 6, d_model: int = 32, seed: int = 0) -> Predictor:
    """A small learner of the paper's kind, trained on 64 fresh prompts a step.

    One head; AdamW with β = (0.9, 0.98), rate 3e-3 after a warm-up of a fifth of the steps, then a cosine.

    Args:
        depth: layers.
        task: what prompts are drawn from, e.g. `LinearRegression(2, noise_std=0.5)`.
        steps: of training.
        points: pairs a prompt.
        d_model: width of the stream.
        seed: of the weights and the prompts.

    Raises:
        ValueError: if a size is out of range.
        NonFiniteLoss: if training diverges.
    """
    from microtome.lab import zoo
    from microtome.lab.train import InContextRegression, TrainConfig, fit

    sizes = {"n_layers": depth, "d_model": d_model, "n_heads": 1, "dim": task.dim, "points": points}
    model = zoo.build("icl_linear_algorithms", **sizes, seed=seed)
    config = TrainConfig(
        steps,
        optimizer="adamw",
        lr=3e-3,
        betas=(0.9, 0.98),
        warmup=0.2,
        schedule="cosine",
        seed=seed,
        checkpoint_every=steps,
    )
    fit(model, InContextRegression(task, 64, points), config)
    return model


def phase_figure(found: Phases) -> Figure:
    """A grid of depth by noise, coloured by the nearest family; the algorithm and its distance stand in each cell.

    Left by what is predicted (squared prediction difference / d), right by implicit weights (squared difference / d).
    """
    width = 2 * (0.9 + 1.25 * len(found.depths))
    with style.drawing(width=max(width, 5.6), height=min(3.5, 1.3 + 0.55 * len(found.noises))) as figure:
        left, right = figure.subplots(1, 2, sharey=True)
        _grid(left, found, "nearest by predictions", _by_predictions)
        _grid(right, found, "nearest by implicit weights", _by_weights)
        left.set_ylabel("noise σ of the labels")
        families = {pick(cell)[0] for cell in found.cells.values() for pick in (_by_predictions, _by_weights)}
        names = {"Bayes": "Bayes (without noise: least squares)"} if 0 in found.noises else {}
        handles = [
            Patch(color=_COLOURS[family], alpha=0.55, label=names.get(family, family))
            for family in FAMILIES
            if family in families
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize="small")
    return figure


def _by_predictions(cell: Comparison) -> tuple[str, str, float]:
    return cell.nearest.family, cell.nearest.detail, cell.predictions[cell.nearest.label]


def _by_weights(cell: Comparison) -> tuple[str, str, float]:
    nearest = cell.nearest_by_weights
    return nearest.family, nearest.detail, cell.weights[nearest.label]


def _grid(axes: Axes, found: Phases, title: str, pick: Callable[[Comparison], tuple[str, str, float]]) -> None:
    for column, depth in enumerate(found.depths):
        for row, noise in enumerate(found.noises):
            family, detail, distance = pick(found.cells[depth, noise])
            corner, colour = (column - 0.5, row - 0.5), _COLOURS[family]
            axes.add_patch(Rectangle(corner, 1, 1, facecolor=colour, edgecolor="white", alpha=0.55, linewidth=2))
            words = f"{detail}\n{distance:.2g}" if detail else f"{distance:.2g}"
            axes.text(column, row, words, ha="center", va="center", fontsize=8)
    axes.set(
        xlim=(-0.5, len(found.depths) - 0.5),
        ylim=(-0.5, len(found.noises) - 0.5),
        xticks=range(len(found.depths)),
        xticklabels=found.depths,
        yticks=range(len(found.noises)),
        yticklabels=[f"{noise:g}" for noise in found.noises],
        xlabel="layers",
    )
    axes.set_title(title, fontsize=10)
    axes.grid(visible=False)
