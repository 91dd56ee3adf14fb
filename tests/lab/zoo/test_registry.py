import re
import subprocess
import sys
from dataclasses import is_dataclass
from pathlib import Path

import pytest

from microtome.lab.zoo import registry


def test_there_are_68_papers_in_order_with_every_field() -> None:
    papers = registry.papers()
    assert len(papers) == 68
    assert [paper.slug for paper in papers] == sorted({paper.slug for paper in papers})
    for paper in papers:
        assert paper.slug.isidentifier()
        assert paper.title == paper.title.strip() != ""
        assert paper.source == paper.source.strip() != ""
        assert 2017 <= paper.year <= 2026
        assert re.fullmatch(r"[a-z-]+( \(also [a-z, -]+\))?", paper.kind)


def test_a_paper_is_found_by_its_slug() -> None:
    urpe = registry.paper("urpe")
    assert (urpe.title, urpe.year) == ("Your Transformer May Not be as Powerful as You Expect", 2022)
    assert (urpe.kind, urpe.source) == ("position", "lsj2408/URPE")


@pytest.mark.parametrize(("typed", "meant"), [("upre", "urpe"), ("sigma-reparam", "sigma_reparam")])
def test_an_unknown_slug_names_the_near_ones(typed: str, meant: str) -> None:
    with pytest.raises(KeyError, match=f"'{typed}' .did you mean .*{meant}"):
        registry.paper(typed)


def test_a_slug_like_no_other_gets_no_false_hint() -> None:
    with pytest.raises(KeyError, match="'zzz'; `microtome papers`"):
        registry.paper("zzz")


@pytest.mark.parametrize("slot", registry.SLOTS)
def test_every_part_of_every_slot_loads_and_declares_its_options(slot: str) -> None:
    names = registry.names(slot)
    assert names, f"{slot} has no part"
    for name in names:
        part = registry.load(slot, name).Part
        assert is_dataclass(part), name
        assert part.__dataclass_params__.frozen, name


def test_private_files_are_no_parts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "norms").mkdir()
    for name in ("__init__", "_shared", "layernorm", "rmsnorm"):
        (tmp_path / "norms" / f"{name}.py").touch()
    monkeypatch.setattr(registry, "_ZOO", tmp_path)
    assert registry.names("norms") == ("layernorm", "rmsnorm")
    assert registry.names("depth") == ()
    with pytest.raises(ValueError, match="there are none yet"):
        registry.load("depth", "plain")


def test_unknown_slots_and_parts_are_refused_with_what_is_allowed() -> None:
    with pytest.raises(ValueError, match=r"'mixer' \(did you mean mixers\?\); the slots are .*mixers, positions"):
        registry.names("mixer")
    with pytest.raises(ValueError, match=r"'sofmax' \(did you mean softmax or power_softmax\?\); there are .*softmax"):
        registry.load("mixers", "sofmax")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A floor with one good and one broken module for the paper `urpe`, and look-alikes that are neither."""
    files = {
        "": "",
        "mixers/": "",
        "mixers/urpe": "",
        "mixers/urpe_like": "raise RuntimeError('must not be imported')",
        "positions/": "",
        "positions/urpe": "import a_package_that_is_not_there",
        "_urpe/": "raise RuntimeError('must not be imported')",
    }
    floor = tmp_path / "floor_of_the_registry_test"
    for name, text in files.items():
        path = floor / (f"{name}__init__.py" if name.endswith("/") or not name else f"{name}.py")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(registry, "_FLOORS_WITH_MECHANISMS", (floor.name,))
    registry._module_names.cache_clear()
    yield floor.name
    registry._module_names.cache_clear()


def test_standing_is_what_imports_now(package: str) -> None:
    standing = registry.standing(registry.paper("urpe"))
    assert standing.modules == (f"{package}.mixers.urpe",)
    ((module, reason),) = standing.broken
    assert module == f"{package}.positions.urpe"
    assert reason == "ModuleNotFoundError: No module named 'a_package_that_is_not_there'"
    assert registry.standing(registry.paper("swin")).modules == ()


def test_listing_needs_no_torch() -> None:
    script = (
        "import sys; from microtome.lab.zoo import registry\n"
        "registry.papers(), [registry.names(slot) for slot in registry.SLOTS]\n"
        "print({'torch', 'transformer_lens'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stderr
