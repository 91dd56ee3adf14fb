"""The picture of evidence that has no other: each measured number beside its bound and beside the control's."""

import math
from textwrap import fill
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from microtome.theory.evidence import Evidence

SMALLEST = 1e-17
"""Where zero is drawn on the logarithmic axis: below the rounding of float64."""
LINEAR = 1e-3
"""Where numbers have both signs, this share of the largest is drawn to scale around zero."""


def draw_checks(evidence: "Evidence") -> "Figure":
    """One row a check: a dot for what was measured, a line for the bound, a cross for the control."""
    from matplotlib.figure import Figure

    checks = evidence.checks
    controls = {} if evidence.control is None else {check.name: check for check in evidence.control.checks}
    figure = Figure(figsize=(6.4, 1.4 + 0.5 * len(checks)), layout="constrained")
    axes = figure.subplots()
    rows = range(len(checks))
    beside = [(i, controls[check.name]) for i, check in enumerate(checks) if check.name in controls]
    numbers = [[c.measured for c in checks], [c.bound for c in checks], [c.measured for _, c in beside]]
    measured, bounds, spoilt = _scaled(axes, numbers)
    axes.plot(measured, rows, "o", color="C0", label="measured")
    axes.plot(bounds, rows, "|", color="k", markersize=16, label="bound")
    if beside:
        axes.plot(spoilt, [i for i, _ in beside], "x", color="C1", label="control")
    axes.set_yticks(rows, [f"{fill(check.name, 34)}\n{check.threshold}" for check in checks], fontsize=8)
    axes.set(title=fill(evidence.statement.name, 60), ylim=(len(checks) - 0.4, -0.6))
    axes.margins(x=0.08)
    axes.grid(axis="x", alpha=0.3)
    figure.legend(loc="outside lower center", ncols=3, fontsize=8)
    return figure


def _scaled(axes: "Axes", numbers: list[list[float]]) -> list[list[float]]:
    """Where each number stands; gives the axis a logarithmic scale, on both sides of zero if some are negative."""
    every = [number for row in numbers for number in row]
    if min(every) < 0:
        largest = max((abs(number) for number in every if math.isfinite(number)), default=1.0)
        axes.set_xscale("symlog", linthresh=LINEAR * largest or 1.0)
        axes.set_xlabel("value")
        return numbers
    axes.set_xscale("log")
    axes.set_xlabel("value (the left edge stands for 0)")
    return [[max(number, SMALLEST) for number in row] for row in numbers]
