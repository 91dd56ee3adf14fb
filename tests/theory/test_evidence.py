"""Verdicts are computed from what was measured: every way to reach each of the four, and nothing rounded up."""

import math
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microtome.theory import KINDS, Check, Claim, Control, Evidence, Statement

PASS, FAIL = Check("x", 1, "<=", 2), Check("x", 3, "<=", 2)
FAILING_CONTROL, PASSING_CONTROL = Control("spoilt", (FAIL,)), Control("just as good", (PASS,))


def statement(name="name"):
    return Statement(name, "text", ("a hypothesis",), "source", "urpe")


def evidence(*checks, name="name", **fields):
    return Evidence(**{"kind": "numeric", "statement": statement(name), "checks": checks, **fields})


HOLDS = evidence(PASS, control=FAILING_CONTROL, name="holds")
FAILS = evidence(FAIL, control=FAILING_CONTROL, name="fails")
VACUOUS = evidence(PASS, control=PASSING_CONTROL, name="vacuous")
INCONCLUSIVE = evidence(PASS, control=FAILING_CONTROL, decided=False, name="inconclusive")


@pytest.mark.parametrize("one", [HOLDS, FAILS, VACUOUS, INCONCLUSIVE], ids=lambda one: one.statement.name)
def test_each_verdict_from_its_cause(one):
    assert one.verdict == one.statement.name


def test_a_failing_check_fails_even_where_the_control_passes():
    assert evidence(PASS, Check("y", 3, "<=", 2), control=PASSING_CONTROL).verdict == "fails"


def test_undecided_is_inconclusive_whatever_was_measured():
    assert evidence(FAIL, control=PASSING_CONTROL, decided=False).verdict == "inconclusive"
    assert evidence(decided=False).verdict == "inconclusive"
    assert evidence(decided=False, parts=(HOLDS,)).verdict == "inconclusive"


@pytest.mark.parametrize(
    ("parts", "verdict"),
    [
        ((HOLDS,), "holds"),
        ((HOLDS, INCONCLUSIVE), "inconclusive"),
        ((INCONCLUSIVE, VACUOUS), "vacuous"),
        ((VACUOUS, INCONCLUSIVE, FAILS, HOLDS), "fails"),
    ],
)
def test_the_worst_part_decides(parts, verdict):
    assert evidence(parts=parts).verdict == verdict
    assert evidence(PASS, control=FAILING_CONTROL, parts=parts).verdict == verdict
    assert evidence(FAIL, control=FAILING_CONTROL, parts=parts).verdict == "fails"


@pytest.mark.parametrize("op", ["<=", ">=", "<", ">", "=="])
def test_nan_never_passes(op):
    assert not Check("x", math.nan, op, 1).passes
    assert not Check("x", 1, op, math.nan).passes
    assert not Check("x", math.nan, op, math.nan).passes


@settings(max_examples=50)
@given(measured=st.floats(allow_nan=False), bound=st.floats(allow_nan=False))
def test_a_check_compares_as_its_op_says(measured, bound):
    passing = {op for op in ("<=", ">=", "<", ">", "==") if Check("x", measured, op, bound).passes}
    assert passing == ({"<=", "<"} if measured < bound else {">=", ">"} if measured > bound else {"<=", ">=", "=="})


def test_a_control_passes_only_with_all_its_checks():
    assert not Control("half", (PASS, FAIL)).passes
    assert Control("all", (PASS, PASS)).passes


def test_measured_and_threshold_name_the_checks_of_the_parts():
    whole = evidence(
        Check("own", 1, ">", 0), control=FAILING_CONTROL, parts=(HOLDS, evidence(parts=(FAILS,), name="deep"))
    )
    assert whole.measured == {"own": 1.0, "holds: x": 1.0, "deep: fails: x": 3.0}
    assert whole.threshold == {"own": "> 0", "holds: x": "<= 2", "deep: fails: x": "<= 2"}


@settings(max_examples=50)
@given(
    measured=st.floats(),
    bound=st.floats(),
    kind=st.sampled_from(KINDS),
    seed=st.none() | st.integers(0, 2**31),
    notes=st.text(max_size=20),
    decided=st.booleans(),
)
def test_json_brings_everything_back_but_the_figure(measured, bound, kind, seed, notes, decided):
    control = Control("β ≠ 0", (Check("c", bound, "<", measured),))
    written = Evidence(
        kind=kind,
        statement=statement(),
        checks=(Check("m", measured, ">=", bound),),
        control=control,
        seed=seed,
        budget="full",
        seconds=1.5,
        notes=notes,
        figure=lambda: None,
        parts=(VACUOUS,),
        decided=decided,
    )
    read = Evidence.from_json(written.to_json())
    # repr, because NaN does not equal itself.
    assert repr(read) == repr(written)
    assert read.verdict == written.verdict
    assert read.figure is None


def test_json_is_strict_and_keeps_a_missing_control_missing():
    text = evidence(Check("x", math.inf, ">", math.nan)).to_json()
    assert re.search(r": (NaN|-?Infinity)", text) is None
    assert Evidence.from_json(text).control is None


def test_a_stored_verdict_cannot_be_forged():
    forged = FAILS.to_json().replace('"verdict": "fails"', '"verdict": "holds"')
    assert Evidence.from_json(forged).verdict == "fails"


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"kind": "numeric"}', HOLDS.to_json()[:-40]])
def test_anything_else_is_refused_in_one_sentence(text):
    with pytest.raises(ValueError, match="not a stored evidence"):
        Evidence.from_json(text)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Check("x", 1, "=<", 2), "has op '=<'; allowed are <= >= < > =="),
        (lambda: Control("empty", ()), "no checks"),
        (lambda: evidence(), "no checks and no parts"),
        (lambda: evidence(PASS, PASS), "names the check 'x' twice"),
        (lambda: evidence(parts=(HOLDS, HOLDS)), "names the part 'holds' twice"),
        (lambda: evidence(PASS, kind="numerical"), "did you mean numeric"),
        (lambda: evidence(PASS, budget="ful"), "did you mean full"),
        (lambda: Claim(statement(), "certain", lambda budget, seed: HOLDS), "unknown kind of evidence"),
        (lambda: Claim(statement(), "numeric", lambda budget, seed: HOLDS).run("huge"), "unknown budget 'huge'"),
    ],
)
def test_bad_input_is_named(make, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        make()


def test_a_claim_passes_budget_and_seed_on_and_stamps_the_evidence():
    seen = []

    def gather(budget, seed):
        seen.append((budget, seed))
        return HOLDS

    found = Claim(statement(), "numeric", gather).run("full", seed=7)
    assert seen == [("full", 7)]
    assert found.budget == "full"
    assert found.seconds > 0
    assert found.verdict == "holds"
