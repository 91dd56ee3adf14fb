"""Metrics as a long table, written to Parquet while the run goes on.

Columns: run_id (String), step (Int64), metric (String), value (Float64), time (Datetime, UTC, microseconds).
A part is written whole and never touched again; a checkpoint records the number of the next part, and
resuming from it removes the parts from there on, whose steps will be replayed. So no step ever has two rows.
"""

import io
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import torch
from torch import Tensor

from microtome.lab.train.files import write_whole

SCHEMA = {
    "run_id": pl.String,
    "step": pl.Int64,
    "metric": pl.String,
    "value": pl.Float64,
    "time": pl.Datetime("us", "UTC"),
}


class MetricWriter:
    """Collects scalars, keeps tensors on their device until `sync`, and writes parts into a folder.

    Args:
        folder: where the parts go; created if missing.
        run_id: put into every row.
        part: number of the next part; parts from there on, left by a run that died, are removed.
    """

    def __init__(self, folder: Path, run_id: str, part: int):
        self.folder, self.run_id, self.part = folder, run_id, part
        self._waiting: list[tuple[int, str, Tensor | float, datetime]] = []
        self._rows: list[tuple[str, int, str, float, datetime]] = []
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.glob("part-*"):
            if path.suffix == ".tmp" or _number(path) >= part:
                path.unlink()

    def add(self, step: int, metric: str, value: Tensor | float) -> None:
        """Notes one scalar without waiting for the device.

        Raises:
            ValueError: if the value is a tensor of more than one element.
        """
        if isinstance(value, Tensor):
            if value.numel() != 1:
                raise ValueError(f"metric {metric!r} must be a scalar, not a tensor of shape {tuple(value.shape)}.")
            value = value.detach().reshape(())
        self._waiting.append((step, metric, value, datetime.now(UTC)))

    def sync(self, before: int | None = None) -> dict[str, float]:
        """Reads the waiting scalars and returns the latest value of each.

        Args:
            before: forget what was noted at this step and later.
        """
        kept = [row for row in self._waiting if before is None or row[0] < before]
        latest = {}
        for (step, metric, _, time), value in zip(kept, _read([row[2] for row in kept]), strict=True):
            latest[metric] = value
            self._rows.append((self.run_id, step, metric, value, time))
        self._waiting.clear()
        return latest

    def flush(self) -> None:
        """Writes the synced rows as one part; does nothing when there are none."""
        if not self._rows:
            return
        table = io.BytesIO()
        pl.DataFrame(self._rows, schema=SCHEMA, orient="row").write_parquet(table)
        write_whole(self.folder / f"part-{self.part:06d}.parquet", table.getvalue())
        self.part += 1
        self._rows.clear()


def read_metrics(folder: Path) -> pl.DataFrame:
    """All rows of a run's metrics folder in order of steps; an empty table when nothing has been written."""
    parts = sorted(folder.glob("part-*.parquet"), key=_number)
    tables = [pl.read_parquet(part) for part in parts]
    return pl.concat([pl.DataFrame(schema=SCHEMA), *tables]).sort("step", maintain_order=True)


def _read(values: list[Tensor | float]) -> list[float]:
    """The values on the host, in one transfer for each device."""
    numbers = [0.0 if isinstance(value, Tensor) else float(value) for value in values]
    for device in {value.device for value in values if isinstance(value, Tensor)}:
        there = [i for i, value in enumerate(values) if isinstance(value, Tensor) and value.device == device]
        for i, number in zip(there, torch.stack([values[i].double() for i in there]).tolist(), strict=True):
            numbers[i] = number
    return numbers


def _number(path: Path) -> int:
    return int(path.name.removeprefix("part-").split(".")[0])
