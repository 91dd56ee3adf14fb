"""Executes the notebooks of this folder in place: `python notebooks/run.py [FILE ...]`, all of them by default.

Timestamps are not recorded, so that a notebook changes only where its results do.
"""

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError


def execute(path: Path) -> None:
    """Runs one notebook in its own folder and writes it back; a cell that fails leaves the file as it was."""
    print(f"== {path}", flush=True)
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(notebook, kernel_name="python3", record_timing=False, timeout=600)
    client.execute(cwd=str(path.parent))
    nbformat.write(notebook, path)


def main(arguments: list[str]) -> None:
    paths = [Path(argument) for argument in arguments] or sorted(Path(__file__).parent.glob("*.ipynb"))
    if not paths:
        print("notebooks/ holds no notebooks yet.")
    for path in paths:
        try:
            execute(path)
        except CellExecutionError as error:
            sys.exit(f"{path} stopped: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
