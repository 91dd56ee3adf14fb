"""What a section of a page is made of. Every text is plain text: what looks like HTML is shown, not obeyed.

Each block has the name of the template's macro that draws it.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import ClassVar

from matplotlib.figure import Figure

from microtome.lab.report.image import data_uri

VERDICTS = ("holds", "fails", "vacuous", "inconclusive")
NOTHING = "–"

Cell = str | Real | None
CSS_PIXELS_PER_INCH = 96
LONGEST_SHORT_LINE = 24  # characters that a table leaves on one line


@dataclass(frozen=True)
class Prose:
    """Paragraphs, parted by blank lines.

    Raises:
        ValueError: if the text is blank.
    """

    macro: ClassVar[str] = "prose"
    text: str

    def __post_init__(self):
        require_text("the text of a Prose", self.text)

    @property
    def paragraphs(self) -> list[str]:
        """The text of each paragraph."""
        return re.split(r"\n\s*\n", self.text.strip())


@dataclass(frozen=True)
class Code:
    """Text in which every space and line break counts.

    Raises:
        ValueError: if the text is blank.
    """

    macro: ClassVar[str] = "code"
    text: str

    def __post_init__(self):
        require_text("the text of a Code", self.text)


@dataclass(frozen=True)
class Picture:
    """A matplotlib figure inside the page.

    Attributes:
        figure: drawn anew whenever the page is rendered.
        caption: what the reader should see in it.
        alt: the same for a reader who cannot see it.

    Raises:
        TypeError: if the figure is none of matplotlib's.
        ValueError: if the caption or the alternative text is blank.
    """

    macro: ClassVar[str] = "picture"
    figure: Figure
    caption: str
    alt: str

    def __post_init__(self):
        if not isinstance(self.figure, Figure):
            raise TypeError(
                f"a Picture holds a matplotlib.figure.Figure, not {type(self.figure).__name__}; "
                "of axes give their .figure, of a function that draws give what it returns."
            )
        require_text("the caption of a Picture", self.caption)
        require_text("the alt of a Picture", self.alt)

    @property
    def source(self) -> str:
        """The image as a `data:` address."""
        return data_uri(self.figure)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in CSS pixels."""
        width, height = self.figure.get_size_inches() * CSS_PIXELS_PER_INCH
        return round(width), round(height)


@dataclass(frozen=True)
class Table:
    """Rows under headings.

    A column of numbers is set flush right. In a column whose heading ends in "verdict", each cell is None or one of
    `VERDICTS`, drawn as a coloured label. None is shown as a dash; line breaks and leading spaces in a text are kept.

    Attributes:
        columns: the headings, at least one.
        rows: at least one, each with a text, number or None a column.
        caption: what the table shows.

    Raises:
        TypeError: if a cell is neither text nor a number nor None.
        ValueError: if the caption is blank, a row or a column is missing, a row has another length than the headings,
            or a verdict is none of the four.
    """

    macro: ClassVar[str] = "table"
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str

    def __post_init__(self):
        require_text("the caption of a Table", self.caption)
        if not self.columns or not self.rows:
            raise ValueError(
                f"the table {self.caption!r} needs at least one column and one row, "
                f"not {len(self.columns)} and {len(self.rows)}."
            )
        for number, row in enumerate(self.rows):
            if len(row) != len(self.columns):
                raise ValueError(
                    f"row {number} of the table {self.caption!r} has {len(row)} cells; "
                    f"each must have {len(self.columns)}, one a column."
                )
            for column, cell in zip(self.columns, row, strict=True):
                _require_cell(column, cell)

    @property
    def kinds(self) -> list[str]:
        """For each column "verdict", "number", "long" (its texts need several lines) or "short"."""
        return [_kind(self.columns[at], [row[at] for row in self.rows]) for at in range(len(self.columns))]


@dataclass(frozen=True)
class Facts:
    """Headline numbers by what they say, each a text, a number, or a pair of either with its unit.

    Raises:
        TypeError: if a value is something else.
        ValueError: if there are none.
    """

    macro: ClassVar[str] = "facts"
    values: Mapping[str, str | Real | tuple[str | Real, str]]

    def __post_init__(self):
        if not self.values:
            raise ValueError("Facts need at least one labelled value.")
        for label, (value, _) in self.pairs.items():
            require_text("the label of a fact", label)
            _require_cell(label, value)

    @property
    def pairs(self) -> dict[str, tuple[Cell, str]]:
        """Value and unit by label; the unit is empty where none was given."""
        return {label: value if isinstance(value, tuple) else (value, "") for label, value in self.values.items()}


Block = Prose | Code | Picture | Table | Facts


def shown(cell: Cell) -> str:
    """A cell as text: numbers with four significant digits, whole ones in full with their thousands parted."""
    match cell:
        case None:
            return NOTHING
        case str():
            return cell
        case Integral():
            return f"{cell:,}"
    value = float(cell)
    return f"{value:,.0f}" if 1e4 <= abs(value) < 1e9 else f"{value:.4g}"


def require_text(what: str, text: str) -> None:
    """Raises ValueError, with `what` for its name, if the text is blank."""
    if not text.strip():
        raise ValueError(f"{what} must not be blank.")


def _require_cell(column: str, cell: object) -> None:
    if isinstance(cell, bool) or not isinstance(cell, str | Real | None):
        raise TypeError(
            f"{column!r} must be a text, a number or None, not {type(cell).__name__}; "
            "of a tensor give .item(), of a bool the words for yes and no."
        )
    if _holds_verdicts(column) and cell is not None and cell not in VERDICTS:
        raise ValueError(f"{cell!r} is no verdict for {column!r}; allowed are {', '.join(VERDICTS)} and None.")


def _kind(column: str, cells: Sequence[Cell]) -> str:
    if _holds_verdicts(column):
        return "verdict"
    given = [cell for cell in cells if cell is not None]
    if given and all(isinstance(cell, Real) for cell in given):
        return "number"
    lines = [line for cell in given for line in shown(cell).splitlines()]
    return "long" if max(map(len, lines), default=0) > LONGEST_SHORT_LINE else "short"


def _holds_verdicts(column: str) -> bool:
    return column.lower().endswith("verdict")
