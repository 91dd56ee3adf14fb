"""How wrong predictors are at every context length, drawn against the exact Bayesian answer."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from microtome.lab.report import style

ROLES = ("bayes", "model", "baseline")
# A risk this far below the highest of its curve is rounding, as of a predictor that interpolates labels without noise.
NEGLIGIBLE = 1e-8
# Least squares has no finite risk at k = d, and gradient descent diverges where its step is too long: beyond this many
# times what the other curves need, a baseline leaves the axis rather than flatten them.
HEADROOM = 30

_TRIANGLE = {"linestyle": "none", "marker": "v", "markersize": 6, "markerfacecolor": "white"}


@dataclass(frozen=True)
class Curve:
    """A risk per context length k = 0, 1, …, in the squared unit of the labels.

    Attributes:
        risk: the estimate, [points].
        low: lower end of its interval, [points]; together with `high` or not at all.
        high: upper end, [points].
        role: what is drawn how: "bayes" the reference in black, "model" in colour, "baseline" grey and dashed.

    Raises:
        ValueError: if the role is none of these, the risk is not a row of at least one point, the interval has one end
            only or another shape, or its low end lies above its high one.
    """

    risk: Float[Tensor, " points"]
    low: Float[Tensor, " points"] | None = None
    high: Float[Tensor, " points"] | None = None
    role: str = "model"

    def __post_init__(self):
        if self.role not in ROLES:
            raise ValueError(f"a curve has the role {', '.join(ROLES[:-1])} or {ROLES[-1]}, not {self.role!r}.")
        if self.risk.ndim != 1 or len(self.risk) == 0:
            raise ValueError(f"risk must be [points] with at least one, not {list(self.risk.shape)}.")
        if (self.low is None) != (self.high is None):
            raise ValueError("an interval needs both its ends: give low and high, or neither.")
        if self.low is not None and not self.low.shape == self.high.shape == self.risk.shape:
            raise ValueError(
                f"low and high must be of the shape of risk, {list(self.risk.shape)}, "
                f"not {list(self.low.shape)} and {list(self.high.shape)}."
            )
        if self.low is not None and (self.low > self.high).any():
            raise ValueError(f"low must not exceed high, as at k = {int((self.low > self.high).nonzero()[0])}.")


def risk_figure(curves: Mapping[str, Curve], dim: int, noise_var: float | None = None) -> Figure:
    """Mean squared error against the number of pairs seen, on a logarithmic axis.

    A logarithmic axis has no place for a risk that is zero or negative: such a point is drawn at the bottom edge, as an
    open triangle that the legend explains. So is one below `NEGLIGIBLE` times the highest risk of the curve that lies
    lowest. Where nothing is positive the axis is linear. The reference, the models and at least half of each baseline
    are in view; a baseline that goes beyond `HEADROOM` times their highest leaves the axis at the top.

    Args:
        curves: at least one by its name, all of the same points.
        dim: dimensions d of the inputs; k = d and k = 2d are marked where they lie among the points.
        noise_var: variance σ² of the label noise, which no predictor can go below; marked where it is positive.

    Raises:
        ValueError: if there is no curve, their points differ, a number is not finite, or dim or noise_var is out of
            range.
    """
    if noise_var is not None and not 0 <= noise_var < math.inf:
        raise ValueError(f"noise_var must be finite and at least 0, or None, not {noise_var}.")
    return _figure(curves, dim, "mean squared error", noise_var or None)


def excess_figure(curves: Mapping[str, Curve], dim: int) -> Figure:
    """Mean squared error above that of the exact Bayesian answer on the same prompts; otherwise as `risk_figure`.

    An estimated excess is often negative where it is small; what becomes of that is said at `risk_figure`.

    Args:
        curves: at least one by its name, all of the same points; `microtome.lab.bayes.excess_risk` measures them.
        dim: dimensions d of the inputs.

    Raises:
        ValueError: as `risk_figure`.
    """
    return _figure(curves, dim, "squared error above exact Bayes", None)


def _figure(curves: Mapping[str, Curve], dim: int, label: str, noise_var: float | None) -> Figure:
    points = _checked_points(curves, dim)
    scale = _log_scale(curves, noise_var)
    with style.drawing() as figure:
        axes = figure.subplots()
        axes.set(xlabel="pairs seen before the query, k", ylabel=label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.margins(x=0.02)
        for name, look in _looks(curves, points).items():
            _draw(axes, name, curves[name], look, scale)
        if noise_var is not None:
            noise = f"label noise σ² = {noise_var:.3g}"
            axes.axhline(noise_var, color="0.2", linewidth=1, linestyle=(0, (1, 3)), zorder=1, label=noise)
        if scale is not None:
            axes.set_yscale("log")
            axes.set_ylim(scale.bottom, scale.top)
        _mark_dimensions(axes, dim, points)
        _add_legend(figure, axes, explain_triangles=scale is not None and scale.open)
    return figure


def _checked_points(curves: Mapping[str, Curve], dim: int) -> int:
    """How many points every curve has."""
    if not curves:
        raise ValueError("a figure of risk needs at least one curve.")
    if dim < 1:
        raise ValueError(f"dim must be at least 1, not {dim}.")
    lengths = {name: len(curve.risk) for name, curve in curves.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"every curve must have the same points, not {lengths}.")
    for name, curve in curves.items():
        for part, values in (("risk", curve.risk), ("low", curve.low), ("high", curve.high)):
            if values is not None and not values.isfinite().all():
                k = int((~values.isfinite()).nonzero()[0])
                raise ValueError(
                    f"the {part} of {name!r} is {values[k].item()} at k = {k}; every number of a curve must be finite."
                )
    return next(iter(lengths.values()))


@dataclass(frozen=True)
class _LogScale:
    """A logarithmic axis from the smallest to the largest value that has a place on it.

    Attributes:
        open: whether some point has no place there and is drawn at the bottom.
    """

    smallest: float
    largest: float
    open: bool

    @property
    def bottom(self) -> float:
        """Far enough below the smallest value that a triangle there is not taken for it."""
        return self.smallest / (2 * (self.largest / self.smallest) ** 0.05)

    @property
    def top(self) -> float:
        return self.largest * 1.2 * (self.largest / self.smallest) ** 0.03


def _log_scale(curves: Mapping[str, Curve], noise_var: float | None) -> _LogScale | None:
    """The axis of the curves; None if nothing in them is positive."""
    risks = torch.stack([_plain(curve.risk) for curve in curves.values()])  # [curve points]
    peaks = risks.amax(1)
    if not (peaks > 0).any():
        return None
    has_place = risks > NEGLIGIBLE * peaks[peaks > 0].min()
    marked = [] if noise_var is None else [noise_var]
    smallest = min([risks[has_place].min().item(), *marked])
    highest = max(_top(curve).max().item() for curve in curves.values())
    needed = max(_needed(curve) for curve in curves.values())
    largest = max([min(highest, HEADROOM * needed), smallest, *marked])
    return _LogScale(smallest, largest, open=bool((risks < smallest).any()))


def _needed(curve: Curve) -> float:
    """How far up the axis must reach for a curve."""
    top = _top(curve)
    if curve.role == "baseline" and (top > 0).any():
        return top[top > 0].median().item()
    return top.max().item()


def _top(curve: Curve) -> Float[Tensor, " points"]:
    return _plain(curve.risk if curve.high is None else curve.high)


def _looks(curves: Mapping[str, Curve], points: int) -> dict[str, dict[str, object]]:
    """How each line is drawn: the reference first and beneath the others, then the models, then the baselines."""
    names = {role: [name for name, curve in curves.items() if curve.role == role] for role in ROLES}
    looks = {}
    for name in names["bayes"]:
        looks[name] = {"color": style.EXACT, "linewidth": 4, "zorder": 2}
    for at, name in enumerate(names["model"]):
        again, colour = divmod(at, len(style.COLOURS))
        looks[name] = {"color": style.COLOURS[colour], "linestyle": ("-", *style.DASHES)[again % 5], "zorder": 3}
    for at, name in enumerate(names["baseline"]):
        looks[name] = {
            "color": style.GREYS[at % len(style.GREYS)],
            "linestyle": style.DASHES[at % len(style.DASHES)],
            "linewidth": 1.3,
            "marker": style.MARKERS[at % len(style.MARKERS)],
            "markersize": 4,
            "markerfacecolor": "white",
            "markevery": max(1, points // 8),
            "zorder": 2.5,
        }
    if points == 1:
        # A line of one point has no length.
        looks = {name: {"marker": "o", **look} for name, look in looks.items()}
    return looks


def _draw(axes: Axes, name: str, curve: Curve, look: Mapping[str, object], scale: _LogScale | None) -> None:
    ks = torch.arange(len(curve.risk))
    risk = _plain(curve.risk)
    lowest = -math.inf if scale is None else scale.bottom
    missing = torch.zeros_like(ks, dtype=torch.bool) if scale is None else risk < scale.smallest
    (line,) = axes.plot(ks, risk.masked_fill(missing, lowest), label=name, **look)
    if curve.low is not None:
        low, high = (_plain(end).clamp(min=lowest) for end in (curve.low, curve.high))
        if len(ks) == 1:
            axes.vlines(ks, low, high, color=line.get_color(), linewidth=1.2)
        else:
            axes.fill_between(ks, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
    if missing.any():
        axes.plot(
            ks[missing],
            risk[missing].fill_(lowest),
            color=line.get_color(),
            clip_on=False,
            zorder=line.zorder,
            **_TRIANGLE,
        )
    if missing.all():
        line.set_marker("")


def _plain(values: Float[Tensor, " points"]) -> Float[Tensor, " points"]:
    return values.detach().double().cpu()


def _mark_dimensions(axes: Axes, dim: int, points: int) -> None:
    for k, label, side in ((dim, f"d = {dim}", "right"), (2 * dim, f"2d = {2 * dim}", "left")):
        if k < points:
            axes.axvline(k, color="0.75", linewidth=1, zorder=1)
            axes.text(
                k, 1.01, label, transform=axes.get_xaxis_transform(), ha=side, va="bottom", color="0.35", fontsize=9
            )


def _add_legend(figure: Figure, axes: Axes, explain_triangles: bool) -> None:
    """Beneath the axes, where it hides no data; the figure grows by its rows."""
    handles, labels = axes.get_legend_handles_labels()
    if explain_triangles:
        handles.append(Line2D([], [], color="0.35", **_TRIANGLE))
        labels.append("≤ 0, or below the axis")
    columns = max(1, min(3, 75 // (max(map(len, labels)) + 8)))
    rows = math.ceil(len(labels) / columns)
    figure.set_figheight(3.4 + 0.2 * rows)
    figure.legend(handles, labels, loc="outside lower center", ncols=columns)
