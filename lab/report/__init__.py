"""Figures in one look, and self-contained HTML pages that hold them.

Typical use:

    page = Page("An in-context learner", "Trained on linear regression, beside the exact Bayesian answer.")
    page.section("Risk", Prose("…"), Picture(risk_figure(curves, dim=8), caption="…", alt="…"))
    page.write("runs/demo/report.html")
"""

from microtome.lab.report.blocks import Block, Code, Facts, Picture, Prose, Table
from microtome.lab.report.page import Page
from microtome.lab.report.risk import Curve, excess_figure, risk_figure

__all__ = [
    "Page",
    "Block",
    "Prose",
    "Picture",
    "Table",
    "Facts",
    "Code",
    "Curve",
    "risk_figure",
    "excess_figure",
]
