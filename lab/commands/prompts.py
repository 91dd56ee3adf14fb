"""A user's own (x, y) rows out of a CSV file."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Rows:
    """One prompt.

    Attributes:
        xs: a list of numbers for every row.
        ys: the labels; None where a row only asks.
    """

    xs: list[list[float]]
    ys: list[float | None]


def read_rows(path: Path, dim: int) -> Rows:
    """The rows of a file with a header of `dim` columns of x and then y; y may be empty in the last row.

    Raises:
        ValueError: in one sentence, with the line, if the file cannot be read, has other columns, no rows, or a cell
            that is not a finite number.
    """
    import polars as pl

    if not path.is_file():
        raise ValueError(f"{path} is no file; give a CSV with one row a pair.")
    try:
        table = pl.read_csv(path, infer_schema=False)
    except pl.exceptions.PolarsError as error:
        raise ValueError(f"{path} is no CSV table: {str(error).splitlines()[0]}.") from error
    names = [name.strip() for name in table.columns]
    if not names or names[-1] != "y" or len(names) != dim + 1:
        wanted = ", ".join([*(f"x{i + 1}" for i in range(dim)), "y"])
        raise ValueError(f"{path} must have the columns {wanted} in this order, not {', '.join(names)}.")
    if table.is_empty():
        raise ValueError(f"{path} has no rows; a prompt needs at least one.")
    cells = [
        [_number(path, line, name, cell) for name, cell in zip(names, row, strict=True)]
        for line, row in enumerate(table.iter_rows(), start=2)
    ]
    for line, row in enumerate(cells, start=2):
        empty = [name for name, cell in zip(names, row, strict=True) if cell is None]
        if empty and not (empty == ["y"] and line == len(cells) + 1):
            raise ValueError(f"{path}, line {line}: {empty[0]} is empty; only y of the last row may be.")
    return Rows([row[:-1] for row in cells], [row[-1] for row in cells])


def _number(path: Path, line: int, column: str, cell: Any) -> float | None:
    text = (cell or "").strip()
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{path}, line {line}: {column} must be a finite number, not {text!r}.")
    return value
