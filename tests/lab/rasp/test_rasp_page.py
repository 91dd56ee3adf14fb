import re

import pytest

from microtome.lab import rasp
from microtome.lab.rasp import library, page
from microtome.lab.rasp.library import make_hist


def test_the_page_of_a_program_holds_all_that_is_known_of_it():
    compiled = rasp.compile(make_hist(), vocab="abc", max_len=3)
    html = page.program_page(compiled, list("aba"), compiled.verify()).html()
    assert html.count("<img") == 2
    assert not re.search(r"(src|href)=\"https?:", html)
    for text in ("SelectorWidth(same_token)", "[2, 1, 2]", "equals the interpreter on all 39 inputs", "layer 0"):
        assert text in html
    assert str(compiled.certificate) in html
    for direction in compiled.directions:
        assert direction.name in html


def test_a_program_without_heads_has_a_page():
    compiled = rasp.compile(rasp.Full(3), vocab="ab", max_len=2)
    assert "Full(3)" in page.program_page(compiled, ["a"], compiled.verify()).html()


@pytest.mark.parametrize("optimize", [0, 1])
def test_every_direction_is_listed_once_with_when_it_is_held(optimize: int):
    compiled = rasp.compile(make_hist() - 1, vocab="abc", max_len=4, optimize=optimize)
    rows = page.directions(compiled)
    assert rows[0] == ("0", "sink, the mark of the position in front of every input", "throughout")
    names = [name for _, listed, _ in rows[1:] for name in listed.split(", ")]
    assert sorted(names) == sorted(d.name for d in compiled.directions)
    columns = {listed: (columns, held) for columns, listed, held in rows}
    if optimize:
        assert columns["same_token: class sought"][1] == "embedding to attention 0"
        assert columns["hist"][1] == "MLP 0 to the end"
    else:
        (tokens,) = (listed for listed in columns if listed.startswith("tokens="))
        assert columns[tokens] == ("1-3", "embedding to the end")


def test_the_catalogue_measures_every_program_and_says_why_one_is_not_compiled(monkeypatch: pytest.MonkeyPatch):
    found = [e for e in library.examples() if e.name in ("hist", "length", "reverse")]

    def refuse(program, **setting):
        if program.label == "reverse":
            raise rasp.CompileError("this one is too large", program)
        return rasp.compile(program, **setting)

    monkeypatch.setattr(page, "compile", refuse)
    catalogue = page.catalogue_page(found, 3)
    facts = catalogue.sections[0].blocks[0].values
    assert (facts["programs"], facts["compiled"]) == (3, 2)
    rows = {row[0]: row for section in catalogue.sections[1:] for row in section.blocks[0].rows}
    compiled = rasp.compile(make_hist(), vocab="abc", max_len=3)
    cfg = compiled.model.cfg
    parameters = sum(p.numel() for p in compiled.model.parameters())
    assert rows["hist"][1:6] == (cfg.n_layers, cfg.n_heads, cfg.d_model, cfg.d_mlp, parameters)
    assert rows["hist"][7:10] == ("linear", 3, "both ways")
    assert "Not compiled: " in rows["reverse"][10]
    assert "too large" in rows["reverse"][10]
    assert rows["reverse"][1:8] == (None,) * 7
    assert facts["linear in max_len"] == 2
    assert "too large" in catalogue.html()


def test_the_catalogue_says_why_a_program_grows_more_than_linearly():
    (example,) = (e for e in library.examples() if e.name == "riffle")
    catalogue = page.catalogue_page([example], 3)
    (row,) = catalogue.sections[1].blocks[0].rows
    assert row[7] == "quadratic"
    assert "Quadratic, because of a table of 64 values of indices by 64 values of length: " in row[10]
    assert catalogue.sections[0].blocks[0].values["quadratic in max_len"] == 1


def test_a_catalogue_for_no_tokens_is_refused():
    with pytest.raises(ValueError, match="max_len, must have at least 1 token, not 0"):
        page.catalogue_page(library.examples(), 0)
