"""The picture of evidence that has no other: each measured number beside its bound and beside the control's."""

from textwrap import fill
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from microtome.theory.evidence import Evidence

SMALLEST = 1e-17
"""Where zero is drawn on the logarithmic axis: below the rounding of float64."""


def draw_checks(evidence: "Evidence") -> "Figure":
    """One row a check: a dot for what was measured, a line for the bound, a cross for the control."""
    from matplotlib.figure import Figure

    checks = evidence.checks
    controls = {} if evidence.control is None else {check.name: check for check in evidence.control.checks}
    figure = Figure(figsize=(6.4, 1.4 + 0.5 * len(checks)), layout="constrained")
    axes = figure.subplots()
    rows = range(len(checks))
    axes.plot([_shown(check.measured) for check in checks], rows, "o", color="C0", label="measured")
    axes.plot([_shown(check.bound) for check in checks], rows, "|", color="k", markersize=16, label="bound")
    beside = [(i, controls[check.name]) for i, check in enumerate(checks) if check.name in controls]
    if beside:
        axes.plot([_shown(c.measured) for _, c in beside], [i for i, _ in beside], "x", color="C1", label="control")
    axes.set_yticks(rows, [f"{fill(check.name, 34)}\n{check.threshold}" for check in checks], fontsize=8)
    axes.set(
        xscale="log",
        xlabel="value (the left edge stands for 0)",
        title=fill(evidence.statement.name, 60),
        ylim=(len(checks) - 0.4, -0.6),
    )
    axes.margins(x=0.08)
    axes.grid(axis="x", alpha=0.3)
    figure.legend(loc="outside lower center", ncols=3, fontsize=8)
    return figure


def _shown(value: float) -> float:
    return max(abs(value), SMALLEST)
