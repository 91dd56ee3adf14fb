"""The look of every figure of the house, in one place; figures are objects here, never pyplot's current one."""

from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib
from cycler import cycler
from matplotlib.figure import Figure

# Okabe & Ito, "Color Universal Design" (2008): told apart with every common colour vision. Black is kept for exact
# answers, and their yellow is left out, which is too faint on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
EXACT = "black"
# Two greys that stay apart from each other and from white in print.
GREYS = ("0.35", "0.58")
# Lines that share a colour are told apart by dashes and markers.
DASHES = ((0, (5, 2)), (0, (1.2, 1.6)), (0, (7, 2, 1.2, 2)), (0, (2.5, 1.2)))
MARKERS = ("o", "s", "^", "D", "v", "P")

_LOOK = {
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "axes.prop_cycle": cycler(color=COLOURS),
    "axes.edgecolor": "0.35",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "0.91",
    "grid.linewidth": 0.8,
    "xtick.color": "0.35",
    "ytick.color": "0.35",
    "xtick.labelcolor": "0.15",
    "ytick.labelcolor": "0.15",
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.8,
}


@contextmanager
def drawing(width: float = 5.6, height: float = 4.0) -> Iterator[Figure]:
    """An empty figure in the house's look, to be drawn on inside the context; outside, matplotlib's settings are
    untouched.

    Args:
        width: in inches. Up to 5.6 a figure fits a telephone with letters that can be read; wider ones scroll there.
        height: in inches.
    """
    with matplotlib.rc_context(_LOOK):
        yield Figure(figsize=(width, height), layout="constrained")
