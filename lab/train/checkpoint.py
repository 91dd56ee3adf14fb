"""Checkpoint files: one safetensors file each, whole or absent, verified by the hash in its name.

`step-000001000-3f….safetensors` holds the tensors under flat names, and in its header the JSON of everything
else. The newest two are kept; when the newest is damaged, the one before it is used and a warning says so.
"""

import hashlib
import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from microtome.lab.train.files import write_whole

KEEP = 2


class CheckpointError(RuntimeError):
    """A checkpoint cannot be read, or does not fit what it is to be restored into."""


@dataclass(frozen=True)
class Checkpoint:
    """The state after `step` optimiser steps.

    Attributes:
        step: optimiser steps done.
        tensors: model, optimiser and callback tensors by flat name.
        rest: everything that is not a tensor, as JSON holds it.
    """

    step: int
    tensors: Mapping[str, Tensor]
    rest: Mapping[str, Any]

    def under(self, prefix: str) -> dict[str, Tensor]:
        """The tensors whose names start with the prefix, by the rest of their names."""
        return {n.removeprefix(prefix): tensor for n, tensor in self.tensors.items() if n.startswith(prefix)}


def write(checkpoint: Checkpoint, folder: Path) -> Path:
    """Writes the checkpoint durably, then removes all but it and the one before.

    Checkpoints of later steps go too: they can only be damaged ones that a resumed run has stepped back from.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for unfinished in folder.glob("*.tmp"):
        unfinished.unlink()
    header = json.dumps({"step": checkpoint.step, "rest": dict(checkpoint.rest)})
    content = safetensors.torch.save(dict(checkpoint.tensors), metadata={"microtome": header})
    path = folder / f"step-{checkpoint.step:09d}-{_digest(content)}.safetensors"
    write_whole(path, content)
    others = [other for other in _newest_first(folder) if other != path]
    before = [other for other in others if _step(other) < checkpoint.step]
    for stale in set(others) - set(before[: KEEP - 1]):
        stale.unlink()
    return path


def read(path: Path) -> Checkpoint:
    """Reads one file.

    Raises:
        CheckpointError: if the content is not what was written.
    """
    content = path.read_bytes()
    if _digest(content) != path.stem.rsplit("-", 1)[-1]:
        raise CheckpointError(f"{path} is damaged: its content does not have the hash in its name.")
    header_length = int.from_bytes(content[:8], "little")
    header = json.loads(json.loads(content[8 : 8 + header_length])["__metadata__"]["microtome"])
    return Checkpoint(header["step"], safetensors.torch.load(content), header["rest"])


def newest(folder: Path) -> tuple[Path, Checkpoint] | None:
    """The newest undamaged checkpoint and its path, or None where there is no checkpoint.

    Each damaged newer one is named in a warning.

    Raises:
        CheckpointError: if there are checkpoints and all are damaged.
    """
    paths = _newest_first(folder)
    for path in paths:
        try:
            return path, read(path)
        except CheckpointError as error:
            warnings.warn(f"{error} Falling back to the checkpoint before it.", stacklevel=2)
    if paths:
        raise CheckpointError(f"no checkpoint in {folder} is readable: all {len(paths)} are damaged.")
    return None


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*.safetensors"), key=_step, reverse=True)


def _step(path: Path) -> int:
    return int(path.name.split("-")[1])


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=8).hexdigest()
