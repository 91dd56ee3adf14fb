"""The figure of risk per context length: what is drawn how, and what becomes of what a logarithm has no place for."""

import math
import warnings

import matplotlib
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from microtome.lab.report import Curve, excess_figure, risk_figure, style
from microtome.lab.report.image import data_uri
from microtome.lab.report.risk import HEADROOM, NEGLIGIBLE

NOWHERE = "≤ 0, or below the axis"


def curve(*risk: float, role: str = "model") -> Curve:
    return Curve(torch.tensor(risk), role=role)


def falling(scale: float = 1.0, points: int = 20, role: str = "model") -> Curve:
    risk = scale / torch.arange(1.0, points + 1)
    return Curve(risk, 0.9 * risk, 1.1 * risk, role)


def line(figure: Figure, name: str) -> Line2D:
    (found,) = [line for line in figure.axes[0].lines if line.get_label() == name]
    return found


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def triangles(axes: Axes) -> list[tuple[float, float]]:
    """Where points stand that have no place on the axis."""
    drawn = [line for line in axes.lines if line.get_marker() == "v" and line.get_linestyle() == "None"]
    return [tuple(point) for line in drawn for point in line.get_xydata().tolist()]


def test_roles_are_told_apart() -> None:
    roles = {"ols": "baseline", "ours": "model", "exact": "bayes", "ridge": "baseline", "urpe": "model"}
    figure = risk_figure({name: falling(role=role) for name, role in roles.items()}, dim=4, noise_var=0.05)
    assert legend(figure)[:3] == ["exact", "ours", "urpe"]
    assert to_rgb(line(figure, "exact").get_color()) == (0, 0, 0)
    assert line(figure, "exact").get_linewidth() > 1.5 * line(figure, "ours").get_linewidth()
    assert [line(figure, name).get_color() for name in ("ours", "urpe")] == list(style.COLOURS[:2])
    for name in ("ols", "ridge"):
        red, green, blue = to_rgb(line(figure, name).get_color())
        assert red == green == blue
        assert line(figure, name).is_dashed()
    assert line(figure, "ols").get_marker() != line(figure, "ridge").get_marker()
    assert not line(figure, "ours").is_dashed()


def test_no_two_of_many_curves_look_the_same() -> None:
    curves = {f"{role} {at}": falling(at + 1.0, role=role) for role in ("model", "baseline") for at in range(12)}
    figure = risk_figure(curves, dim=4)
    looks = {
        (str(drawn.get_color()), str(drawn._dash_pattern), drawn.get_marker())
        for drawn in (line(figure, name) for name in curves)
    }
    assert len(looks) == len(curves)


def test_what_is_drawn_is_what_was_measured() -> None:
    figure = risk_figure({"ours": falling()}, dim=4)
    axes = figure.axes[0]
    assert axes.get_yscale() == "log"
    expected = torch.stack([torch.arange(20.0), falling().risk], dim=1)
    torch.testing.assert_close(torch.tensor(line(figure, "ours").get_xydata()), expected.double())
    (band,) = axes.collections
    low, high = band.get_datalim(axes.transData).intervaly
    assert (low, high) == pytest.approx((0.9 / 20, 1.1))


@pytest.mark.parametrize(("points", "marked"), [(8, []), (9, ["d = 8"]), (16, ["d = 8"]), (17, ["d = 8", "2d = 16"])])
def test_the_dimension_and_its_double_are_marked_where_they_are_in_view(points: int, marked: list[str]) -> None:
    axes = risk_figure({"ours": falling(points=points)}, dim=8).axes[0]
    assert [text.get_text() for text in axes.texts] == marked
    upright = [line.get_xdata()[0] for line in axes.lines if len(set(line.get_xdata())) == 1]
    assert upright == [8, 16][: len(marked)]


@pytest.mark.parametrize(("noise_var", "shown"), [(None, False), (0.0, False), (0.25, True)])
def test_the_noise_is_marked_where_a_logarithm_has_it(noise_var: float | None, shown: bool) -> None:
    figure = risk_figure({"ours": falling()}, dim=4, noise_var=noise_var)
    assert ("label noise σ² = 0.25" in legend(figure)) is shown
    low, high = figure.axes[0].get_ylim()
    assert low < (noise_var or 0.25) < high


def test_the_legend_hides_no_data() -> None:
    curves = {f"a predictor with a rather long name, number {at}": falling(at + 1.0) for at in range(20)}
    figure = risk_figure(curves, dim=4)
    figure.draw_without_rendering()
    below = figure.legends[0].get_window_extent()
    axes = figure.axes[0].get_tightbbox()
    assert below.y1 <= axes.y0 + 1
    assert figure.bbox.x0 <= below.x0 < below.x1 <= figure.bbox.x1
    assert axes.height > 2 * figure.dpi


def test_zero_and_negative_risks_stand_at_the_bottom_and_are_explained() -> None:
    figure = excess_figure({"ours": curve(1.0, 0.0, 0.1, -0.2, 0.01)}, dim=2)
    axes = figure.axes[0]
    bottom = axes.get_ylim()[0]
    assert axes.get_yscale() == "log"
    assert 0 < bottom < 0.01
    assert triangles(axes) == [(1.0, pytest.approx(bottom)), (3.0, pytest.approx(bottom))]
    assert NOWHERE in legend(figure)


def test_a_risk_that_is_only_rounding_does_not_stretch_the_axis() -> None:
    axes = risk_figure({"exact": curve(8.0, 1.0, 1e-30, role="bayes"), "ours": falling(points=3)}, dim=2).axes[0]
    assert axes.get_ylim()[0] > NEGLIGIBLE
    assert [k for k, _ in triangles(axes)] == [2.0]


