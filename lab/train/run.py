"""A run on disk: where it lies, what it is, and how to take it up again.

run.json                 the resolved configuration and the run's identity
checkpoints/step-….safetensors
metrics/part-….parquet
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from torch import nn

from microtome.lab.train import checkpoint, models
from microtome.lab.train.config import TrainConfig
from microtome.lab.train.files import write_whole
from microtome.lab.train.metrics import read_metrics
from microtome.lab.train.objective import Objective


@dataclass
class Run:
    """A training run.

    Attributes:
        path: its folder.
        run_id: hash of the resolved configuration: the same for the same configuration anywhere.
        model: the model at `step`.
        config: the options.
        resolved: options, objective and model as JSON values, the content of `run.json`.
        step: optimiser steps done.
        status: "running" while it trains, then "finished" or "interrupted".
    """

    path: Path
    run_id: str
    model: nn.Module
    config: TrainConfig
    resolved: dict[str, Any]
    step: int = 0
    status: str = "running"

    def metrics(self) -> pl.DataFrame:
        """All metrics on disk in long form: run_id, step, metric, value, time; see `metrics.py`."""
        return read_metrics(self.path / "metrics")

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints."""
        return self.path / "checkpoints"


def open_run(path: Path, model: nn.Module, objective: Objective, config: TrainConfig, resume: bool) -> Run:
    """Begins a run in a folder, or takes up the one that is there.

    Raises:
        ValueError: if a run is there and `resume` is False, or its configuration differs (naming the first
            field).
    """
    resolved = {"train": config.to_dict(), "objective": objective.describe(), "model": models.describe(model)}
    resolved = json.loads(json.dumps(resolved, default=repr))
    run_id = hashlib.blake2b(json.dumps(resolved, sort_keys=True).encode(), digest_size=8).hexdigest()
    record = path / "run.json"
    if not record.exists():
        if path.exists() and not path.is_dir():
            raise ValueError(f"{path} is a file; a run needs a folder.")
        path.mkdir(parents=True, exist_ok=True)
        write_whole(record, json.dumps({"run_id": run_id, "resolved": resolved}, indent=1).encode())
    elif not resume:
        raise ValueError(f"{path} already holds a run; pass resume=True to take it up, or choose another folder.")
    else:
        _refuse_other(path, json.loads(record.read_bytes())["resolved"], resolved)
    return Run(path, run_id, model, config, resolved)


def load(path: Path | str, model: nn.Module | None = None) -> Run:
    """A run as its newest checkpoint left it.

    Args:
        path: the run's folder.
        model: a model of the same architecture, which is given the run's parameters; not needed for models of
            the zoo.

    Raises:
        ValueError: if there is no run, no checkpoint yet, or a model is needed.
        CheckpointError: if the model does not fit, or all checkpoints are damaged.
    """
    path = Path(path)
    if not (path / "run.json").exists():
        raise ValueError(f"{path} holds no run: it has no run.json.")
    record: dict[str, Any] = json.loads((path / "run.json").read_bytes())
    found = checkpoint.newest(path / "checkpoints")
    if found is None:
        raise ValueError(f"the run in {path} has written no checkpoint yet.")
    resolved = record["resolved"]
    config = TrainConfig.from_dict(resolved["train"])
    model = models.build(resolved["model"]) if model is None else model
    models.restore(found[1], model)
    step = found[1].step
    status = "finished" if step == config.steps else "interrupted"
    return Run(path, record["run_id"], model, config, resolved, step, status)


def _refuse_other(path: Path, there: dict[str, Any], here: dict[str, Any]) -> None:
    old, new = _flat(there), _flat(here)
    for field in [*new, *old]:
        if field not in old or field not in new or old[field] != new[field]:
            now, then = new.get(field, "absent"), old.get(field, "absent")
            raise ValueError(
                f"{field} is {now!r} here but {then!r} in the run in {path}; "
                "resume with the configuration that it was started with, or choose another folder."
            )


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        leaves |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return leaves
