"""What may watch a run without the trainer knowing it."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

from torch import Tensor

from microtome.lab.train.run import Run


class Callback:
    """Base of everything that watches a run. Each method does nothing; a subclass gives those that it needs.

    The order within step t: `around_forward(t)`, forward, backward, optimiser step, `on_step_end(t, loss)`.
    A step that turns out non-finite is not shown to `on_step_end` on the CPU; an accelerator may show up to
    `CHECK_EVERY` (`guard.py`) more before the run stops.
    """

    name: str = "callback"
    """Names the callback's state in checkpoints; unique within a run."""

    def on_start(self, run: Run) -> None:
        """Before the first step, after a checkpoint, if any, has been restored; `run.model` is on its device."""

    def around_forward(self, step: int) -> AbstractContextManager | None:
        """A context for this step's forward pass, such as one that attaches hooks; None where none is needed."""

    def on_step_end(self, step: int, loss: Tensor) -> Mapping[str, Tensor | float] | None:
        """Metrics of this step, scalars by name, or None.

        Tensors are read by the host at the next log point only, so a callback that returns tensors costs no wait.
        """

    def progress(self) -> Mapping[str, str]:
        """Fields to add to the progress line, asked for at log points."""
        return {}

    def state_dict(self) -> Mapping[str, Any]:
        """State to put in checkpoints: a flat mapping from names to tensors or JSON values."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes back what `state_dict` gave when the checkpoint was written."""
