"""Listing and running all statement checks, loading a paper's claim, and what importing them costs."""

import subprocess
import sys

import pytest

from microtome.theory import KINDS, Control, Evidence, claims, registry

SLUGS = {"urpe", "sigma_reparam", "icl_linear_algorithms"}


def test_every_paper_with_statements_is_listed_once_with_its_kinds():
    listed = registry.listing()
    assert {claim.slug for claim in listed} >= SLUGS
    names = [(claim.slug, claim.statement.name) for claim in listed]
    assert len(names) == len(set(names))
    assert {claim.kind for claim in listed} >= {"symbolic", "certified", "exhaustive", "numeric"}


@pytest.mark.parametrize("kind", KINDS)
def test_listing_by_kind_and_slug(kind):
    of_kind = registry.listing(kinds=[kind])
    assert of_kind == tuple(claim for claim in registry.listing() if claim.kind == kind)
    assert registry.listing(kinds=[kind], slug="urpe") == tuple(claim for claim in of_kind if claim.slug == "urpe")


def test_every_statement_says_what_it_assumes_and_where_it_is_from():
    for claim in registry.listing():
        statement = claim.statement
        assert statement.text.endswith(".")
        assert statement.hypotheses
        assert len(statement.source) > 20


def test_unknown_names_are_refused_before_anything_runs():
    with pytest.raises(ValueError, match="unknown kind of evidence 'symbolical': did you mean symbolic"):
        registry.run_all(kinds=["symbolical"])
    with pytest.raises(KeyError, match="did you mean sigma_reparam"):
        registry.run_all(slug="sigma_reparm")
    with pytest.raises(ValueError, match="unknown budget 'tiny'"):
        registry.run_all(budget="tiny")


def test_evidence_comes_as_it_is_found():
    first = next(iter(registry.run_all(kinds=["exhaustive"], slug="urpe", budget="full")))
    assert first.budget == "full"
    assert first.statement.slug == "urpe"


def test_an_unknown_claim_is_refused_with_the_nearest_name():
    with pytest.raises(KeyError, match="unknown claim 'urpee': did you mean urpe"):
        claims.load("urpee")
    with pytest.raises(KeyError, match="the allowed names are"):
        claims.load("")
    with pytest.raises(KeyError):
        claims.load("_fitting")


def test_a_claim_s_module_is_found_and_loaded_by_its_name(tmp_path, monkeypatch):
    (tmp_path / "invented_paper.py").write_text(
        "from microtome.theory import Check, Claim, Evidence, Statement\n"
        "S = Statement('n', 't', (), 's', 'invented_paper')\n"
        "def gather(budget, seed):\n"
        "    return Evidence('numeric', S, (Check('seed', seed, '<', 5),), seed=seed, decided=budget == 'full')\n"
        "CLAIM = Claim(S, 'numeric', gather)\n"
    )
    (tmp_path / "_private.py").write_text("")
    monkeypatch.setattr(claims, "__path__", [*claims.__path__, str(tmp_path)])
    assert "invented_paper" in claims.available()
    assert "_private" not in claims.available()
    claim = claims.load("invented_paper")
    assert claim.slug == "invented_paper"
    assert claim.run().verdict == "inconclusive"
    assert claim.run(budget="full").verdict == "holds"
    assert claim.run(budget="full", seed=5).verdict == "fails"
    with pytest.raises(ValueError, match="unknown budget"):
        claim.run(budget="slow")


def test_importing_theory_and_naming_the_claims_imports_nothing_heavy():
    script = (
        "import sys, microtome.theory\n"
        "from microtome.theory import claims, ledger, registry\n"
        "claims.available()\n"
        "heavy = {'torch', 'sympy', 'flint', 'matplotlib', 'numpy', 'transformer_lens'} & set(sys.modules)\n"
        "sys.exit(f'imports {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module", params=registry.listing(), ids=lambda claim: f"{claim.slug}-{claim.statement.name}")
def found(request):
    return request.param, request.param.run("quick", seed=11)


def test_each_statement_holds_and_its_control_fails(found):
    claim, evidence = found
    assert evidence.verdict == "holds", evidence.measured
    assert evidence.statement == claim.statement
    assert evidence.kind == claim.kind
    assert isinstance(evidence.control, Control)
    assert not evidence.control.passes
    # The control is measured, not broken: no NaN made it fail.
    assert all(check.measured == check.measured for check in evidence.control.checks)
    # It repeats checks of the statement, so that it could have passed.
    assert {check.threshold for check in evidence.control.checks} <= {check.threshold for check in evidence.checks}


def test_each_statement_s_evidence_is_stored_and_read_back(found):
    _, evidence = found
    assert Evidence.from_json(evidence.to_json()) == evidence


def test_each_figure_draws_something_on_labelled_axes(found, tmp_path):
    _, evidence = found
    if evidence.figure is None:
        assert evidence.kind in ("symbolic", "certified", "exhaustive")
        return
    figure = evidence.figure()
    figure.savefig(tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 5000
    for axes in figure.axes:
        assert axes.get_xlabel()
        assert axes.has_data()
