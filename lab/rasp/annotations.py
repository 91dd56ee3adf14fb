"""What an expression carries beside its meaning: a name, an encoding, the line that made it, and a user's own notes."""

import difflib
import enum
import os
import sys
from collections.abc import Iterator, Mapping
from types import FrameType


class Encoding(enum.Enum):
    """How an s-op is held in the residual stream: a direction for each value, or one direction for the number."""

    CATEGORICAL = "categorical"
    NUMERICAL = "numerical"


class Annotations(Mapping):
    """A read-only mapping; a missing key raises KeyError with the nearest one that is there."""

    def __init__(self, **entries: object):
        self._entries = entries

    def __getitem__(self, key: str) -> object:
        if key not in self._entries:
            near = difflib.get_close_matches(str(key), self._entries, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(map(repr, self._entries))}"
            raise KeyError(f"the expression has no annotation {key!r}; {hint}")
        return self._entries[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{key}={value!r}' for key, value in self._entries.items())})"


_ROOM = __name__.rpartition(".")[0]
_PROGRAMS = f"{_ROOM}.library"
_BUILDERS = frozenset({"dataclasses", "copy", "jaxtyping", "beartype"})
"""Modules whose frames stand between a program's line and the expression: they copy it or check its types."""


def written_at() -> str | None:
    """The line of the program that is making an expression, as "file.py:12"; None where no program is."""
    frame = sys._getframe(1)
    while frame is not None and _between(frame):
        frame = frame.f_back
    if frame is None or frame.f_code.co_filename.startswith("<frozen"):
        return None
    return f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno}"


def _between(frame: FrameType) -> bool:
    module = frame.f_globals.get("__name__", "")
    if module.startswith(_ROOM):
        return not module.startswith(_PROGRAMS) or frame.f_code.co_filename.startswith("<@")
    return module.partition(".")[0] in _BUILDERS or frame.f_code.co_filename.startswith("<@beartype")
