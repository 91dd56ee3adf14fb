"""The HTML page: that it is whole and well formed, needs nothing from outside, and obeys no text it is given."""

import base64
import os
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure

from microtome.lab.report import Code, Facts, Page, Picture, Prose, Table
from microtome.lab.report.blocks import VERDICTS, shown
from microtome.lab.report.image import LARGEST_SVG, data_uri
from microtome.lab.report.page import Section

VOID = {"meta", "img", "br", "hr", "link", "input"}
HOSTILE = """"'><script src="https://example.org/x.js">alert(1)</script><img onerror=alert(1)>&amp;"""


class Reader(HTMLParser):
    """Elements with their attributes and text; fails where tags are not closed in the order they were opened."""

    def __init__(self, html: str):
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs)
        self.elements.append((tag, dict(attrs)))
        self.texts.setdefault(tag, [])
        if tag not in VOID:
            self.open.append(tag)
            self.texts[tag].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open:
            self.texts[self.open[-1]][-1] += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def plot(points: int = 3) -> Figure:
    figure = Figure(figsize=(4, 3), layout="constrained")
    figure.subplots().plot(range(points), range(points), "o")
    return figure


def full_page(text: str = "plain") -> Page:
    """Every kind of block, with `text` wherever a text can stand."""
    page = Page(text, text)
    page.section(text, Prose(text), Code(text), Picture(plot(), caption=text, alt=text))
    page.section(text + " again", Facts({text: (text, text), "parameters": 105_921, "risk": (0.03, "nats")}))
    rows = [(text, 1.5, "holds", text * 4), (None, None, None, None)]
    return page.section("Evidence", Table((text, "risk", "last verdict", "why"), rows, caption=text))


@pytest.fixture(scope="module")
def html() -> str:
    return full_page().html()


def test_the_page_is_well_formed_and_has_what_a_reader_needs(html: str) -> None:
    assert html.startswith("<!DOCTYPE html>")
    read = Reader(html)
    assert read.all("html") == [{"lang": "en"}]
    assert read.texts["title"] == ["plain"]
    assert [tag for tag, _ in read.elements if re.fullmatch(r"h\d", tag)] == ["h1", "h2", "h2", "h2"]
    assert all(image["alt"] for image in read.all("img"))
    assert any(meta.get("name") == "viewport" for meta in read.all("meta"))


def test_the_contents_lead_to_every_section(html: str) -> None:
    read = Reader(html)
    places = [attributes["id"] for _, attributes in read.elements if "id" in attributes]
    assert len(places) == len(set(places))
    assert [link["href"] for link in read.all("a")] == [f"#{place}" for place in places]
    assert read.texts["a"] == read.texts["h2"] == ["plain", "plain again", "Evidence"]


def test_nothing_is_fetched_from_anywhere(html: str) -> None:
    read = Reader(html)
    assert {"script", "link", "iframe", "object", "embed", "base"}.isdisjoint(read.texts)
    attributes = [pair for _, attributes in read.elements for pair in attributes.items()]
    assert not [name for name, _ in attributes if name.startswith("on")]
    sources = [value for name, value in attributes if name in ("src", "srcset", "href", "action", "data")]
    assert sources
    assert all(re.match(r"#section-\d+$|data:image/(svg\+xml|png);base64,", source) for source in sources)
    assert not re.search(r"https?:|@import|url\(", html)


def test_the_dark_style_changes_every_colour_and_leaves_figures_white(html: str) -> None:
    (css,) = Reader(html).texts["style"]
    light, dark = (dict(re.findall(r"(--\w+): (#\w+);", block)) for block in re.findall(r":root \{(.*?)\}", css, re.S))
    assert light.keys() == dark.keys()
    assert not light.items() & dark.items()
    assert {f"--{verdict}" for verdict in VERDICTS} < light.keys()
    assert "background: #ffffff" in re.search(r"\.card \{(.*?)\}", css, re.S)[1]