def test_nothing_is_explained_where_everything_has_its_place() -> None:
    figure = risk_figure({"ours": falling()}, dim=4)
    assert triangles(figure.axes[0]) == []
    assert NOWHERE not in legend(figure)


def test_an_axis_without_positive_risks_is_linear() -> None:
    axes = excess_figure({"ours": curve(0.0, -1.0, -0.5)}, dim=2).axes[0]
    assert axes.get_yscale() == "linear"
    low, high = axes.get_ylim()
    assert low < -1 < 0 < high
    assert triangles(axes) == []


def test_a_baseline_that_diverges_does_not_flatten_the_others() -> None:
    diverging = curve(1.0, 2.0, 3.0, 1e6, 1e12, role="baseline")
    others = {"ours": falling(points=5), "exact": falling(points=5, role="bayes")}
    assert risk_figure({**others, "gd": diverging}, dim=2).axes[0].get_ylim()[1] < 10 * HEADROOM * 2
    as_model = Curve(diverging.risk)
    assert risk_figure({**others, "gd": as_model}, dim=2).axes[0].get_ylim()[1] > 1e12


def test_one_point_is_seen() -> None:
    one = Curve(torch.tensor([1.3]), torch.tensor([1.1]), torch.tensor([1.5]))
    figure = risk_figure({"ours": one, "exact": curve(1.0, role="bayes")}, dim=1, noise_var=0.5)
    assert line(figure, "ours").get_marker() == "o"
    assert [tick for tick in figure.axes[0].get_xticks() if tick != round(tick)] == []
    (interval,) = figure.axes[0].collections
    assert interval.get_segments()[0].tolist() == [[0, pytest.approx(1.1)], [0, pytest.approx(1.5)]]


def test_one_point_of_zero_is_seen() -> None:
    figure = excess_figure({"ours": curve(0.0), "other": curve(0.5)}, dim=1)
    assert len(triangles(figure.axes[0])) == 1
    assert line(figure, "ours").get_marker() == ""


@settings(max_examples=15)
@given(
    risks=st.lists(
        st.lists(st.floats(-1e200, 1e200, allow_subnormal=False), min_size=4, max_size=4), min_size=1, max_size=3
    ),
    role=st.sampled_from(["model", "baseline", "bayes"]),
)
def test_every_finite_risk_can_be_drawn(risks: list[list[float]], role: str) -> None:
    # Below 1e-60 nothing is a risk; the axis could then span more than float64 does.
    kept = [[0.0 if 0 < abs(value) < 1e-60 else value for value in row] for row in risks]
    curves = {str(at): Curve(torch.tensor(row, dtype=torch.float64), role=role) for at, row in enumerate(kept)}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        axes = excess_figure(curves, dim=2).axes[0]
    low, high = axes.get_ylim()
    assert math.isfinite(low)
    assert low < high < math.inf


def test_curves_of_a_model_in_training_are_taken_as_they_come() -> None:
    risk = torch.ones(5, dtype=torch.bfloat16, requires_grad=True)
    figure = risk_figure({"ours": Curve(risk)}, dim=2)
    assert line(figure, "ours").get_ydata().tolist() == [1.0] * 5


def test_the_look_is_drawn_and_then_gone() -> None:
    before = dict(matplotlib.rcParams)
    figure, twin = (risk_figure({"ours": falling()}, dim=4) for _ in range(2))
    assert dict(matplotlib.rcParams) == before
    assert [side for side, spine in figure.axes[0].spines.items() if spine.get_visible()] == ["left", "bottom"]
    with matplotlib.rc_context(dict.fromkeys(("grid.color", "xtick.color", "ytick.color", "axes.edgecolor"), "red")):
        elsewhere = data_uri(twin)
    assert elsewhere == data_uri(figure)
    with pytest.raises(ZeroDivisionError), style.drawing():
        raise ZeroDivisionError
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: risk_figure({}, 4), "a figure of risk needs at least one curve"),
        (lambda: risk_figure({"a": falling()}, 0), "dim must be at least 1, not 0"),
        (lambda: risk_figure({"a": falling()}, 4, -0.1), "noise_var must be finite and at least 0, or None, not -0.1"),
        (lambda: risk_figure({"a": falling()}, 4, math.nan), "noise_var must be finite"),
        (lambda: risk_figure({"a": curve(1.0, 2.0), "b": curve(1.0)}, 4), r"same points, not \{'a': 2, 'b': 1\}"),
        (lambda: risk_figure({"ours": curve(1.0, math.nan)}, 4), "the risk of 'ours' is nan at k = 1; every number"),
        (lambda: excess_figure({"ours": curve(math.inf)}, 4), "the risk of 'ours' is inf at k = 0; every number"),
        (
            lambda: risk_figure({"a": Curve(torch.ones(2), torch.ones(2), torch.tensor([1, math.inf]))}, 4),
            "the high of 'a' is inf at k = 1",
        ),
        (lambda: curve(1.0, role="modle"), "a curve has the role bayes, model or baseline, not 'modle'"),
        (lambda: Curve(torch.ones(0)), r"risk must be \[points\] with at least one, not \[0\]"),
        (lambda: Curve(torch.ones(2, 3)), r"risk must be \[points\] with at least one, not \[2, 3\]"),
        (lambda: Curve(torch.ones(2), low=torch.ones(2)), "an interval needs both its ends"),
        (lambda: Curve(torch.ones(2), torch.ones(2), torch.ones(3)), r"shape of risk, \[2\], not \[2\] and \[3\]"),
        (
            lambda: Curve(torch.ones(2), torch.tensor([0.0, 2.0]), torch.ones(2)),
            "low must not exceed high, as at k = 1",
        ),
    ],
)
def test_what_cannot_be_drawn_is_refused(untyped: None, draw, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        draw()
