"""When callbacks are called."""

from contextlib import contextmanager

import pytest

from microtome.lab.train import Callback, TrainConfig, train


class _Journal(Callback):
    name = "journal"

    def __init__(self):
        self.lines = []

    def on_start(self, run):
        self.lines.append(("start", run.step, run.model.training))

    def around_forward(self, step):
        return self._watching(step) if step % 2 == 0 else None

    @contextmanager
    def _watching(self, step):
        self.lines.append(("enter", step))
        yield
        self.lines.append(("leave", step))

    def on_step_end(self, step, loss):
        assert loss.ndim == 0
        assert not loss.requires_grad
        self.lines.append(("end", step))


def test_the_order_of_a_step(learner, linear, tmp_path):
    journal, model = _Journal(), learner()
    model.register_forward_hook(lambda *_: journal.lines.append("forward"))
    model.head.register_full_backward_hook(lambda *_: journal.lines.append("backward"))
    train(model, linear(), TrainConfig(steps=3), tmp_path / "run", callbacks=[journal])
    assert journal.lines == [
        ("start", 0, True),
        ("enter", 0), "forward", ("leave", 0), "backward", ("end", 0),
        "forward", "backward", ("end", 1),
        ("enter", 2), "forward", ("leave", 2), "backward", ("end", 2),
    ]  # fmt: skip


def test_a_callback_added_on_resume_starts_fresh(learner, linear, counter, crashes_after, crashed, tmp_path):
    config = TrainConfig(steps=20, checkpoint_every=5)
    with pytest.raises(crashed):
        train(learner(), linear(), config, tmp_path / "run", callbacks=[crashes_after(12)])
    fresh = counter()
    train(learner(), linear(), config, tmp_path / "run", callbacks=[fresh], resume=True)
    assert fresh.steps == 10
