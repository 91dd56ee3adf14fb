"""A page of figures, tables and words in one HTML file that needs nothing else: no network, no script."""

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined, Template

from microtome.lab.report.blocks import Block, require_text, shown
from microtome.lab.train.files import write_whole


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it.

    Raises:
        TypeError: if a block is none of the room's.
        ValueError: if the title is blank or there is no block.
    """

    title: str
    blocks: tuple[Block, ...]

    def __post_init__(self):
        require_text("the title of a section", self.title)
        if not self.blocks:
            raise ValueError(f"the section {self.title!r} is empty; give it at least one block.")
        for block in self.blocks:
            if not isinstance(block, Block):
                raise TypeError(
                    f"the section {self.title!r} holds blocks (Prose, Code, Picture, Table, Facts), "
                    f"not {type(block).__name__}."
                )


class Page:
    """Sections in their order, with a table of contents.

    Args:
        title: the heading, and what the browser calls the page.
        lead: one paragraph that says what the page shows.

    Raises:
        ValueError: if either is blank.
    """

    def __init__(self, title: str, lead: str):
        require_text("the title of a page", title)
        require_text("the lead of a page", lead)
        self.title = title
        self.lead = lead
        self.sections: list[Section] = []

    def section(self, title: str, *blocks: Block) -> "Page":
        """Appends a section and returns the page.

        Raises:
            TypeError: if a block is none of the room's.
            ValueError: if the title is blank or there is no block.
        """
        self.sections.append(Section(title, blocks))
        return self

    def html(self) -> str:
        """The whole page.

        Raises:
            ValueError: if it has no section.
        """
        if not self.sections:
            raise ValueError(f"the page {self.title!r} is empty; add a section with .section(title, block).")
        return _template().render(page=self, css=_resource("page.css"))

    def write(self, path: Path | str) -> Path:
        """Writes the page, whole or not at all, and returns where; folders that are missing are made.

        Raises:
            OSError: if that place cannot be written.
            ValueError: if the page has no section.
        """
        path = Path(path)
        # A lone surrogate, as in the name of an odd file, is no character of UTF-8.
        content = self.html().encode("utf-8", errors="replace")
        try:
            if path.is_dir():
                raise IsADirectoryError(None, "it is a folder")
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, content)
        except OSError as error:
            raise OSError(
                f"the page cannot be written to {path} ({error.strerror or error}); "
                "name a file in a folder that you may write to."
            ) from error
        return path


@cache
def _template() -> Template:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters["shown"] = shown
    return environment.from_string(_resource("page.html"))


def _resource(name: str) -> str:
    return files("microtome.lab.report").joinpath(name).read_text(encoding="utf-8")
