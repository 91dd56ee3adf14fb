"""The picture of a stream-K deal: which thread block does which tiles of which output (`kernels.lean_attention`)."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from microtome.kernels.lean_attention import Schedule
from microtome.lab.report import style

MOST_ROWS = 48
"""CTAs that a figure can show apart."""


def schedule_figure(deal: Schedule) -> Figure:
    """One row a CTA, one column a tile in the order of work; see `draw_schedule`."""
    with style.drawing(5.6, 1.2 + 0.22 * deal.grid) as figure:
        draw_schedule(figure.subplots(), deal)
        return figure


def draw_schedule(axes: Axes, deal: Schedule) -> None:
    """Bars of tiles, coloured by output tile; hatched where the triple travels to the CTA that holds the first tile.

    Raises ValueError if there are no CTAs, or more than a figure can show.
    """
    if not 1 <= deal.grid <= MOST_ROWS:
        raise ValueError(f"a schedule is drawn with 1 to {MOST_ROWS} CTAs, not {deal.grid}")
    for cta in range(deal.grid):
        at = 0
        for segment in deal.segments(cta):
            tiles = segment.stop - segment.start
            colour = style.COLOURS[segment.output % len(style.COLOURS)]
            hatch = None if segment.host else "////"
            axes.barh(cta, tiles, left=at, height=0.82, color=colour, edgecolor="white", hatch=hatch, linewidth=1.0)
            if tiles > 1:
                label = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none"}
                axes.text(at + tiles / 2, cta, str(segment.output), ha="center", va="center", fontsize=8, bbox=label)
            at += tiles
    axes.set(
        xlabel=f"LeanTiles, {deal.total} in all",
        ylabel="CTA",
        xlim=(0, deal.longest),
        ylim=(deal.grid - 0.4, -0.6),
    )
    axes.grid(False)
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.xaxis.get_major_locator().set_params(integer=True)
    handles = [
        Patch(facecolor="0.5", edgecolor="white", label="holds the output's first tile: writes O/l"),
        Patch(facecolor="0.5", edgecolor="white", hatch="////", label="leaves (m, l, O) for it"),
    ]
    axes.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, fontsize=8)
