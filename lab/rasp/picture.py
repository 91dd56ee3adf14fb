"""The residual stream of a compiled program on one input: what each layer writes where."""

from collections.abc import Iterable
from itertools import pairwise

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import Normalize, SymLogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from microtome.lab.rasp.compiled import Compiled
from microtome.lab.rasp.values import Value

COLOURS = "RdBu_r"
OUTLINE = "#1a7f37"
CELL = 0.24  # inches
WRITTEN = 1e-3
"""Smallest change of a coordinate that counts as written; rounding stays far below."""


def draw(compiled: Compiled, tokens: Iterable[Value]) -> Figure:
    """One panel for the embedding and for each attention and MLP: rows are directions, columns positions.

    Red is positive, blue negative, white zero, on one scale for all panels; beyond ±1 it is logarithmic. Green frames
    mark the variables that a panel adds. Directions that stay zero on this input are left out. Numbers are printed in
    the rows that hold one.

    Raises:
        InputError: as calling `compiled`.
    """
    sequence = list(tokens)
    names, stream = _stream(compiled, sequence)
    numbers = {d for basis in compiled.layout.bases.values() for d in (basis.number, basis.share)}
    lit = np.abs(stream).max(axis=(0, 1)) > WRITTEN
    used = [i for i, label in enumerate(compiled.labels) if lit[i] or label in numbers]
    labels = [compiled.labels[i] for i in used]
    number_rows = [row for row, label in enumerate(labels) if label in numbers]
    panels = stream[:, :, used].transpose(0, 2, 1)  # (panel, direction, position)
    columns = ["sink", *(str(token) for token in sequence)]
    panel_width = CELL * len(columns) + 0.25
    height = CELL * len(labels) + 1.5
    label_width = 0.085 * max(map(len, labels)) + 0.2
    width = max(label_width + panel_width * len(panels) + 0.9, 5.0)
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    norm = _norm(panels)
    groups = _groups(compiled, labels)
    for i, (axis, name, panel) in enumerate(zip(axes, names, panels, strict=True)):
        image = axis.imshow(panel, cmap=COLOURS, norm=norm, aspect="auto", interpolation="nearest")
        _frame(axis, panel - panels[i - 1] if i else panel, groups)
        _print_numbers(axis, panel, number_rows, norm, final=i == len(panels) - 1)
        axis.set_title(name, fontsize=8)
        axis.set_xticks(range(len(columns)), columns, fontsize=7, rotation=90 if max(map(len, columns)) > 4 else 0)
        axis.tick_params(length=0)
    axes[0].set_yticks(range(len(labels)), labels, fontsize=7)
    bar = figure.colorbar(image, ax=axes, fraction=0.02, pad=0.01)
    bar.set_ticks(_ticks(norm), labels=[f"{tick:.3g}" for tick in _ticks(norm)], fontsize=7)
    bar.minorticks_off()
    output = ", ".join(map(str, compiled(sequence)))
    hidden = len(compiled.labels) - len(labels)
    figure.suptitle(
        f"{compiled.program.label} → {output}\n{hidden} directions that stay 0 on this input are not drawn", fontsize=9
    )
    return figure


def _stream(compiled: Compiled, sequence: list[Value]) -> tuple[list[str], np.ndarray]:
    """Names of the panels and the stream there, (panel, position, direction)."""
    points = {"embedding": "blocks.0.hook_resid_pre"}
    for layer in range(compiled.model.cfg.n_layers):
        points[f"layer {layer}\n+ attention"] = f"blocks.{layer}.hook_resid_mid"
        points[f"layer {layer}\n+ MLP"] = f"blocks.{layer}.hook_resid_post"
    with torch.no_grad():
        _, cache = compiled.model.run_with_cache(compiled.encode([sequence]), names_filter=list(points.values()))
    return list(points), np.stack([cache[point][0].cpu().numpy() for point in points.values()])


def _norm(panels: np.ndarray) -> Normalize:
    """Symmetric about zero, so that white is zero and the two signs are equally strong."""
    largest = max(1.0, round(float(np.abs(panels).max()), 3))
    if largest == 1.0:
        return Normalize(-1.0, 1.0)
    return SymLogNorm(linthresh=1.0, vmin=-largest, vmax=largest)


def _ticks(norm: Normalize) -> list[float]:
    return sorted({norm.vmin, -1.0, 0.0, 1.0, norm.vmax})


def _groups(compiled: Compiled, labels: list[str]) -> list[tuple[int, int]]:
    """First row and one past the last of each variable among the drawn rows."""
    owner = {direction: basis.variable for basis in compiled.layout.bases.values() for direction in basis.directions}
    owners = [owner.get(label, label) for label in labels]
    edges = [i for i in range(len(owners)) if i == 0 or owners[i] != owners[i - 1]]
    return list(pairwise([*edges, len(owners)]))


def _frame(axis: Axes, change: np.ndarray, groups: list[tuple[int, int]]) -> None:
    for top, bottom in groups:
        axis.axhline(bottom - 0.5, color="0.8", linewidth=0.6)
        if np.abs(change[top:bottom]).max() > WRITTEN:
            box = (-0.5, top - 0.5), change.shape[1], bottom - top
            axis.add_patch(Rectangle(*box, fill=False, edgecolor=OUTLINE, linewidth=1.6, clip_on=False, zorder=3))


def _print_numbers(axis: Axes, panel: np.ndarray, rows: list[int], norm: Normalize, final: bool) -> None:
    for row in rows:
        if not final and np.abs(panel[row]).max() <= WRITTEN:
            continue  # most likely not written yet
        for column, number in enumerate(panel[row]):
            dark = abs(norm(number) - 0.5) > 0.3
            shown = f"{number:.2g}".replace("0.", ".") if abs(number) > WRITTEN else "0"
            axis.text(column, row, shown, ha="center", va="center", fontsize=6, color="white" if dark else "black")
