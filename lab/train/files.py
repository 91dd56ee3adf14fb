"""Files that are either whole or absent, whenever the process is killed."""

import os
from pathlib import Path


def write_whole(path: Path, content: bytes) -> None:
    """Writes beside the target, flushes to disk, then renames over it."""
    beside = path.with_name(path.name + ".tmp")
    try:
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
    # The rename itself is only durable once the directory is.
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
