"""The live line."""

import io

import pytest
from rich.console import Console

from microtome.lab.train import Callback, TrainConfig, train
from microtome.lab.train import progress as progress_module


@pytest.fixture
def terminal(monkeypatch):
    """What a terminal of 120 columns is shown."""
    shown = io.StringIO()
    monkeypatch.setattr(progress_module, "Console", lambda stderr: Console(file=shown, force_terminal=True, width=120))
    monkeypatch.setattr(progress_module, "REFRESH_SECONDS", 0.0)
    return shown


class _Collapsing(Callback):
    name = "entropy"

    def progress(self):
        return {"entropy": "1.25"}


def test_shows_step_loss_speed_and_what_callbacks_add(terminal, learner, linear, tmp_path):
    train(learner(), linear(), TrainConfig(steps=30), tmp_path / "run", callbacks=[_Collapsing()])
    shown = terminal.getvalue()
    for piece in ("step", "30/30", "loss ", "entropy 1.25", "steps/s", "0:00:0"):
        assert piece in shown, piece


def test_starts_where_a_resumed_run_does(terminal, learner, linear, crashes_after, crashed, tmp_path):
    config = TrainConfig(steps=30, checkpoint_every=10)
    with pytest.raises(crashed):
        train(learner(), linear(), config, tmp_path / "run", callbacks=[crashes_after(25)], progress=False)
    train(learner(), linear(), config, tmp_path / "run", resume=True)
    assert "21/30" in terminal.getvalue()
    assert "19/30" not in terminal.getvalue()


def test_is_silent_when_not_wanted(terminal, learner, linear, tmp_path):
    train(learner(), linear(), TrainConfig(steps=30), tmp_path / "run", progress=False)
    assert terminal.getvalue() == ""


def test_is_silent_off_a_terminal(learner, linear, tmp_path, capsys):
    train(learner(), linear(), TrainConfig(steps=30), tmp_path / "run")
    assert capsys.readouterr() == ("", "")
