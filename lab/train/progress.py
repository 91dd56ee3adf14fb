"""One live line: step, latest logged values, steps per second, time left."""

import time
from collections.abc import Mapping
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

REFRESH_SECONDS = 0.25


class _Speed(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f} steps/s" if task.speed else "")


class ProgressLine:
    """A line on standard error that lives within the context; silent unless wanted and on a terminal.

    Args:
        steps: length of the run.
        start: step at which it starts or resumes.
        wanted: False keeps it silent everywhere.
    """

    def __init__(self, steps: int, start: int, wanted: bool):
        self.console = Console(stderr=True)
        # The line is drawn from the training loop: a drawing thread would take time from the two or so cores.
        self._progress = Progress(
            TextColumn("step"),
            MofNCompleteColumn(),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[values]}"),
            _Speed(),
            TimeRemainingColumn(),
            console=self.console,
            auto_refresh=False,
            disable=not (wanted and self.console.is_terminal),
        )
        self._task = self._progress.add_task("train", total=steps, completed=start, values="")
        self._drawn = 0.0

    def __enter__(self) -> "ProgressLine":
        self._progress.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._progress.stop()

    def advance(self, done: int) -> None:
        """Says how many steps are done; draws at most every quarter of a second."""
        if self._progress.disable:
            return
        now = time.monotonic()
        if now - self._drawn >= REFRESH_SECONDS:
            self._drawn = now
            self._progress.update(self._task, completed=done, refresh=True)

    def show(self, values: Mapping[str, str]) -> None:
        """Sets the values beside the bar."""
        self._progress.update(self._task, values="  ".join(f"{name} {value}" for name, value in values.items()))

    def say(self, message: str) -> None:
        """Prints a line for good, on a terminal or not."""
        self.console.print(message, highlight=False, soft_wrap=True, markup=False)
