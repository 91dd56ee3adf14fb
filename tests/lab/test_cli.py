import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from matplotlib.figure import Figure

from microtome.lab import cli
from microtome.lab.rasp import library
from microtome.lab.zoo import registry
from microtome.theory import Check, Claim, Control, Evidence, Statement, claims, ledger
from microtome.theory import registry as statements

Result = SimpleNamespace
Command = Callable[..., Result]

STATEMENT = Statement("sums to one", "The numbers sum to one.", (), "Someone (2020), equation 1", "urpe")


def evidence(verdict: str, figure: Callable | None = None) -> Evidence:
    good, bad = Check("sum", 1.0, "==", 1.0), Check("sum", 2.0, "==", 1.0)
    return Evidence(
        kind="numeric",
        statement=STATEMENT,
        checks=(bad if verdict == "fails" else good,),
        control=Control("other numbers", (good if verdict == "vacuous" else bad,)),
        decided=verdict != "inconclusive",
        figure=figure,
    )


def claim(verdict: str, kind: str = "numeric", figure: Callable | None = None) -> Claim:
    return Claim(STATEMENT, kind, lambda budget, seed: evidence(verdict, figure))


@pytest.fixture
def microtome(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs a command line in an empty folder, on a terminal of 80 columns."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MICROTOME_RUNS", raising=False)
    monkeypatch.setenv("COLUMNS", "80")

    def run(*words: str) -> Result:
        with pytest.raises(SystemExit) as end:
            cli.main(words)
        printed = capsys.readouterr()
        return Result(code=end.value.code or 0, out=printed.out, err=printed.err)

    return run


def assert_refused(result: Result, *words: str) -> None:
    """One sentence on standard error, which holds the words, and exit code 2."""
    assert result.code == 2
    assert result.out == ""
    assert result.err.startswith("microtome: ")
    assert len(result.err.splitlines()) == 1, result.err
    for word in words:
        assert word in result.err


def test_help_names_every_command(microtome: Command) -> None:
    result = microtome("--help")
    assert result.code == 0
    for command in ("papers", "claims", "verify", "zoo", "compile", "programs", "train", "demo"):
        assert f" {command} " in result.out


@pytest.mark.parametrize(
    ("typed", "meant"),
    [(["paper"], "papers"), (["program"], "programs"), (["claims", "rn"], "run"), (["train", "ilc"], "icl")],
)
def test_a_mistyped_command_gets_a_hint(microtome: Command, typed: list[str], meant: str) -> None:
    result = microtome(*typed)
    assert result.code == 2
    assert f"Did you mean '{meant}'?" in result.err


def test_papers_are_computed_from_what_exists(microtome: Command) -> None:
    ledger.write("urpe", evidence("vacuous"))
    rows = {row["slug"]: row for row in json.loads(microtome("papers", "--json").out)}
    assert list(rows) == [paper.slug for paper in registry.papers()]
    assert {slug for slug, row in rows.items() if row["claim"]} == set(claims.available())
    assert {slug: row["verdict"] for slug, row in rows.items() if row["verdict"]} == {"urpe": "vacuous"}
    assert {slug: row["broken"] for slug, row in rows.items() if row["broken"]} == {}
    assert "microtome.lab.zoo.mixers.urpe" in rows["urpe"]["modules"]
    assert all(name in sys.modules for row in rows.values() for name in row["modules"])


def test_the_table_of_papers_fits_the_terminal(microtome: Command) -> None:
    ledger.write("urpe", evidence("holds"))
    result = microtome("papers")
    lines = result.out.splitlines()
    assert max(map(len, lines)) <= 80
    first = [line.split()[0] for line in lines if line[:2].strip()]
    assert [word for word in first if word != "slug" and "─" not in word] == [p.slug for p in registry.papers()]
    (urpe,) = (line for line in lines if line.split()[:1] == ["urpe"])
    assert urpe.split()[-1] == "holds"


