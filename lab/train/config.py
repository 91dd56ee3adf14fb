"""What fixes a training run, beside the model and the objective."""

import dataclasses
import difflib
import math
from dataclasses import dataclass
from typing import Any

import torch

from microtome.lab.train.schedule import SCHEDULES

OPTIMIZERS = ("adam", "adamw")
PRECISIONS = ("float32", "bf16")


@dataclass(frozen=True)
class TrainConfig:
    """The options of a run, all recorded with it.

    Attributes:
        steps: optimiser steps, at least 1.
        optimizer: "adam" (weight decay added to the gradient) or "adamw" (decoupled), both fused.
        lr: peak learning rate, positive.
        betas: decay rates of the two moments, each in [0, 1).
        eps: added to the root of the second moment, positive.
        weight_decay: on all parameters, non-negative.
        warmup: fraction of the steps in which the rate rises linearly, in [0, 1].
        schedule: "constant", "linear", "cosine" or "inverse_sqrt" after the warm-up.
        clip: largest global norm of the gradient, positive; None leaves gradients alone.
        precision: "float32", or "bf16" for autocast where the device computes in bfloat16.
        seed: of the data and of the model's own randomness.
        log_every: steps between logged values; the only points at which the host waits for the device.
        checkpoint_every: steps between checkpoints.
        device: as `torch.device` takes it, "cpu" or "cuda[:index]".

    Raises:
        ValueError: if a value is outside its range.
    """

    steps: int
    optimizer: str = "adam"
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    warmup: float = 0.0
    schedule: str = "constant"
    clip: float | None = None
    precision: str = "float32"
    seed: int = 0
    log_every: int = 10
    checkpoint_every: int = 1000
    device: str = "cpu"

    def __post_init__(self):
        for field in ("steps", "log_every", "checkpoint_every"):
            _require(getattr(self, field) >= 1, field, getattr(self, field), "at least 1")
        for field in ("lr", "eps"):
            value = getattr(self, field)
            _require(math.isfinite(value) and value > 0, field, value, "finite and positive")
        _require(all(0 <= b < 1 for b in self.betas), "betas", self.betas, "two numbers in [0, 1)")
        decay = self.weight_decay
        _require(math.isfinite(decay) and decay >= 0, "weight_decay", decay, "finite and not negative")
        _require(0 <= self.warmup <= 1, "warmup", self.warmup, "a fraction of the run in [0, 1]")
        if self.clip is not None:
            _require(math.isfinite(self.clip) and self.clip > 0, "clip", self.clip, "finite and positive, or None")
        _one_of("optimizer", self.optimizer, OPTIMIZERS)
        _one_of("schedule", self.schedule, SCHEDULES)
        _one_of("precision", self.precision, PRECISIONS)

    def to_dict(self) -> dict[str, Any]:
        """The options as JSON holds them."""
        return dataclasses.asdict(self) | {"betas": list(self.betas)}

    @classmethod
    def from_dict(cls, options: dict[str, Any]) -> "TrainConfig":
        """The inverse of `to_dict`."""
        return cls(**options | {"betas": tuple(options["betas"])})


def resolve_device(config: TrainConfig) -> torch.device:
    """The device of a run, checked to exist here and to compute in the precision asked for.

    Raises:
        ValueError: if the device is unknown or missing, or lacks the bfloat16 arithmetic of `precision` "bf16".
    """
    try:
        device = torch.device(config.device)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise ValueError(f"device must be 'cpu' or 'cuda[:index]', not {config.device!r}.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"device {config.device!r} is not here: torch sees {torch.cuda.device_count()} CUDA devices; use 'cpu'."
        )
    if config.precision == "bf16" and not _computes_in_bf16(device):
        raise ValueError(f"precision 'bf16' needs bfloat16 arithmetic, which {config.device!r} lacks; use 'float32'.")
    return device


def _computes_in_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    here = torch.cpu.get_capabilities()
    return any(here.get(feature, False) for feature in ("avx512_bf16", "amx_bf16", "bf16"))


def _require(condition: bool, field: str, value: object, allowed: str) -> None:
    if not condition:
        raise ValueError(f"{field} must be {allowed}, not {value!r}.")


def _one_of(field: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        near = difflib.get_close_matches(value, allowed, n=1, cutoff=0.4)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        raise ValueError(f"{field} must be one of {', '.join(allowed)}, not {value!r}{hint}")
