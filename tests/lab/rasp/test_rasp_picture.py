import matplotlib
import numpy as np
import pytest
from matplotlib.colors import SymLogNorm

from microtome.lab import rasp
from microtome.lab.rasp import Map, tokens
from microtome.lab.rasp.library import make_frac_prevs, make_hist
from microtome.lab.rasp.picture import draw


def panels(figure):
    return [axis for axis in figure.axes if axis.get_title()]


def rows_of(figure):
    return [label.get_text().rpartition("  (")[0] for label in panels(figure)[0].get_yticklabels()]


def shown(figure, panel: int, row: str):
    return panels(figure)[panel].get_images()[0].get_array()[rows_of(figure).index(row)]


def test_rows_are_the_directions_and_columns_the_positions():
    compiled = rasp.compile(make_hist() - 1, vocab="abc", max_len=4)
    figure = draw(compiled, "aba")
    assert [axis.get_title() for axis in panels(figure)] == ["embedding", "layer 0\n+ attention", "layer 0\n+ MLP"]
    lives = compiled.lowered.plan.allocation.lives
    assert rows_of(figure) == ["sink", *(life.direction.name for life in lives)]
    assert [label.get_text() for label in panels(figure)[0].get_xticklabels()] == ["sink", "a", "b", "a"]
    assert shown(figure, 2, "hist")[1:].tolist() == [2, 1, 2]
    assert figure.get_suptitle() == "hist - 1 → 1, 0, 1"


def test_the_constant_that_rounds_a_coordinate_is_not_shown():
    compiled = rasp.compile(make_hist(), vocab="abc", max_len=4)
    (share,) = (d for d in compiled.directions if "sink share" in d.name)
    assert share.offset > 1000
    held = shown(draw(compiled, "aba"), 1, share.name)
    assert held.tolist() == pytest.approx([1, 4 / 6, 4 / 5, 4 / 6], abs=share.error)


def test_every_coordinate_is_the_one_that_the_values_call_for():
    compiled = rasp.compile(make_hist(), vocab="abc", max_len=4, optimize=0)
    figure = draw(compiled, "abca")
    counts = rasp.evaluate(make_hist(), list("abca"))
    for direction in compiled.directions:
        if direction.name in rows_of(figure) and direction.name.startswith("hist"):
            wanted = [direction.expected(count) - direction.offset for count in counts]
            assert shown(figure, -1, direction.name)[1:].tolist() == pytest.approx(wanted, abs=direction.error + 1e-6)
    hidden = len(compiled.directions) + 1 - len(rows_of(figure))
    assert hidden > 0
    assert f"since 0 on this input: {hidden} of" in figure.get_suptitle()


def test_where_the_stream_does_not_hold_a_direction_nothing_is_shown():
    compiled = rasp.compile(make_hist(), vocab="abc", max_len=4)
    allocation, figure = compiled.lowered.plan.allocation, draw(compiled, "aba")
    assert allocation.clearing, "a column is used twice"
    for life in allocation.lives:
        for panel in range(3):
            held = not np.ma.getmaskarray(shown(figure, panel, life.direction.name)).any()
            assert held == (life.direction in allocation.at(panel))


def test_a_model_that_only_attends_has_no_panels_for_mlps():
    is_a = Map({"a": 1, "b": 0}.get, tokens).named("is_a")
    compiled = rasp.compile(make_frac_prevs(is_a), vocab="ab", max_len=3, causal=True)
    assert compiled.model.blocks[0].mlp is None
    figure = draw(compiled, "aba")
    assert [axis.get_title() for axis in panels(figure)] == ["embedding", "layer 0\n+ attention"]
    assert [label.get_text() for label in panels(figure)[0].get_xticklabels()] == ["a", "b", "a"]
    assert figure.get_suptitle() == "frac_prevs → 1, 0.5, 0.6667"


def test_the_scale_is_one_for_all_panels_and_even_for_both_signs():
    score = Map({"a": -30, "b": 0.5}.get, tokens).named("score")
    compiled = rasp.compile(make_frac_prevs(score), vocab="ab", max_len=3, causal=True)
    norms = {axis.get_images()[0].norm for axis in panels(draw(compiled, "aab"))}
    (norm,) = norms
    assert isinstance(norm, SymLogNorm)
    assert (norm.vmin, norm.vmax) == (-30, 30)
    assert norm(0.0) == pytest.approx(0.5)


def test_frames_mark_what_a_panel_adds():
    compiled = rasp.compile(make_hist() - 1, vocab="ab", max_len=3)
    framed = [[patch.get_bbox().bounds for patch in axis.patches] for axis in panels(draw(compiled, "ab"))]
    rows = rows_of(draw(compiled, "ab"))
    share, count = rows.index("hist: sink share"), rows.index("hist")
    assert framed[1] == [(-0.5, share - 0.5, 3, 1)]
    assert framed[2] == [(-0.5, count - 0.5, 3, 1)]
    assert sum(height for _, _, _, height in framed[0]) == len(rows) - 2


@pytest.mark.parametrize("program", [rasp.Full(3), tokens == "a", rasp.indices * 0])
def test_small_programs_are_drawn(program):
    assert len(rows_of(draw(rasp.compile(program, vocab="ab", max_len=2), "b"))) == 1


def test_signs_of_mathematics_in_tokens_are_shown_as_they_are(tmp_path):
    figure = draw(rasp.compile(make_hist(), vocab=["$x$", "$"], max_len=2, optimize=0), ["$x$", "$"])
    figure.savefig(tmp_path / "x.png")  # would fail on a formula that it cannot read
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["sink", "$x$", "$"]


def test_it_needs_no_screen_and_leaves_pyplot_alone(tmp_path):
    backend = matplotlib.get_backend()
    draw(rasp.compile(make_hist(), vocab="ab", max_len=3), "ab").savefig(tmp_path / "stream.png")
    assert (tmp_path / "stream.png").stat().st_size > 5000
    assert matplotlib.get_backend() == backend


def test_a_bad_input_is_refused():
    with pytest.raises(rasp.InputError, match="token 'z'"):
        draw(rasp.compile(make_hist(), vocab="ab", max_len=3), "az")
