"""What the commands print: tables for people, JSON for programs, one red sentence for an error."""

import json
from collections.abc import Iterable, Sequence

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

_VERDICT_COLOURS = {"holds": "green", "fails": "red", "vacuous": "magenta", "inconclusive": "yellow"}


def print_json(value: object) -> None:
    """Prints nested lists and dictionaries of plain values."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[str | Text]], *, flexible: str, clip: bool = False
) -> None:
    """Prints rows under their headings, at most as wide as the terminal.

    Args:
        columns: the headings.
        rows: their cells.
        flexible: the column that gives way where space is short.
        clip: whether its cells are then cut to one line; otherwise they are folded.
    """
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, no_wrap=column != flexible, overflow="fold")
    for row in rows:
        cells = [cell if isinstance(cell, Text) else Text(cell) for cell in row]
        # The cell refuses to wrap, not the column: rich takes width only from columns that may.
        cells[columns.index(flexible)].no_wrap = clip
        cells[columns.index(flexible)].overflow = "ellipsis" if clip else "fold"
        table.add_row(*cells)
    Console(highlight=False).print(table)


def print_text(text: str | Text, indent: int = 0) -> None:
    """Prints text folded between words, all of its lines indented."""
    Console(highlight=False).print(Padding(text if isinstance(text, Text) else Text(text), (0, 0, 0, indent)))


def coloured(verdict: str | None, *rest: str) -> Text:
    """A verdict in its colour, a dash for none, and plain text after it."""
    return Text.assemble((verdict or "–", _VERDICT_COLOURS.get(verdict, "")), *rest)


def print_error(error: Exception) -> None:
    """Prints an exception's sentence in red on standard error."""
    # str(KeyError) is the repr of its sentence.
    sentence = error.args[0] if isinstance(error, KeyError) and error.args else error
    typer.secho(f"microtome: {sentence}", fg="red", err=True)