def test_a_module_that_does_not_import_is_named(microtome: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = registry.Standing(registry.paper("urpe"), (), (("microtome.lab.zoo.mixers.urpe", "OSError: no"),))
    monkeypatch.setattr(registry, "papers", lambda: (broken.paper,))
    monkeypatch.setattr(registry, "standing", lambda paper: broken)
    result = microtome("papers")
    assert "broken" in result.out
    assert result.err == "microtome.lab.zoo.mixers.urpe does not import: OSError: no\n"


def test_claims_are_listed_with_their_last_verdict(microtome: Command) -> None:
    ledger.write("urpe", evidence("holds"))
    rows = {row["slug"]: row for row in json.loads(microtome("claims", "list", "--json").out)}
    assert set(rows) == set(claims.available())
    assert rows["urpe"]["verdict"] == "holds"
    assert rows["urpe"]["claim"] == claims.load("urpe").statement.text
    assert "urpe" in microtome("claims", "list").out


@pytest.mark.parametrize(("verdict", "code"), [("holds", 0), ("fails", 1), ("vacuous", 1), ("inconclusive", 3)])
def test_running_a_claim_leaves_its_verdict(
    microtome: Command, monkeypatch: pytest.MonkeyPatch, verdict: str, code: int
) -> None:
    monkeypatch.setattr(claims, "load", lambda slug: claim(verdict))
    result = microtome("claims", "run", "urpe", "--budget", "full")
    assert (result.code, verdict in result.out) == (code, True)
    stored = ledger.read("urpe")
    assert (stored.verdict, stored.budget) == (verdict, "full")
    assert str(Path("runs/verdicts/urpe.json")) in result.out


@pytest.mark.parametrize("options", [[], ["--figure", "pictures/mine.svg"]])
def test_the_figure_of_a_claim_is_drawn(
    microtome: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, options: list[str]
) -> None:
    monkeypatch.setattr(claims, "load", lambda slug: claim("holds", figure=Figure))
    path = options[-1] if options else "runs/figures/urpe.png"
    assert f"figure in {path}" in microtome("claims", "run", "urpe", *options).out
    assert (tmp_path / path).stat().st_size > 0


def test_an_unknown_claim_is_refused(microtome: Command) -> None:
    assert_refused(microtome("claims", "run", "upre"), "'upre'", "did you mean urpe")


def test_verify_runs_every_kind_in_turn(microtome: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    found = (claim("holds"), claim("inconclusive"), claim("fails"), claim("holds", kind="symbolic"))
    monkeypatch.setattr(statements, "listing", lambda kinds: [c for c in found if c.kind in (kinds or c.kind)])
    result = microtome("verify")
    assert result.code == 1
    lines = [line for line in result.out.splitlines() if not line.startswith(" ")]
    assert [line.split()[0] for line in lines] == ["holds", "holds", "inconclusive", "fails", "4"]
    assert lines[-1] == "4 checks: 2 holds, 1 inconclusive, 1 fails"
    assert "sum: 2, not == 1" in result.out
    assert len(json.loads(microtome("verify", "--json").out)) == 4
    assert microtome("verify", "--kind", "symbolic").code == 0


def test_verify_refuses_an_unknown_kind(microtome: Command) -> None:
    assert_refused(microtome("verify", "--kind", "symbol"), "'symbol'", "did you mean symbolic")


def test_the_zoo_lists_the_parts_of_each_slot(microtome: Command) -> None:
    parts = json.loads(microtome("zoo", "--json").out)
    assert parts == {slot: list(registry.names(slot)) for slot in registry.SLOTS}
    assert "softmax" in microtome("zoo").out


def test_an_example_program_is_compiled_and_drawn(microtome: Command, tmp_path: Path) -> None:
    options = ["--max-len", "3", "--input", "a,b,a", "--figure", "hist.png", "--html", "hist.html"]
    result = microtome("compile", "library:hist", *options)
    assert result.code == 0, result.err
    assert "decodes correctly on every input of 1 to 3 tokens" in result.out
    assert "head 0.0 computes hist" in result.out
    assert "MLP 0 to the end" in result.out
    assert "equals the interpreter on all 39 inputs" in result.out
    assert "['a', 'b', 'a'] -> [2, 1, 2]" in result.out
    assert (tmp_path / "hist.png").stat().st_size > 0
    assert "page in hist.html" in result.out
    assert "decodes correctly" in (tmp_path / "hist.html").read_text(encoding="utf-8")


def test_a_program_from_a_file_is_compiled(microtome: Command, tmp_path: Path) -> None:
    text = "from microtome.lab import rasp\nprogram = (rasp.tokens + 1).named('next')\n"
    (tmp_path / "plus.py").write_text(text)
    result = microtome("compile", "plus.py", "--vocab", "1, 2", "--max-len", "2", "--causal")
    assert "[1, 2] -> [2, 3]" in result.out
    assert "causal" in result.out
    assert "next" in result.out
    assert_refused(microtome("compile", "plus.py"), "--vocab")
    assert_refused(microtome("compile", "plus.py", "--vocab", "1,2", "--input", "3"), "3", "vocabulary")


def test_what_is_no_program_is_refused(microtome: Command, tmp_path: Path) -> None:
    assert_refused(microtome("compile", "none.py"), "none.py", "library:")
    assert_refused(microtome("compile", "library:hst"), "'hst'", "did you mean hist")
    assert_refused(microtome("compile", "library:hist", "--vocab", "a,,b"), "'a,,b'", "empty token")
    (tmp_path / "empty.py").touch()
    assert_refused(microtome("compile", "empty.py", "--vocab", "a"), "empty.py", "`program`")
    (tmp_path / "wrong.py").write_text("program = tokenz")
    assert_refused(microtome("compile", "wrong.py", "--vocab", "a"), "wrong.py:1 ", "NameError", "tokenz")
    (tmp_path / "number.py").write_text("program = 3")
    assert_refused(microtome("compile", "number.py", "--vocab", "a"), "number.py", "`program`")


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("program = (rasp.tokens +", ("SyntaxError", "was never closed")),
        ("program = {}['length']", ("KeyError", "'length'")),
        ("program = rasp.Map(lambda x: x + 1, rasp.tokens)", ("'a'", "can only concatenate str")),
        ("raise SystemExit", ("SystemExit",)),
    ],
)
def test_a_program_at_fault_is_refused_with_its_line(
    microtome: Command, tmp_path: Path, lines: str, words: tuple[str, ...]
) -> None:
    (tmp_path / "fault.py").write_text(f"from microtome.lab import rasp\n\n{lines}\n")
    assert_refused(microtome("compile", "fault.py", "--vocab", "a"), "fault.py:3", *words)


