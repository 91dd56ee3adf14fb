"""The arena's tasks with the models and the training that belong to each, at the published sizes and at small ones."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from microtome.lab.spelling import near
from microtome.lab.tasks.long_range import (
    PATH_32,
    PATH_X,
    SMALL,
    Image,
    ListOps,
    Pathfinder,
    Retrieval,
    SequenceClassification,
    SourcePassages,
    Text,
    TwoMarks,
)
from microtome.lab.train import TrainConfig

ARENA_TASKS = ("listops", "text", "retrieval", "image", "pathfinder")
"""The five that the published average is over."""
ARENA_MIXERS = (
    "softmax",
    "local",
    "sparse",
    "longformer",
    "linformer",
    "reformer",
    "sinkhorn",
    "synthesizer",
    "bigbird",
    "linear_attention",
    "performer",
)
"""The published eleven, in the order of the paper's table."""
SIZES = ("small", "paper")
BETAS, DECAY, RATE = (0.9, 0.98), 0.1, 0.05


@dataclass(frozen=True)
class Setting:
    """One task with what is trained on it.

    Attributes:
        task: what is drawn.
        model: `d_model`, `n_layers`, `n_heads`, `position`, and the feed-forward's `d_mlp`.
        batch, steps: of the training.
        pool: what a classifier reads, where its mixer allows: "cls" or "mean".
        warm: steps until the published rate 0.05·min(1, t/w)/√max(t, w) begins to fall; None for a cosine of `lr`.
        lr: peak rate of the cosine.
        mixers: options of mixers by name, where blocks and windows of their own defaults do not fit.
        test: fresh examples of the test, where the task has no stored test set.
    """

    task: SequenceClassification
    model: Mapping[str, Any]
    batch: int
    steps: int
    pool: str = "cls"
    warm: int | None = None
    lr: float = 1e-3
    mixers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    test: int = 2000

    def train(self, steps: int, seed: int) -> TrainConfig:
        """The optimiser and its rate over so many steps: Adam with decoupled decay, as the published code has it."""
        common = {"steps": steps, "optimizer": "adamw", "betas": BETAS, "weight_decay": DECAY, "seed": seed}
        common["checkpoint_every"] = max(1, steps // 4)
        if self.warm is None:
            return TrainConfig(lr=self.lr, schedule="cosine", warmup=0.1, clip=1.0, **common)
        # A run that ends while the rate still rises has its peak at its end.
        risen = min(1.0, steps / self.warm)
        rate = RATE * risen / math.sqrt(self.warm)
        return TrainConfig(lr=rate, schedule="inverse_sqrt", warmup=min(1.0, self.warm / steps), **common)


_SMALL_MODEL = {"d_model": 32, "n_layers": 2, "n_heads": 4, "d_mlp": 64, "position": "sinusoidal"}
_SMALL_MIXERS = {
    "local": {"block": 16},
    "sparse": {"block": 16, "summary": 3},
    "longformer": {"window": 32},
    "linformer": {"rank": 16},
    "reformer": {"n_buckets": 4},
    "sinkhorn": {"block": 16},
    "bigbird": {"block": 16, "random": 1},
    "performer": {"n_features": 32},
}
_PAPER_MIXERS = {"reformer": {"n_buckets": 10}}
_PAPER_PIXELS = {**_PAPER_MIXERS, "local": {"block": 64}}


def _small(task: SequenceClassification, **changes: Any) -> Setting:
    common = {"model": _SMALL_MODEL, "batch": 16, "steps": 200, "lr": 2e-3, "mixers": _SMALL_MIXERS, "test": 500}
    return Setting(task, **(common | changes))


def _model(d_model: int, n_layers: int, n_heads: int, d_mlp: int, position: str = "sinusoidal") -> dict[str, Any]:
    return {"d_model": d_model, "n_layers": n_layers, "n_heads": n_heads, "d_mlp": d_mlp, "position": position}


def _small_settings() -> dict[str, Setting]:
    learned = {**_SMALL_MODEL, "position": "learned"}
    return {
        "listops": _small(ListOps(20, 100, 5, 5)),
        "text": _small(Text(128)),
        "source": _small(SourcePassages(256)),
        "retrieval": _small(Retrieval(64, ngram=1)),
        "image": _small(Image(), model=learned),
        "pathfinder": _small(Pathfinder(SMALL), pool="mean"),
        "marks": _small(TwoMarks(128, 64, 1)),
    }


def _paper_settings() -> dict[str, Setting]:
    text = _model(256, 4, 4, 1024)
    pixels = {"model": _model(128, 4, 4, 256), "batch": 256, "steps": 125_000, "pool": "mean", "mixers": _PAPER_PIXELS}
    by_bytes = {"batch": 32, "steps": 20_000, "warm": 8000, "mixers": _PAPER_MIXERS}
    return {
        "listops": Setting(ListOps(), _model(512, 4, 8, 1024), batch=32, steps=5000, warm=1000, mixers=_PAPER_MIXERS),
        "text": Setting(Text(4000, shortest=1000), text, **by_bytes),
        "source": Setting(SourcePassages(4000), text, **by_bytes),
        "retrieval": Setting(Retrieval(), _model(128, 4, 4, 512), **(by_bytes | {"steps": 5000})),
        "image": Setting(
            Image(32), _model(128, 4, 4, 256, "learned"), batch=32, steps=9000, lr=5e-4, mixers=_PAPER_PIXELS
        ),
        "pathfinder": Setting(Pathfinder(PATH_32), **pixels),
        "path_x": Setting(Pathfinder(PATH_X), **pixels),
        "marks": Setting(TwoMarks(), text, **by_bytes),
    }


def settings(sizes: str) -> dict[str, Setting]:
    """Every task of these sizes by name.

    The widths of the image models, which the paper does not print, are chosen; so is what stands in for its data.

    Raises:
        ValueError: for sizes other than "small" and "paper".
    """
    if sizes not in SIZES:
        raise ValueError(f"sizes are {' or '.join(SIZES)}, not {sizes!r}{near(sizes, SIZES)}.")
    return _small_settings() if sizes == "small" else _paper_settings()
