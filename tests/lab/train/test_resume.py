"""A run killed anywhere and resumed equals one that was not, to the bit."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from microtome.lab.train import CheckpointError, TrainConfig, checkpoint, train
from microtome.lab.train.files import write_whole

CONFIG = TrainConfig(
    steps=40,
    lr=0.01,
    warmup=0.1,
    schedule="cosine",
    clip=1.0,
    weight_decay=0.01,
    log_every=3,
    checkpoint_every=8,
)


def everything(run):
    """All that a run must keep, as its last checkpoint holds it, and its metrics without their times."""
    _, saved = checkpoint.newest(run.checkpoints)
    return saved.tensors, saved.rest["callbacks"], run.metrics().drop("time")


def assert_same(run, other):
    (tensors, kept, table), (tensors2, kept2, table2) = everything(run), everything(other)
    assert tensors.keys() == tensors2.keys()
    assert {"model/level", "optimizer/exp_avg/head.weight", "callback/counter/total"} < tensors.keys()
    differing = [name for name, tensor in tensors.items() if not torch.equal(tensor, tensors2[name])]
    assert differing == []
    assert kept == kept2
    assert table.equals(table2)
    live, live2 = dict(run.model.state_dict()), dict(other.model.state_dict())
    assert all(torch.equal(live[name], live2[name]) for name in live)


@pytest.fixture(scope="module")
def whole(learner, linear, counter, tmp_path_factory):
    """The run that nothing happens to."""
    return train(learner(), linear(), CONFIG, tmp_path_factory.mktemp("whole") / "run", callbacks=[counter()])


@settings(max_examples=15)
@given(data=st.data())
def test_resumes_exactly_from_any_steps(
    data, whole, learner, linear, counter, crashes_after, crashed, tmp_path_factory
):
    path = tmp_path_factory.mktemp("killed") / "run"
    reached = 0
    for _ in range(data.draw(st.integers(1, 3), label="kills")):
        step = data.draw(st.integers(reached, 39), label="step")
        callbacks = [counter(), crashes_after(step)]
        with pytest.raises(crashed):
            train(learner(), linear(), CONFIG, path, callbacks=callbacks, resume=True)
        reached = step // CONFIG.checkpoint_every * CONFIG.checkpoint_every
    resumed = train(learner(), linear(), CONFIG, path, callbacks=[counter()], resume=True)
    assert_same(resumed, whole)


def test_only_the_steps_after_the_checkpoint_are_replayed(learner, linear, crashes_after, crashed, tmp_path):
    with pytest.raises(crashed):
        train(learner(), linear(), CONFIG, tmp_path / "run", callbacks=[crashes_after(21)])
    objective = linear()
    train(learner(), objective, CONFIG, tmp_path / "run", resume=True)
    assert objective.asked == list(range(16, 40))


KILLED = """
import os, runpy, signal, sys
from microtome.lab.train import TrainConfig, files, train
stand = runpy.run_path(sys.argv[1])
path, step, where = sys.argv[2], int(sys.argv[3]), sys.argv[4]
die = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
callbacks = [stand["Counter"]()]
if where == "between":
    callbacks.append(stand["At"](step, die))
else:  # with the checkpoint written but not in its place
    real = os.replace
    os.replace = lambda a, b: die() if f"step-{step:09d}" in str(b) else real(a, b)
