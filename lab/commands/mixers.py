"""`microtome mixers`: every token mixer as it fills in the one template Y = M·V."""

from typing import Annotated, Any

import typer

from microtome.lab.commands.terminal import print_json, print_table


def list_mixers(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """The token mixers as one table: what M in Y = M·V depends on, its structure, and what M·V costs for one head."""
    rows = mixer_rows()
    if as_json:
        print_json(rows)
        return
    print_table(("mixer", "M, and what it is", "cost"), map(_cells, rows), flexible="M, and what it is")


def mixer_rows() -> list[dict[str, Any]]:
    """One a mixer, in alphabetical order: its name, which directions it reads, and its template's fields."""
    from microtome.lab.zoo import registry

    rows = []
    for name in registry.names("mixers"):
        part = registry.load("mixers", name).Part
        reads = "causal" if part.causal_only else "bidirectional" if part.bidirectional_only else "both"
        rows.append({"mixer": name, "reads": reads, **vars(part.template)})
    return rows


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    """A row for people: M above what is said of it, without what goes without saying."""
    said = (
        "fixed" if row["depends"] == "nothing" else f"from the {row['depends']}",
        row["structure"],
        row["normalised"] and f"normalised by {row['normalised']}",
        row["local"] and f"local: {row['local']}",
        "" if row["reads"] == "both" else f"{row['reads']} only",
        "" if row["lengths"] == "any" else f"n {row['lengths']}",
    )
    return row["mixer"], f"{row['matrix']}\n{'; '.join(each for each in said if each)}", row["cost"]
