"""The trainer is the plain loop, with a run around it."""

import math
import os
import signal

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from microtome.lab.train import TrainConfig, load, train
from microtome.lab.train import trainer as trainer_module
from microtome.lab.train.seeds import step_seed


def plain_loop(model, objective, config):
    """What `train` does, written the usual way."""
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[config.optimizer]
    optimizer = kind(model.parameters(), config.lr, config.betas, config.eps, config.weight_decay, fused=True)
    losses = []
    with torch.random.fork_rng(devices=[]):
        for step in range(config.steps):
            warm = round(config.warmup * config.steps)
            done = (step - warm) / (config.steps - warm)
            factor = (step + 1) / warm if step < warm else 0.5 * (1 + math.cos(math.pi * done))
            optimizer.param_groups[0]["lr"] = config.lr * factor
            batch = objective.batch(step, torch.Generator().manual_seed(step_seed(config.seed, step)))
            torch.default_generator.manual_seed(step_seed(config.seed, step, "model"))
            loss = objective.loss(model, batch)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip)
            optimizer.step()
            losses.append(loss.item())
    return losses


@pytest.mark.parametrize("kind", ["adam", "adamw"])
def test_equals_the_plain_loop_to_the_bit(kind, learner, linear, tmp_path):
    config = TrainConfig(
        steps=30,
        optimizer=kind,
        lr=0.01,
        weight_decay=0.1,
        warmup=0.2,
        schedule="cosine",
        clip=0.5,
        log_every=1,
    )
    ours, theirs = learner(), learner()
    run = train(ours, linear(), config, tmp_path / "run")
    losses = plain_loop(theirs, linear(), config)
    assert run.metrics().filter(metric="loss")["value"].to_list() == losses
    for name, tensor in theirs.state_dict().items():
        assert torch.equal(tensor, ours.state_dict()[name]), name
    assert losses[-1] != losses[0]


def test_learns(learner, linear, tmp_path):
    model = learner()
    model.dropout.p = 0.0
    config = TrainConfig(steps=400, lr=0.02, schedule="cosine", warmup=0.1)
    loss = train(model, linear(size=16), config, tmp_path / "run").metrics().filter(metric="loss")["value"]
    assert loss[-1] < 0.1 * loss[0]


def test_a_run_is_what_its_folder_says(learner, linear, counter, tmp_path):
    model = learner()
    run = train(model, linear(), TrainConfig(steps=25, checkpoint_every=10), tmp_path / "run", callbacks=[counter()])
    assert (run.status, run.step, run.model) == ("finished", 25, model)
    table = run.metrics()
    assert table.columns == ["run_id", "step", "metric", "value", "time"]
    assert table["run_id"].unique().to_list() == [run.run_id]
    assert table.filter(metric="loss")["step"].to_list() == [0, 10, 20, 24]
    assert table.filter(metric="counted")["value"].to_list() == list(range(1, 26))
    assert set(table["metric"]) == {"loss", "grad_norm", "lr", "counted", "total"}
    again = load(tmp_path / "run", learner(seed=5))
    assert (again.status, again.step, again.config, again.run_id) == ("finished", 25, run.config, run.run_id)
    assert all(torch.equal(t, again.model.state_dict()[n]) for n, t in model.state_dict().items())
    assert again.metrics().equals(table)


def test_gradient_norm_is_logged_before_clipping(learner, linear, tmp_path):
    run = train(learner(), linear(), TrainConfig(steps=1, clip=1e-3), tmp_path / "run")
    model = learner()
    objective = linear()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(step_seed(0, 0, "model"))
        batch = objective.batch(0, torch.Generator().manual_seed(step_seed(0, 0)))
        objective.loss(model, batch).backward()
    norm = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]).norm()
    logged = run.metrics().filter(metric="grad_norm")["value"].item()
    assert logged == pytest.approx(norm.item(), rel=1e-5)
    assert logged > 1e-3


def test_data_depend_on_seed_and_step_alone(linear):
    def draw(seed, steps):
        generator = torch.Generator()
        objective = linear()
        return [objective.batch(s, generator.manual_seed(step_seed(seed, s))).inputs[0] for s in steps]

    forward, backward = draw(3, range(6)), draw(3, reversed(range(6)))
    assert all(torch.equal(a, b) for a, b in zip(forward, reversed(backward), strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(forward, draw(4, range(6)), strict=True))


def test_the_model_keeps_its_mode(learner, linear, tmp_path):
    model = learner().eval()
    train(model, linear(), TrainConfig(steps=2), tmp_path / "run")
    assert not model.training
    assert model.calls == 2  # the buffer moves in training mode only


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_finishes_the_step_and_leaves_a_run(number, learner, linear, at, tmp_path, capsys):
    before = signal.getsignal(number)
    path = tmp_path / "run"
    config = TrainConfig(steps=50)
    run = train(learner(), linear(), config, path, callbacks=[at(6, lambda: os.kill(os.getpid(), number))])
    assert (run.status, run.step) == ("interrupted", 7)
    said = capsys.readouterr().err
    assert "Stopped after step 7 of 50" in said
    assert str(path) in said
    assert signal.getsignal(number) is before
    assert load(path, learner()).status == "interrupted"
    resumed = train(learner(), linear(), config, path, resume=True)
    assert (resumed.status, resumed.step) == ("finished", 50)


def test_a_second_ctrl_c_does_not_wait(learner, linear, at, tmp_path):
    def twice():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(learner(), linear(), TrainConfig(steps=50), tmp_path / "run", callbacks=[at(6, twice)])


class _Reads(TorchDispatchMode):
    """Notes each operation that makes the host wait for a value."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.is_nonzero.default):
            self.seen.append(function)
        return function(*args, **(kwargs or {}))


def test_the_host_waits_at_log_points_only(learner, linear, counter, tmp_path, monkeypatch):
    """As on an accelerator: the flag is looked at every 16 steps and at log points, and nothing else is
    read.
    """
    monkeypatch.setattr(trainer_module, "_check_every", lambda device: 16)
    config = TrainConfig(steps=40, log_every=32, clip=1.0, warmup=0.5, schedule="linear")
    waits = {}

    class Watch(trainer_module.Callback):
        def on_step_end(self, step, loss):
            waits[step] = len(reads.seen)

    with _Reads() as reads:
        train(learner(), linear(), config, tmp_path / "run", callbacks=[counter(), Watch()])
    new = [waits[s] - waits[s - 1] for s in range(1, 40)]
    assert [s for s, n in enumerate(new, start=1) if n] == [16, 32, 39]
