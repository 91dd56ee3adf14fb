"""One cell of the arena's table: one mixer trained on one task, and what it cost."""

import dataclasses
import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from microtome.lab import zoo
from microtome.lab.long_range.memory import peak_bytes
from microtome.lab.long_range.settings import Setting
from microtome.lab.tasks.long_range import majority_rate
from microtome.lab.train import Callback, NonFiniteLoss, train
from microtome.lab.train.classification import SequenceLabels, accuracy
from microtome.lab.train.files import write_whole
from microtome.lab.zoo import registry
from microtome.lab.zoo.stems.classify import SequenceClassifier

TEST_STREAM = 7_000_003
"""Added to the seed for the test's examples; the trainer hashes its seeds, so that no step draws from this stream."""


@dataclass(frozen=True)
class Row:
    """What a cell found.

    Attributes:
        task, mixer, sizes, steps, seed: which cell it is.
        causal: whether the mixer reads from left to right only, so that the last position is read and no class token.
        parameters: of the model.
        accuracy, majority: shares of the test set; None where training broke off.
        seconds: of a training step, data included, on average.
        peak_bytes: held at most by one step's forward and backward pass beside the parameters.
        why: in words, where there is no accuracy.
    """

    task: str
    mixer: str
    sizes: str
    steps: int
    seed: int
    causal: bool
    parameters: int
    accuracy: float | None
    majority: float | None
    seconds: float | None
    peak_bytes: int | None
    why: str = ""


@dataclass(frozen=True)
class Cell:
    """A cell to be filled.

    Attributes:
        task, mixer, sizes: names.
        setting: the task's, at these sizes.
        steps, seed: of the training.
    """

    task: str
    mixer: str
    sizes: str
    setting: Setting
    steps: int
    seed: int

    def description(self) -> dict[str, Any]:
        """JSON values that tell this cell from others."""
        setting = dataclasses.asdict(self.setting) | {"law": type(self.setting.task).__name__}
        return {"task": self.task, "mixer": self.mixer, "steps": self.steps, "seed": self.seed, "setting": setting}

    def folder(self, out: Path) -> Path:
        """Where its run and its row lie; another setting has another folder."""
        text = json.dumps(self.description(), sort_keys=True, default=repr)
        return out / "cells" / f"{self.task}-{self.mixer}-{hashlib.blake2b(text.encode(), digest_size=4).hexdigest()}"


class StepClock(Callback):
    """Seconds a step, kept across resumes."""

    name = "clock"

    def __init__(self):
        self.seconds, self.steps, self._last = 0.0, 0, 0.0

    def on_start(self, run: Any) -> None:
        self._last = time.perf_counter()

    def on_step_end(self, step: int, loss: Tensor) -> None:
        now = time.perf_counter()
        self.seconds, self.steps, self._last = self.seconds + now - self._last, self.steps + 1, now

    @property
    def mean(self) -> float:
        return self.seconds / max(self.steps, 1)

    def state_dict(self) -> Mapping[str, Any]:
        return {"seconds": self.seconds, "steps": self.steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.seconds, self.steps = state["seconds"], state["steps"]


def stored(cell: Cell, out: Path) -> Row | None:
    """The cell's row, if it was found before."""
    path = cell.folder(out) / "row.json"
    return Row(**json.loads(path.read_bytes())) if path.exists() else None


def fill(cell: Cell, out: Path, progress: bool = True) -> Row | None:
    """Trains the cell's model, or goes on where it was interrupted, tests it, and stores the row.

    Returns:
        the row, or None if the training was interrupted again. A training that diverges is a row with the reason.

    Raises:
        ValueError: if the mixer cannot be built at this setting.
    """
    setting, folder = cell.setting, cell.folder(out)
    model = classifier(cell.mixer, setting, cell.seed)
    objective, clock = SequenceLabels(setting.task, setting.batch), StepClock()
    numbers: dict[str, Any] = {"accuracy": None, "majority": None, "peak_bytes": None}
    try:
        config = setting.train(cell.steps, cell.seed)
        run = train(model, objective, config, folder, callbacks=[clock], resume=True, progress=progress)
        if run.status != "finished":
            return None
        numbers = _tested(model, objective, setting, cell.seed)
    except NonFiniteLoss as error:
        numbers["why"] = f"diverged at step {error.step}"
    row = Row(
        cell.task,
        cell.mixer,
        cell.sizes,
        cell.steps,
        cell.seed,
        causal=model.spec.shape.causal,
        parameters=sum(p.numel() for p in model.parameters()),
        seconds=clock.mean,
        **numbers,
    )
    write_whole(folder / "row.json", json.dumps(asdict(row), indent=1).encode())
    return row


def classifier(mixer: str, setting: Setting, seed: int) -> SequenceClassifier:
    """The setting's encoder with this mixer: pre-norm, no biases in attention, embeddings N(0, 1).

    A mixer that can only look backwards is causal and read at its last position; every other one looks both ways.
    """
    part = registry.load("mixers", mixer).Part
    options = dict(setting.mixers.get(mixer, {}))
    if "bias" in {f.name for f in dataclasses.fields(part)}:
        options["bias"] = False
    sizes = dict(setting.model)
    d_mlp = sizes.pop("d_mlp")
    causal, task = part.causal_only, setting.task
    pool = "last" if causal and setting.pool == "cls" else setting.pool
    stem = {"name": "classify", "d_vocab": task.d_vocab, "n_classes": task.n_classes, "pool": pool}
    return zoo.sequence(
        stem={**stem, "pairs": task.pairs, "hidden": d_mlp},
        mixer={"name": mixer, **options},
        feedforward={"name": "gelu", "d_mlp": d_mlp},
        init={"law": "normal", "std": sizes["d_model"] ** -0.5, "embed_std": 1.0},
        n_ctx=task.length + (pool == "cls"),
        causal=causal,
        seed=seed,
        **sizes,
    )


def _tested(model: SequenceClassifier, objective: SequenceLabels, setting: Setting, seed: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed + TEST_STREAM)
    examples = setting.task.test_set(setting.test, generator)
    batch = objective.batch(0, generator)
    model.zero_grad(set_to_none=True)
    model.train()
    peak = peak_bytes(lambda: objective.loss(model, batch).backward())
    model.zero_grad(set_to_none=True)
    model.eval()
    return {
        "accuracy": accuracy(model, examples),
        "majority": majority_rate(examples.labels),
        "peak_bytes": peak,
    }
