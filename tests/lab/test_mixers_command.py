"""`microtome mixers`: one row for every mixer of the registry, as it describes itself."""

import json

import pytest

from microtome.lab import zoo
from microtome.lab.cli import main


def output(capsys, *arguments):
    with pytest.raises(SystemExit) as end:
        main(["mixers", *arguments])
    assert end.value.code in (0, None)
    return capsys.readouterr().out


def test_every_mixer_has_a_row_with_its_template(capsys):
    rows = json.loads(output(capsys, "--json"))
    assert [row["mixer"] for row in rows] == list(zoo.names("mixers"))
    by_name = {row["mixer"]: row for row in rows}
    assert by_name["fnet"]["depends"] == "nothing"
    assert by_name["fnet"]["reads"] == "bidirectional"
    assert by_name["s4d"]["reads"] == "causal"
    assert by_name["mlp_mixer"]["lengths"] == "at most n_ctx"
    assert all(row["matrix"] and row["structure"] and row["cost"] for row in rows)


def test_the_table_names_them_all(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    printed = output(capsys)
    for name in zoo.names("mixers"):
        assert name in printed
    assert "softmax(QKᵀ/√d + B)" in printed