def test_no_text_is_obeyed() -> None:
    read = Reader(full_page(HOSTILE).html())
    assert "script" not in read.texts
    assert len(read.all("img")) == 1
    assert read.all("img")[0]["alt"] == HOSTILE
    assert read.texts["title"] == read.texts["h1"] == read.texts["code"] == [HOSTILE]
    assert read.texts["p"] == [HOSTILE, HOSTILE]
    assert read.texts["figcaption"] == [HOSTILE, HOSTILE]
    assert read.texts["dt"][0] == HOSTILE
    assert read.texts["dd"][0] == HOSTILE + " "
    assert read.texts["th"][0] == HOSTILE
    assert read.texts["span"] == [HOSTILE, "nats", HOSTILE, "holds", HOSTILE * 4, "–", "–"]


@settings(max_examples=50)
@given(text=st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"])).filter(str.strip))
def test_any_text_is_shown_as_it_is(text: str) -> None:
    page = Page("t", "l").section("s", Code(text), Table(["a", "b"], [[text, "x"]], "c"), Facts({text: 1}))
    read = Reader(page.html())
    assert read.texts["code"] == [text]
    assert read.texts["dt"] == [text]
    assert text in read.texts["td"] + read.texts.get("span", [])


def test_prose_is_cut_at_blank_lines() -> None:
    read = Reader(Page("t", "lead").section("s", Prose("\n  one\ntwo\n \n\nthree ")).html())
    assert read.texts["p"] == ["lead", "one\ntwo", "three"]


def test_a_verdict_is_a_word_and_a_colour() -> None:
    rows = [[verdict] for verdict in VERDICTS]
    read = Reader(Page("t", "l").section("s", Table(["Verdict"], [*rows, [None]], "c")).html())
    assert read.texts["span"] == list(VERDICTS)
    assert [span["class"] for span in read.all("span")] == [f"label {verdict}" for verdict in VERDICTS]
    assert read.texts["td"][-1] == "–"


def test_a_verdict_word_elsewhere_is_a_word() -> None:
    read = Reader(Page("t", "l").section("s", Table(["word"], [["fails"]], "c")).html())
    assert "span" not in read.texts


def test_the_verdicts_are_those_of_the_theory() -> None:
    from microtome.theory import evidence

    assert evidence.VERDICTS == VERDICTS


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        ([1, 2.5, None], "number"),
        ([None, None], "short"),
        (["1", 2], "short"),
        (["a short one\nand another"], "short"),
        (["x", "a line of more than twenty-four letters"], "long"),
    ],
)
def test_a_column_is_set_by_what_it_holds(cells: list, kind: str) -> None:
    assert Table(["a"], [[cell] for cell in cells], "c").kinds == [kind]


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (None, "–"),
        ("a", "a"),
        (105_921, "105,921"),
        (np.int64(-3), "-3"),
        (0.031_25, "0.03125"),
        (np.float32(0.5), "0.5"),
        (1.234_6e-7, "1.235e-07"),
        (12_345.6, "12,346"),
        (3e12, "3e+12"),
        (float("nan"), "nan"),
        (float("inf"), "inf"),
    ],
)
def test_numbers_are_shown_to_be_read(cell: object, text: str) -> None:
    assert shown(cell) == text


def test_a_figure_is_an_svg_that_fetches_nothing() -> None:
    kind, content = data_uri(plot()).split(",")
    assert kind == "data:image/svg+xml;base64"
    svg = ElementTree.fromstring(base64.b64decode(content))
    assert svg.tag == "{http://www.w3.org/2000/svg}svg"
    links = [value for node in svg.iter() for name, value in node.attrib.items() if name.endswith("href")]
    assert all(link.startswith("#") for link in links)
    assert not [node for node in svg.iter() if node.tag.endswith("}script")]


def test_a_figure_of_many_marks_is_made_of_pixels() -> None:
    kind, content = data_uri(plot(points=20_000)).split(",")
    assert kind == "data:image/png;base64"
    assert base64.b64decode(content).startswith(b"\x89PNG")
    assert len(content) < LARGEST_SVG


