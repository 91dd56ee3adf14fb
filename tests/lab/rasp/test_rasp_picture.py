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


def test_rows_are_the_directions_that_are_used_and_columns_the_positions():
    compiled = rasp.compile(make_hist() - 1, vocab="abc", max_len=4)
    figure = draw(compiled, "aba")
    axes = panels(figure)
    assert [axis.get_title() for axis in axes] == [
        "embedding",
        "layer 0\n+ attention",
        "layer 0\n+ MLP",
        "layer 1\n+ attention",
        "layer 1\n+ MLP",
    ]
    rows = [label.get_text() for label in axes[0].get_yticklabels()]
    assert rows == [
        "sink",
        "tokens='a'",
        "tokens='b'",
        "hist: sink share",
        "hist=1",
        "hist=2",
        "(hist - 1)=0",
        "(hist - 1)=1",
    ]
    assert [label.get_text() for label in axes[0].get_xticklabels()] == ["sink", "a", "b", "a"]
    last = axes[-1].get_images()[0].get_array()
    assert np.array_equal(last[rows.index("hist=2")].round(5), [0, 1, 0, 1])
    assert "hist - 1 → 1, 0, 1" in figure.get_suptitle()
    assert f"{len(compiled.labels) - len(rows)} directions" in figure.get_suptitle()


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
    framed = [len(axis.patches) for axis in panels(draw(compiled, "ab"))]
    assert framed == [2, 1, 1, 0, 1]  # the sink and tokens; the share; hist; nothing; hist - 1


def test_it_needs_no_screen_and_leaves_pyplot_alone(tmp_path):
    backend = matplotlib.get_backend()
    draw(rasp.compile(make_hist(), vocab="ab", max_len=3), "ab").savefig(tmp_path / "stream.png")
    assert (tmp_path / "stream.png").stat().st_size > 5000
    assert matplotlib.get_backend() == backend


def test_a_bad_input_is_refused():
    with pytest.raises(rasp.InputError, match="token 'z'"):
        draw(rasp.compile(make_hist(), vocab="ab", max_len=3), "az")