def test_the_programs_are_listed(microtome: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    found = library.examples()
    monkeypatch.setattr(library, "examples", lambda: found)
    rows = {row["name"]: row for row in json.loads(microtome("programs", "--json").out)}
    assert set(rows) == {example.name for example in found}
    assert rows["hist"]["vocab"] == ["a", "b", "c"]
    table = microtome("programs").out
    assert max(map(len, table.splitlines())) <= 80
    assert " hist " in table


def test_the_catalogue_of_programs_is_written(
    microtome: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = library.counting.examples()[:2]
    monkeypatch.setattr(library, "examples", lambda: found)
    result = microtome("programs", "--html", "all.html", "--max-len", "2")
    assert (result.code, result.out) == (0, "page in all.html\n")
    assert "inputs of 1 to 2 tokens" in (tmp_path / "all.html").read_text(encoding="utf-8")
    assert len(json.loads(microtome("programs", "--html", "all.html", "--max-len", "2", "--json").out)) == 2
    assert_refused(microtome("programs", "--html", "all.html", "--max-len", "0"), "max_len", "not 0")


def test_a_learner_is_trained_and_taken_up_again(microtome: Command, tmp_path: Path) -> None:
    words = ["train", "icl", "--dim", "2", "--steps", "3", "--d-model", "8", "--layers", "1", "--heads", "1"]
    result = microtome(*words)
    assert result.code == 0, result.err
    for word in ("exact Bayes", "learner (softmax)", "averaging", "run in runs/icl"):
        assert word in result.out
    assert_refused(microtome(*words), "runs/icl", "--resume", "--out")
    assert microtome(*words, "--resume").out == result.out
    assert_refused(microtome(*words, "--resume", "--seed", "1"), "seed")
    assert_refused(microtome(*words[:-1], "3", "--out", "other"), "heads")


TINY = ("--dim", "2", "--points", "5", "--steps", "2", "--d-model", "8", "--layers", "1", "--heads", "1")


def test_any_task_by_any_mixer_from_flags_and_files(microtome: Command, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("task: {name: fourier, frequencies: 2}\npoints: 5\ntrain: {steps: 2}\n")
    result = microtome("train", "icl", "--config", "run.yaml", "--mixer", "lstm", "--set", "task.noise_std=0.1")
    assert result.code == 0, result.err
    assert "learner (lstm)" in result.out
    assert "LinearRegression" in microtome("tasks").out
    assert_refused(microtome("train", "icl", "--task", "linera", "--out", "b"), "no task is called 'linera'")
    assert_refused(microtome("train", "icl", "--task", "fourier", "--dim", "3", "--out", "b"), "Fourier has no 'dim'")
    assert_refused(microtome("train", "icl", "--task", "no", "--out", "b"), "no task is called 'no'")
    assert_refused(microtome("train", "icl", "--config", "none.yaml", "--out", "b"), "none.yaml cannot be read")
    assert not (tmp_path / "b").exists()


def test_predictions_of_ones_own_rows(microtome: Command, tmp_path: Path) -> None:
    microtome("train", "icl", *TINY, "--set", "task.noise_std=0.5", "--out", "run")
    (tmp_path / "rows.csv").write_text("x1,x2,y\n1,0,0.9\n0,1,-0.4\n1,1,\n")
    rows = json.loads(microtome("predict", "run", "--prompt", "rows.csv", "--json").out)
    assert [row["y"] for row in rows] == [0.9, -0.4, None]
    # Ridge with λ = ¼ on two orthogonal rows: (0.9 − 0.4)/1.25; variance ¼ + 2·(1 − 1/1.25).
    assert rows[2]["Bayes"] == pytest.approx(0.4)
    assert rows[2]["Bayes high"] - rows[2]["Bayes"] == pytest.approx(1.644854 * 0.65**0.5, rel=1e-5)
    assert all(row["learner low"] < row["learner"] < row["learner high"] for row in rows)
    table = microtome("predict", "run", "--prompt", "rows.csv").out
    assert "90 %" in table
    assert "?" in table


def test_predictions_of_signs_are_probabilities(microtome: Command, tmp_path: Path) -> None:
    microtome("train", "icl", *TINY, "--task", "conjunction", "--out", "run")
    (tmp_path / "rows.csv").write_text("x1,x2,y\n1,-1,1\n-1,1,-1\n1,1,\n")
    rows = json.loads(microtome("predict", "run", "--prompt", "rows.csv", "--json").out)
    assert all(0 <= row[name] <= 1 for row in rows for name in ("learner P(+1)", "Bayes P(+1)"))
    (tmp_path / "rows.csv").write_text("x1,x2,y\n1,-1,0.5\n")
    assert_refused(microtome("predict", "run", "--prompt", "rows.csv"), "labels are −1 and +1")


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        ("x1,x2,y\n1,nan,0.9\n", "line 2: x2 must be a finite number, not 'nan'"),
        ("x1,x2,y\n1,many,0.9\n", "line 2: x2 must be a finite number, not 'many'"),
        ("x1,x2,y\n1,,0.9\n", "line 2: x2 is empty; only y of the last row may be"),
        ("x1,x2,y\n1,2,\n1,2,3\n", "line 2: y is empty"),
        ("x1,y\n1,0.9\n", "must have the columns x1, x2, y in this order, not x1, y"),
        ("x1,x2,y\n", "has no rows"),
        ("x1,x2,y\n" + "1,2,3\n" * 6, "has 6 rows, and the learner takes prompts of at most 5"),
    ],
)
def test_rows_that_are_no_prompt_get_a_sentence(microtome: Command, tmp_path: Path, table: str, sentence: str) -> None:
    microtome("train", "icl", *TINY, "--out", "run")
    (tmp_path / "rows.csv").write_text(table)
    assert_refused(microtome("predict", "run", "--prompt", "rows.csv"), sentence)


def test_predict_says_what_it_lacks(microtome: Command, tmp_path: Path) -> None:
    assert_refused(microtome("predict", "run", "--prompt", "rows.csv"), "run holds no run")
    microtome("train", "icl", *TINY, "--out", "run")
    assert_refused(microtome("predict", "run", "--prompt", "rows.csv"), "rows.csv is no file")
    assert_refused(microtome("predict", "run", "--prompt", "rows.csv", "--level", "2"), "level must lie", "not 2")
    (tmp_path / "rows.csv").write_text("x1,x2,y\n1,0,3\n0,1,3\n1,1,3\n")
    assert "every y of this prompt is 3" in microtome("predict", "run", "--prompt", "rows.csv").err


def test_the_demo_gets_its_folder(microtome: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr("microtome.theory.demo.run", lambda out, quick: calls.append((out, quick)))
    assert microtome("demo").code == 0
    assert microtome("demo", "--out", "here", "--quick").code == 0
    assert calls == [(Path("runs/demo"), False), (Path("here"), True)]


def test_debug_shows_where_an_error_comes_from() -> None:
    for words in (["--debug", "claims", "run", "upre"], ["claims", "run", "upre", "--debug"]):
        with pytest.raises(KeyError, match="upre"):
            cli.main(words)


@pytest.mark.parametrize("fault", [KeyError("blocks.0"), RuntimeError("shapes do not fit"), IndexError("7")])
def test_a_fault_of_the_lab_is_not_passed_off_as_the_users(monkeypatch: pytest.MonkeyPatch, fault: Exception) -> None:
    def names(slot: str) -> tuple[str, ...]:
        raise fault

    monkeypatch.setattr(registry, "names", names)
    with pytest.raises(type(fault)):
        cli.main(["zoo"])