def test_pictures_keep_their_size_and_equal_pages_are_equal_bytes(html: str) -> None:
    (image,) = Reader(html).all("img")
    assert (image["width"], image["height"]) == ("384", "288")
    assert html == full_page().html()


def test_a_page_is_written_where_it_was_asked_for(tmp_path: Path, html: str) -> None:
    path = full_page().write(str(tmp_path / "new" / "folder" / "report.html"))
    assert path == tmp_path / "new" / "folder" / "report.html"
    assert path.read_text(encoding="utf-8") == html
    assert [found.name for found in path.parent.iterdir()] == ["report.html"]


def test_a_text_that_utf8_cannot_hold_does_not_cost_the_page(tmp_path: Path) -> None:
    path = Page("t", "l").section("s", Prose("odd \udc80 name")).write(tmp_path / "report.html")
    assert "odd ? name" in path.read_text(encoding="utf-8")


def test_a_failed_write_leaves_the_last_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = full_page().write(tmp_path / "report.html")
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError("no space")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match=r"cannot be written to .*report\.html \(no space\); name a file"):
        full_page("another").write(path)
    assert path.read_bytes() == before


def test_an_unwritable_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"^the page cannot be written to .*file.report\.html \(.+\); name a file in"):
        full_page().write(tmp_path / "file" / "report.html")
    with pytest.raises(OSError, match=r"^the page cannot be written to .* \(it is a folder\); name a file in"):
        full_page().write(tmp_path)
    assert [found.name for found in tmp_path.iterdir()] == ["file"]


def test_an_empty_page_is_refused_and_not_written(tmp_path: Path) -> None:
    page = Page("Nothing", "at all")
    with pytest.raises(ValueError, match=r"^the page 'Nothing' is empty; add a section"):
        page.html()
    with pytest.raises(ValueError, match="is empty"):
        page.write(tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Page(" ", "l"), "the title of a page must not be blank"),
        (lambda: Page("t", ""), "the lead of a page must not be blank"),
        (lambda: Page("t", "l").section("", Prose("p")), "the title of a section must not be blank"),
        (lambda: Page("t", "l").section("s"), "the section 's' is empty; give it at least one block"),
        (lambda: Prose("\n"), "the text of a Prose must not be blank"),
        (lambda: Code(""), "the text of a Code must not be blank"),
        (lambda: Picture(plot(), "", "alt"), "the caption of a Picture must not be blank"),
        (lambda: Picture(plot(), "caption", " "), "the alt of a Picture must not be blank"),
        (lambda: Facts({}), "Facts need at least one labelled value"),
        (lambda: Facts({"": 1}), "the label of a fact must not be blank"),
        (lambda: Table([], [], "c"), "needs at least one column and one row, not 0 and 0"),
        (lambda: Table(["a"], [], "c"), "needs at least one column and one row, not 1 and 0"),
        (lambda: Table(["a"], [["x"]], ""), "the caption of a Table must not be blank"),
        (lambda: Table(["a", "b"], [["x", "y"], ["x"]], "c"), "row 1 of the table 'c' has 1 cells; each must have 2"),
        (lambda: Table(["verdict"], [["hold"]], "c"), "'hold' is no verdict for 'verdict'; allowed are holds, fails"),
    ],
)
def test_what_cannot_be_shown_is_refused(build, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Picture(plot().axes[0], "c", "a"), "a Picture holds a matplotlib.figure.Figure, not Axes; of axes"),
        (lambda: Picture("risk.png", "c", "a"), "a Picture holds a matplotlib.figure.Figure, not str"),
        (lambda: Table(["a"], [[True]], "c"), "'a' must be a text, a number or None, not bool"),
        (
            lambda: Table(["a"], [[torch.zeros(())]], "c"),
            "'a' must be a text, a number or None, not Tensor; of a tensor",
        ),
        (lambda: Facts({"risk": [1]}), "'risk' must be a text, a number or None, not list"),
        (lambda: Section("s", ("text",)), r"the section 's' holds blocks \(Prose, .*\), not str"),
    ],
)
def test_values_of_another_type_are_refused(untyped: None, build, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        build()
