"""The demonstration: one page with all four acts, and a folder that it does not take from anybody."""

import re

import pytest

from microtome.lab import train
from microtome.theory import demo


def test_the_quick_demo_writes_one_page_with_everything(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(demo, "STEPS", {True: 40, False: demo.STEPS[False]})
    page = demo.run(tmp_path / "demo", quick=True)
    said = capsys.readouterr().out
    for act in ("(a)", "(b)", "(c)", "(d)"):
        assert act in said
    assert "equals the interpreter on all 363 inputs" in " ".join(said.split())
    html = page.read_text(encoding="utf-8")
    assert html.count("<img") >= 5
    assert not re.search(r"(src|href)=\"https?:", html)
    assert html.count(">holds<") >= 10
    assert train.load(tmp_path / "demo" / "learner").status == "finished"
    demo._clear(tmp_path / "demo")
    assert not (tmp_path / "demo" / "learner").exists(), "a second demo takes the first one's place"


def test_a_folder_of_somebody_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(ValueError, match=r"holds thesis\.tex, which no demo made"):
        demo.run(tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "mine"
    with pytest.raises(ValueError, match="is a file; the demo needs a folder"):
        demo.run(tmp_path / "thesis.tex")
