"""Stored verdicts: written whole, read back, and no corrupt file in the way."""

import os

import pytest

from microtome.theory import Check, Control, Evidence, Statement, ledger


def evidence(measured=1.0):
    return Evidence(
        "empirical",
        Statement("name", "text", ("hypothesis",), "source", "urpe"),
        (Check("x", measured, "<=", 2),),
        Control("spoilt", (Check("x", 3, "<=", 2),)),
        seed=4,
    )


def test_what_is_written_is_read(tmp_path):
    path = ledger.write("urpe", evidence(), tmp_path)
    assert tmp_path in path.parents
    assert ledger.read("urpe", tmp_path) == evidence()
    assert ledger.read_all(tmp_path) == {"urpe": evidence()}


def test_the_last_word_wins_and_nothing_else_stays(tmp_path):
    ledger.write("urpe", evidence(1.0), tmp_path)
    path = ledger.write("urpe", evidence(5.0), tmp_path)
    assert ledger.read("urpe", tmp_path).verdict == "fails"
    assert os.listdir(path.parent) == [path.name]


def test_a_failed_write_leaves_the_previous_verdict(tmp_path, monkeypatch):
    path = ledger.write("urpe", evidence(), tmp_path)
    monkeypatch.setattr(type(path), "replace", lambda self, target: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        ledger.write("urpe", evidence(5.0), tmp_path)
    assert ledger.read("urpe", tmp_path) == evidence()
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b'{"kind": "numeric"}', b"[1, 2]"])
def test_a_corrupt_file_is_no_verdict(tmp_path, content):
    path = ledger.write("urpe", evidence(), tmp_path)
    ledger.write("sigma_reparam", evidence(), tmp_path)
    path.write_bytes(content)
    assert ledger.read("urpe", tmp_path) is None
    assert list(ledger.read_all(tmp_path)) == ["sigma_reparam"]
    ledger.write("urpe", evidence(), tmp_path)
    assert ledger.read("urpe", tmp_path) == evidence()


def test_nothing_stored_is_no_verdict(tmp_path):
    assert ledger.read("urpe", tmp_path / "absent") is None
    assert ledger.read_all(tmp_path / "absent") == {}


def test_the_default_folder_follows_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("MICROTOME_RUNS", str(tmp_path / "elsewhere"))
    assert ledger.write("urpe", evidence()).is_relative_to(tmp_path / "elsewhere")
    assert ledger.read("urpe") == evidence()
    monkeypatch.delenv("MICROTOME_RUNS")
    monkeypatch.chdir(tmp_path)
    assert ledger.read("urpe") is None
    assert ledger.write("urpe", evidence()).resolve().is_relative_to(tmp_path / "runs")


@pytest.mark.parametrize("slug", ["../urpe", "", "a b", "Urpe", "urpe.json"])
def test_a_slug_that_cannot_name_a_file_is_refused(tmp_path, slug):
    with pytest.raises(ValueError, match="cannot name a verdict; allowed are"):
        ledger.write(slug, evidence(), tmp_path)
    with pytest.raises(ValueError, match="cannot name a verdict; allowed are"):
        ledger.read(slug, tmp_path)
