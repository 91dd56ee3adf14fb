"""The residual stream of a compiled program on one input: what each layer writes where."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

import matplotlib
import numpy as np
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.colors import Normalize, SymLogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from microtome.lab.rasp.compiled import Compiled
from microtome.lab.rasp.compiler.emit import SINK_COLUMN
from microtome.lab.rasp.compiler.operations import Direction
from microtome.lab.rasp.values import Value
from microtome.lab.rasp.verify import point_after

COLOURS = "RdBu_r"
NOT_HELD = "#e9e9e9"
OUTLINE = "#1a7f37"
CELL = 0.26  # inches
ZERO = 1e-3
"""Coordinates below this are shown as 0; rounding stays far below."""


@dataclass(frozen=True)
class _Row:
    """A direction on one input: held from one half-layer on until it is cleared at another."""

    name: str
    direction: Direction | None  # None: the sink's mark, or nothing
    column: int
    born: int = 0
    cleared: int | None = None

    def held(self, half_layer: int) -> bool:
        return self.born <= half_layer and (self.cleared is None or half_layer < self.cleared)

    @property
    def label(self) -> str:
        return f"{self.name}  ({self.column})"

    @property
    def flag(self) -> bool:
        """Whether it says yes or no, rather than how much."""
        if self.direction is None:
            return True
        return self.direction.table is not None and {*self.direction.table.values()} <= {0.0, 1.0}


def draw(compiled: Compiled, tokens: Iterable[Value]) -> Figure:
    """One panel for the embedding and for each attention and MLP: rows are directions, columns positions.

    Directions of one variable stand together, each with its column of the stream in brackets. Red is positive, blue
    negative, white zero, on one scale for all panels; beyond ±1 it is logarithmic. Grey: the stream does not hold the
    direction there. A green frame marks the directions that a panel adds. Coordinates are shown without the constant
    that rounds them, and as numbers except for those that only say yes or no; of these, rows that stay 0 on this input
    are left out.

    Raises:
        InputError: as calling `compiled`.
    """
    sequence = list(tokens)
    titles, times = _panels(compiled)
    stream = _stream(compiled, sequence, times)
    every = _rows(compiled)
    drawn = [(row, _coordinates(row, times, stream)) for row in every]
    drawn = [(row, values) for row, values in drawn if _speaks(row, values[:, compiled.sink :])] or drawn[:1]
    rows = [row for row, _ in drawn]
    positions = [*["sink"] * compiled.sink, *(str(token) for token in sequence)]
    panels = np.stack([values for _, values in drawn], axis=1)  # (panel, row, position)
    figure = _figure(len(panels), positions, [row.label for row in rows])
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    norm = _norm(panels)
    colours = matplotlib.colormaps[COLOURS].with_extremes(bad=NOT_HELD)
    for axis, title, time, panel in zip(axes, titles, times, panels, strict=True):
        image = axis.imshow(np.ma.masked_invalid(panel), cmap=colours, norm=norm, aspect="auto")
        _frame(axis, rows, time, len(positions))
        _print_numbers(axis, rows, panel, norm)
        axis.set_title(title, fontsize=8)
        upright = 90 if max(map(len, positions)) > 4 else 0
        axis.set_xticks(range(len(positions)), positions, fontsize=7, rotation=upright, parse_math=False)
        axis.tick_params(length=0)
    axes[0].set_yticks(range(len(rows)), [row.label for row in rows], fontsize=7, parse_math=False)
    bar = figure.colorbar(image, ax=axes, fraction=0.02, pad=0.01)
    bar.set_ticks(_ticks(norm), labels=[f"{tick:.3g}" for tick in _ticks(norm)], fontsize=7)
    bar.minorticks_off()
    figure.suptitle(_heading(compiled, sequence, len(every) - len(rows)), fontsize=9, parse_math=False)
    return figure


def _panels(compiled: Compiled) -> tuple[list[str], list[int]]:
    """Titles of the panels, and after which half-layer each shows the stream; some models have no MLPs."""
    panels = {"embedding": 0}
    for layer, block in enumerate(compiled.model.blocks):
        panels[f"layer {layer}\n+ attention"] = 2 * layer + 1
        if block.mlp is not None:
            panels[f"layer {layer}\n+ MLP"] = 2 * layer + 2
    return list(panels), list(panels.values())


def _stream(
    compiled: Compiled, sequence: list[Value], times: Sequence[int]
) -> Float[np.ndarray, "panel position d_model"]:
    points = [point_after(compiled, time) for time in times]
    with torch.no_grad():
        _, cache = compiled.model.run_with_cache(compiled.encode([sequence]), names_filter=points)
    return np.stack([cache[point][0].double().cpu().numpy() for point in points])


def _rows(compiled: Compiled) -> list[_Row]:
    """All directions, those of one variable together, in the order in which variables come into the stream."""
    groups: dict[tuple[int, ...], list[_Row]] = {}
    for life in compiled.lowered.plan.allocation.lives:
        group = groups.setdefault(_variable(life.direction), [])
        group.append(_Row(life.direction.name, life.direction, life.column, life.born, life.cleared))
    sink = [_Row("sink", None, SINK_COLUMN)] if compiled.sink else []
    return [*sink, *(row for group in groups.values() for row in group)] or [_Row("nothing", None, 0)]


def _variable(direction: Direction | None) -> tuple[int, ...]:
    # By identity: `==` between s-ops makes an s-op.
    return tuple(map(id, direction.sops)) if direction else ()


def _coordinates(row: _Row, times: Sequence[int], stream: np.ndarray) -> Float[np.ndarray, "panel position"]:
    """What each panel shows of a direction, NaN where the stream does not hold it."""
    held = np.array([row.held(time) for time in times])[:, None]
    offset = row.direction.offset if row.direction else 0.0
    return np.where(held, stream[:, :, row.column] - offset, np.nan)


def _speaks(row: _Row, values: Float[np.ndarray, "panel position"]) -> bool:
    """Whether to draw a row, by its coordinates on the input."""
    return row.direction is None or not row.flag or bool(np.nanmax(np.abs(values)) > ZERO)


def _figure(panels: int, positions: Sequence[str], labels: Sequence[str]) -> Figure:
    label_width = 0.07 * max(map(len, labels)) + 0.2
    width = max(label_width + (CELL * len(positions) + 0.25) * panels + 0.9, 5.0)
    return Figure(figsize=(width, max(CELL * len(labels) + 1.5, 2.2)), layout="constrained")


def _heading(compiled: Compiled, sequence: list[Value], hidden: int) -> str:
    values = (f"{value:.4g}" if isinstance(value, float) else str(value) for value in compiled(sequence))
    heading = f"{compiled.program.label} → {', '.join(values)}"
    if hidden:
        heading += f"\nnot drawn, since 0 on this input: {hidden} of the directions"
    return heading


def _norm(panels: np.ndarray) -> Normalize:
    """Symmetric about zero, so that white is zero and the two signs are equally strong."""
    largest = max(1.0, round(float(np.nanmax(np.abs(panels))), 3))
    if largest == 1.0:
        return Normalize(-1.0, 1.0)
    return SymLogNorm(linthresh=1.0, vmin=-largest, vmax=largest)


def _ticks(norm: Normalize) -> list[float]:
    return sorted({norm.vmin, -1.0, 0.0, 1.0, norm.vmax})


def _frame(axis: Axes, rows: Sequence[_Row], time: int, width: int) -> None:
    """A line under each variable, and a frame around the directions of one that a panel adds."""
    for _, group in groupby(enumerate(rows), key=lambda pair: _variable(pair[1].direction)):
        numbered = list(group)
        axis.axhline(numbered[-1][0] + 0.5, color="0.8", linewidth=0.6)
        for born, run in groupby(numbered, key=lambda pair: pair[1].born):
            places = [place for place, _ in run]
            if born == time:
                box = (-0.5, places[0] - 0.5), width, len(places)
                axis.add_patch(Rectangle(*box, fill=False, edgecolor=OUTLINE, linewidth=1.6, clip_on=False, zorder=3))


def _print_numbers(axis: Axes, rows: Sequence[_Row], panel: np.ndarray, norm: Normalize) -> None:
    for place, (row, numbers) in enumerate(zip(rows, panel, strict=True)):
        if row.flag:
            continue
        for position, number in enumerate(numbers):
            if not np.isnan(number):
                colour = "white" if abs(norm(number) - 0.5) > 0.3 else "black"
                axis.text(position, place, _shown(number), ha="center", va="center", fontsize=5.5, color=colour)


def _shown(number: float) -> str:
    if abs(number) <= ZERO:
        return "0"
    if abs(number - round(number)) <= ZERO and abs(number) < 1e4:
        return f"{round(number)}".replace("-", "−")
    return f"{number:.2g}".replace("0.", ".").replace("-", "−").replace("e+0", "e")
