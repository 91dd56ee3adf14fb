"""The table of evidence shows every verdict, measured number, threshold and control."""

import io

import pytest
from rich.console import Console

from microtome.theory import Check, Control, Evidence, Statement, render


def evidence(name, **fields):
    statement = Statement(name, "text", (), "source", "urpe")
    checks = (Check("spread", 1.5e-9, "<=", 1e-5),)
    control = Control("outside", (Check("spread", 2.5, "<=", 1e-5),))
    return Evidence(**{"kind": "numeric", "statement": statement, "checks": checks, "control": control, **fields})


def shown(*evidences):
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(render.table(evidences, title="Evidence"))
    return console.export_text()


def test_a_row_says_all_that_was_found():
    text = shown(evidence("rows stay"))
    for part in ("urpe", "rows stay", "numeric", "holds", "spread = 1.5e-09 (<= 1e-05)", "outside", "spread = 2.5"):
        assert part in text


def test_parts_stand_beneath_their_whole():
    whole = evidence("whole", parts=(evidence("part one"), evidence("part two", decided=False)))
    text = shown(whole)
    assert text.index("whole") < text.index("  part one") < text.index("  part two")
    assert text.count("inconclusive") == 2


def test_a_missing_control_is_named_as_missing():
    assert "none" in shown(evidence("bare", control=None))


@pytest.mark.parametrize("name", ["[bold]not markup[/bold]", "A⁻¹ ≤ ½"])
def test_names_are_shown_as_they_are(name):
    assert name in shown(evidence(name))
