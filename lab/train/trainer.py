"""The trainer: one loop for every model and every objective."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from microtome.lab.train import checkpoint, models, optimizer, state
from microtome.lab.train.callbacks import Callback
from microtome.lab.train.config import TrainConfig, resolve_device
from microtome.lab.train.diagnose import NonFiniteLoss, attention_entropies, first_non_finite
from microtome.lab.train.guard import CHECK_EVERY, Guard
from microtome.lab.train.interrupt import Interruption
from microtome.lab.train.metrics import MetricWriter
from microtome.lab.train.objective import Batch, Objective
from microtome.lab.train.progress import ProgressLine
from microtome.lab.train.run import Run, open_run
from microtome.lab.train.schedule import factor
from microtome.lab.train.seeds import default_generator, given_back, step_seed

FLUSH_EVERY = 50
"""Log points between parts of the metrics table."""


def train(
    model: nn.Module,
    objective: Objective,
    config: TrainConfig,
    out: Path | str,
    *,
    callbacks: Sequence[Callback] = (),
    resume: bool = False,
    progress: bool = True,
) -> Run:
    """Trains a model in place and leaves a run that can be read, resumed and loaded.

    The data of a step depend on the seed and the step alone, and the model's own randomness (dropout)
    likewise; so on the CPU, with the same number of threads, a run killed at any step and resumed ends
    bit-identical to one that was not. The first Ctrl-C or SIGTERM finishes the step, writes a checkpoint and
    returns.

    Args:
        model: moved to `config.device` and put in training mode while it trains.
        objective: data and loss.
        config: the options.
        out: the run's folder; created if missing.
        callbacks: what watches the run, with distinct names.
        resume: take up the run in `out` from its newest checkpoint; starts afresh where there is none.
        progress: show a live line when standard error is a terminal.

    Returns:
        the run, with status "finished" or "interrupted".

    Raises:
        ValueError: if an option does not fit this machine or the model, or `out` holds a run (see
            `open_run`).
        NonFiniteLoss: if a loss or gradient is not finite; the model is then as it was before that step.
    """
    names = [callback.name for callback in callbacks]
    if len(set(names)) < len(names):
        raise ValueError(f"callbacks need distinct names, not {', '.join(names)}.")
    model.to(resolve_device(config))
    trained = optimizer.build(model, config)
    run = open_run(Path(out), model, objective, config, resume)
    return _Training(run, objective, trained, callbacks, progress).go()


class _Training:
    """What one call of `train` holds."""

    def __init__(
        self,
        run: Run,
        objective: Objective,
        trained: torch.optim.Optimizer,
        callbacks: Sequence[Callback],
        progress: bool,
    ):
        self.run, self.model, self.config = run, run.model, run.config
        self.objective, self.optimizer, self.callbacks = objective, trained, callbacks
        self.device = resolve_device(run.config)
        self.parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.generator, self.forward_generator = torch.Generator(self.device), default_generator(self.device)
        self.written: Path | None = None
        part = self._restore()
        self.metrics = MetricWriter(run.path / "metrics", run.run_id, part)
        self.guard = Guard(run.model, self.optimizer, run.step)
        self.check_every = _check_every(self.device)
        self.line = ProgressLine(run.config.steps, run.step, progress)

    def go(self) -> Run:
        run, steps = self.run, self.config.steps
        with ExitStack() as stack:
            stack.enter_context(given_back(self.forward_generator))
            stack.enter_context(_training_mode(self.model))
            stack.enter_context(self.line)
            interruption = stack.enter_context(Interruption())
            for callback in self.callbacks:
                callback.on_start(run)
            while run.step < steps and not interruption.asked:
                self._step(run.step)
                self.line.advance(run.step)
                if run.step % self.config.checkpoint_every == 0 or run.step == steps or interruption.asked:
                    self._save()
        run.status = "finished" if run.step == steps else "interrupted"
        if run.status == "interrupted":
            self.line.say(
                f"Stopped after step {run.step} of {steps}; pass resume=True to go on. The run is in {run.path}"
            )
        return run

    def _step(self, step: int) -> None:
        config = self.config
        for group in self.optimizer.param_groups:
            group["lr"] = config.lr * factor(step, config.steps, config.warmup, config.schedule)
        batch = self._batch(step)
        self.guard.before_forward()
        loss = self._loss(step, batch)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = optimizer.clip(self.parameters, config.clip)
        self.guard.watch(loss, norm)
        self.optimizer.step()
        loss = loss.detach()
        logs = step % config.log_every == 0 or step == config.steps - 1
        if logs or step % self.check_every == 0:
            self._check()
        self.run.step = step + 1
        self._note(step, loss, norm if logs else None)

    def _batch(self, step: int) -> Batch:
        return self.objective.batch(step, self.generator.manual_seed(step_seed(self.config.seed, step)))

    def _loss(self, step: int, batch: Batch) -> Float[Tensor, ""]:
        self.forward_generator.manual_seed(step_seed(self.config.seed, step, "model"))
        with ExitStack() as stack:
            stack.enter_context(self._precision())
            for callback in self.callbacks:
                context = callback.around_forward(step)
                if context is not None:
                    stack.enter_context(context)
            loss = self.objective.loss(self.model, batch)
        if not loss.requires_grad:
            raise ValueError("the loss does not depend on any parameter that is being trained.")
        return loss

    def _precision(self) -> AbstractContextManager:
        if self.config.precision == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)

    def _note(self, step: int, loss: Tensor, norm: Tensor | None) -> None:
        """Notes the step's metrics; `norm` is given at log points, where they are also read."""
        for callback in self.callbacks:
            for metric, value in (callback.on_step_end(step, loss) or {}).items():
                self.metrics.add(step, metric, value)
        if norm is None:
            return
        rate = self.optimizer.param_groups[0]["lr"]
        for metric, value in (("loss", loss), ("grad_norm", norm), ("lr", rate)):
            self.metrics.add(step, metric, value)
        fields = {"loss": f"{self.metrics.sync()['loss']:.4g}"}
        for callback in self.callbacks:
            fields |= callback.progress()
        self.line.show(fields)
        if step // self.config.log_every % FLUSH_EVERY == FLUSH_EVERY - 1:
            self.metrics.flush()

    def _check(self) -> None:
        """Raises NonFiniteLoss if the guard has met a step that is not finite."""
        step = self.guard.first_bad_step()
        if step is None:
            return
        self.run.step, self.run.status = step, "interrupted"
        self.metrics.sync(before=step)
        self.metrics.flush()
        self.guard.restore_buffers()
        batch = self._batch(step)
        self.forward_generator.manual_seed(step_seed(self.config.seed, step, "model"))
        with self._precision():
            where = first_non_finite(self.model, self.objective, batch)
            entropies = attention_entropies(self.model, batch.inputs)
        self.guard.restore_buffers()
        raise NonFiniteLoss(step, where, entropies, self.written)

    def _save(self) -> None:
        """Writes a checkpoint; the metrics go first, so that it can name the part that comes after it."""
        self._check()
        self.metrics.sync()
        self.metrics.flush()
        rest = {"part": self.metrics.part, "run_id": self.run.run_id, "resolved": self.run.resolved}
        saved = state.capture(self.run.step, self.model, self.optimizer, self.callbacks, rest)
        self.written = checkpoint.write(saved, self.run.checkpoints)

    def _restore(self) -> int:
        """Takes the newest checkpoint's state, if any; returns the number of the next part of the metrics."""
        found = checkpoint.newest(self.run.checkpoints)
        if found is None:
            return 0
        self.written, saved = found
        state.warn_if_elsewhere(saved)
        models.restore(saved, self.model)
        state.restore_training(saved, self.optimizer, self.callbacks)
        self.run.step = saved.step
        return saved.rest["part"]


def _check_every(device: torch.device) -> int:
    return 1 if device.type == "cpu" else CHECK_EVERY


@contextmanager
def _training_mode(model: nn.Module) -> Iterator[None]:
    before = model.training
    model.train()
    try:
        yield
    finally:
        model.train(before)
