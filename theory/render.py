"""Evidence on a terminal: a table with one row a statement, parts indented beneath."""

from collections.abc import Iterable

from rich.table import Table
from rich.text import Text

from microtome.theory.evidence import Check, Evidence

_STYLES = {"holds": "green", "fails": "bold red", "vacuous": "magenta", "inconclusive": "yellow"}


def table(evidences: Iterable[Evidence], title: str | None = None) -> Table:
    """The evidence as a rich table: paper, statement, kind, verdict, what was measured, the control, seconds."""
    shown = Table(title=title, show_lines=True)
    for column in ("paper", "statement", "kind", "verdict", "measured", "control that must fail"):
        shown.add_column(column, overflow="fold")
    shown.add_column("s", justify="right")
    for evidence in evidences:
        _add(shown, evidence, depth=0)
    return shown


def verdict(evidence: Evidence) -> Text:
    """The verdict as one coloured word."""
    return Text(evidence.verdict, style=_STYLES[evidence.verdict])


def _add(shown: Table, evidence: Evidence, depth: int) -> None:
    control = evidence.control
    shown.add_row(
        evidence.statement.slug,
        Text("  " * depth + evidence.statement.name),
        evidence.kind,
        verdict(evidence),
        _lines(evidence.checks),
        Text("none") if control is None else Text(f"{control.description}\n").append_text(_lines(control.checks)),
        f"{evidence.seconds:.1f}",
    )
    for part in evidence.parts:
        _add(shown, part, depth + 1)


def _lines(checks: tuple[Check, ...]) -> Text:
    lines = [
        Text(f"{check.name} = {check.measured:.6g} ({check.threshold})", style="" if check.passes else "red")
        for check in checks
    ]
    return Text("\n").join(lines)
