"""Training for its own sake: the model is changed in place, and of the run nothing is kept."""

import tempfile
from pathlib import Path

from torch import nn

from microtome.lab.train.callbacks import Callback
from microtome.lab.train.config import TrainConfig
from microtome.lab.train.objective import Objective
from microtome.lab.train.trainer import train


def fit(model: nn.Module, objective: Objective, config: TrainConfig, callbacks: tuple[Callback, ...] = ()) -> None:
    """Trains the model in place, silently, in a folder that is thrown away.

    Raises:
        NonFiniteLoss: if training diverges.
    """
    with tempfile.TemporaryDirectory() as folder:
        train(model, objective, config, Path(folder) / "run", callbacks=callbacks, progress=False)