config = TrainConfig.from_dict(__import__("json").loads(sys.argv[5]))
train(stand["Learner"](), stand["Linear"](), config, path, callbacks=callbacks, resume=True)
"""


@pytest.mark.parametrize(("step", "where"), [(3, "between"), (29, "between"), (24, "rename")], ids=str)
def test_survives_sigkill(step, where, whole, learner, linear, counter, tmp_path):
    stand_ins = Path(__file__).with_name("conftest.py")
    arguments = [str(stand_ins), str(tmp_path / "run"), str(step), where, json.dumps(CONFIG.to_dict())]
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    command = [sys.executable, "-c", KILLED, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert not any("step-000000040" in p.name for p in (tmp_path / "run").rglob("*"))
    resumed = train(learner(), linear(), CONFIG, tmp_path / "run", callbacks=[counter()], resume=True)
    assert_same(resumed, whole)
    assert not list((tmp_path / "run").rglob("*.tmp"))


def test_resuming_a_finished_run_changes_nothing(whole, learner, linear, counter):
    before = {p: p.read_bytes() for p in whole.path.rglob("*") if p.is_file()}
    objective = linear()
    again = train(learner(seed=9), objective, CONFIG, whole.path, callbacks=[counter()], resume=True)
    assert (again.status, again.step, objective.asked) == ("finished", 40, [])
    assert before == {p: p.read_bytes() for p in whole.path.rglob("*") if p.is_file()}
    assert_same(again, whole)


def test_a_damaged_newest_checkpoint_falls_back(whole, learner, linear, counter, crashes_after, crashed, tmp_path):
    path = tmp_path / "run"
    with pytest.raises(crashed):
        train(learner(), linear(), CONFIG, path, callbacks=[counter(), crashes_after(29)])
    newest = sorted((path / "checkpoints").iterdir())[-1]
    content = bytearray(newest.read_bytes())
    content[-5] ^= 1
    newest.write_bytes(content)
    objective = linear()
    with pytest.warns(UserWarning, match=f"{newest.name} is damaged"):
        resumed = train(learner(), objective, CONFIG, path, callbacks=[counter()], resume=True)
    assert objective.asked[0] == 16
    assert_same(resumed, whole)


def test_nothing_but_damaged_checkpoints_is_an_error(learner, linear, crashes_after, crashed, tmp_path):
    with pytest.raises(crashed):
        train(learner(), linear(), CONFIG, tmp_path / "run", callbacks=[crashes_after(29)])
    for path in (tmp_path / "run" / "checkpoints").iterdir():
        path.write_bytes(path.read_bytes()[:-1])
    with (
        pytest.warns(UserWarning, match="is damaged"),
        pytest.raises(CheckpointError, match="all 2 are damaged"),
    ):
        train(learner(), linear(), CONFIG, tmp_path / "run", resume=True)


def test_other_threads_are_noticed(learner, linear, crashes_after, crashed, tmp_path, monkeypatch):
    with pytest.raises(crashed):
        train(learner(), linear(), CONFIG, tmp_path / "run", callbacks=[crashes_after(10)])
    monkeypatch.setattr(torch, "get_num_threads", lambda: 77)
    with pytest.warns(UserWarning, match=r"threads \d+ \(now 77\); .* differ in its last bits"):
        train(learner(), linear(), CONFIG, tmp_path / "run", resume=True)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"lr": 0.02}, r"train\.lr is 0\.02 here but 0\.01 in the run"),
        ({"betas": (0.9, 0.98)}, r"train\.betas is \[0\.9, 0\.98\] here"),
    ],
    ids=["lr", "betas"],
)
def test_refuses_another_configuration(change, field, whole, learner, linear):
    with pytest.raises(ValueError, match=field):
        train(learner(), linear(), replace(CONFIG, **change), whole.path, resume=True)


def test_refuses_another_objective(whole, learner, linear):
    with pytest.raises(ValueError, match=r"objective\.spoilt is 3 here but None in the run"):
        train(learner(), linear(spoilt=3), CONFIG, whole.path, resume=True)


def test_refuses_another_model(whole, learner, linear):
    with pytest.raises(ValueError, match=r"model\.parameters is .* here but"):
        train(learner(width=9), linear(), CONFIG, whole.path, resume=True)


def test_refuses_a_model_that_freezes_what_was_trained(whole, learner, linear):
    model = learner()
    model.head.bias.requires_grad_(False)
    with pytest.raises(CheckpointError, match=r"trained head\.bias, which is frozen"):
        train(model, linear(), CONFIG, whole.path, resume=True)


def test_refuses_a_folder_that_holds_a_run(whole, learner, linear):
    with pytest.raises(ValueError, match=r"already holds a run; pass resume=True"):
        train(learner(), linear(), CONFIG, whole.path)


def test_refuses_a_file(learner, linear, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="is a file; a run needs a folder"):
        train(learner(), linear(), CONFIG, tmp_path / "file")


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_whole(path, b"old")

    def broken(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="disk full"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"


def test_interrupted_and_resumed_equals_whole(whole, learner, linear, counter, at, tmp_path):
    """Between checkpoints and between log points: step 11 is neither."""
    interrupt = at(11, lambda: os.kill(os.getpid(), signal.SIGINT))
    path = tmp_path / "run"
    assert train(learner(), linear(), CONFIG, path, callbacks=[counter(), interrupt]).step == 12
    objective = linear()
    assert_same(train(learner(), objective, CONFIG, path, callbacks=[counter()], resume=True), whole)
    assert objective.asked[0] == 12
