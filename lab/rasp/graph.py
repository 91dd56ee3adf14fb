"""A program as a picture: inputs on the left, output on the right, an arrow from each expression to its readers."""

from dataclasses import dataclass
from itertools import pairwise

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, PathPatch, Polygon
from matplotlib.path import Path

from microtome.lab.rasp.elementwise import (
    ConstantSOp,
    Full,
    Indices,
    Length,
    LinearSequenceMap,
    Map,
    SequenceMap,
    Tokens,
)
from microtome.lab.rasp.expression import Expression, topological
from microtome.lab.rasp.functions import Comparison, Infix, Partial, function_name, prefix
from microtome.lab.rasp.lambdas import function_text
from microtome.lab.rasp.language import Aggregate, SelectorWidth
from microtome.lab.rasp.layered import Box, Drawing, Point, place, port_offset
from microtome.lab.rasp.selectors import ConstantSelector, Select, Selector, SelectorAnd, SelectorNot, SelectorOr
from microtome.lab.rasp.values import is_number
from microtome.lab.report.style import COLOURS

LABEL_LIMIT = 34
"""Most characters in a line of a box; longer text is cut with an ellipsis."""

NAME_POINTS, TEXT_POINTS, PORT_POINTS = 8.5, 7.5, 6.0
MARGIN, FOOT = 0.15, 0.5  # inches
PADDING, TIP, LETTERS = 0.24, 0.1, 0.1  # inches beside a text, in each point of a selector, for a port's letter
CHARACTER = 0.602 / 72  # inches of width a point of size, in the monospaced font


@dataclass(frozen=True)
class _Kind:
    legend: str
    edge: str
    face: str


INPUT = _Kind("input", COLOURS[2], "#E3F4EE")
SOP = _Kind("s-op", COLOURS[0], "#E4F0F8")
SELECTOR = _Kind("selector", COLOURS[1], "#FBEBE1")


def draw(program: Expression) -> Figure:
    """Every expression of the program as a box: rounded for s-ops, pointed for selectors, green for the inputs.

    A name is in bold above what the expression does; `·` stands for an argument. Arguments enter a box from top to
    bottom, keys (k) and queries (q) of a `Select` too. The program itself has a thick frame.
    """
    nodes = list(topological(program))
    number = {node: i for i, node in enumerate(nodes)}
    lines = [_lines(node) for node in nodes]
    boxes = [
        Box(*_size(node, text), tuple(number[child] for child in node.children), _kind(node) is INPUT)
        for node, text in zip(nodes, lines, strict=True)
    ]
    drawing = place(boxes)
    width = max(drawing.width + 2 * MARGIN, 4.6)
    height = drawing.height + 2 * MARGIN + FOOT
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(-MARGIN, width - MARGIN), ylim=(height - MARGIN, -MARGIN))
    axes.axis("off")
    _arrows(axes, nodes, drawing)
    for node, box, centre, text in zip(nodes, boxes, drawing.centres, lines, strict=True):
        _frame(axes, _kind(node), centre, box.width, box.height, thick=node is program)
        _write(axes, node, box, centre, text)
    _legend(axes, drawing.height + 0.5 * FOOT + MARGIN)
    return figure


def _kind(node: Expression) -> _Kind:
    if isinstance(node, Selector):
        return SELECTOR
    return INPUT if isinstance(node, Tokens | Indices | Length) else SOP


def _lines(node: Expression) -> list[str]:
    does = _cut(_does(node))
    return [does] if node.name is None else [_cut(node.name), does]


def _cut(text: str) -> str:
    return text if len(text) <= LABEL_LIMIT else f"{text[: LABEL_LIMIT - 1]}…"


def _does(node: Expression) -> str:
    match node:
        case Full() | ConstantSOp() | ConstantSelector() | Tokens() | Indices() | Length():
            return node.structure
        case Map(f=Partial(infix=infix, constant=constant, constant_first=first)):
            return f"{constant!r} {infix.sign} ·" if first else f"· {infix.sign} {constant!r}"
        case Map() if sign := prefix(node.f):
            return f"{sign}·"
        case LinearSequenceMap():
            negative = is_number(node.snd_fac) and node.snd_fac < 0
            return f"{node.fst_fac!r} × · {f'- {-node.snd_fac!r}' if negative else f'+ {node.snd_fac!r}'} × ·"
        case SequenceMap(f=Infix(sign=sign)):
            return f"· {sign} ·"
        case Map() | SequenceMap():
            text = function_text(node.f)
            return text if text.startswith("lambda") else f"{text}({', '.join('·' for _ in node.children)})"
        case Select():
            return _selects(node)
        case SelectorAnd() | SelectorOr():
            return f"· {node.SIGN} ·"
        case SelectorNot():
            return "~·"
        case SelectorWidth():
            return "width"
        case Aggregate():
            return node.reduction if node.default is None else f"{node.reduction}, else {node.default!r}"
    return type(node).__name__


def _selects(node: Select) -> str:
    if isinstance(node.predicate, Comparison):
        sign = node.predicate.value
        return sign if sign in ("True", "False") else f"key {sign} query"
    text = function_text(node.predicate)
    return text if text.startswith("lambda") else function_name(node.predicate)


def _size(node: Expression, lines: list[str]) -> tuple[float, float]:
    points = [NAME_POINTS, TEXT_POINTS] if len(lines) == 2 else [TEXT_POINTS]
    text = max(len(line) * size * CHARACTER for line, size in zip(lines, points, strict=True))
    height = max(sum(points) * 1.45 / 72 + 0.1, 0.13 * (len(node.children) + 1))
    beside = 2 * (TIP + LETTERS) if isinstance(node, Select) else 2 * TIP if isinstance(node, Selector) else 0.0
    return text + PADDING + beside, height


def _frame(axes: Axes, kind: _Kind, centre: Point, width: float, height: float, thick: bool) -> None:
    x, y = centre[0] - width / 2, centre[1] - height / 2
    look = {"facecolor": kind.face, "edgecolor": kind.edge, "linewidth": 2.4 if thick else 1.0, "zorder": 3}
    if kind is SELECTOR:
        across = [x, x + TIP, x + width - TIP, x + width, x + width - TIP, x + TIP]
        along = [centre[1], y, y, centre[1], y + height, y + height]
        axes.add_patch(Polygon(list(zip(across, along, strict=True)), **look))
    else:
        rounding = min(height / 2, 0.16) if kind is INPUT else 0.06
        axes.add_patch(FancyBboxPatch((x, y), width, height, boxstyle=f"round,pad=0,rounding_size={rounding}", **look))


def _write(axes: Axes, node: Expression, box: Box, centre: Point, lines: list[str]) -> None:
    look = {"family": "DejaVu Sans Mono", "ha": "center", "va": "center", "zorder": 4, "parse_math": False}
    x, y = centre
    if len(lines) == 2:
        middle = 0.7 * NAME_POINTS / 72
        axes.text(x, y - middle, lines[0], size=NAME_POINTS, weight="bold", color="0.1", **look)
        axes.text(x, y + middle, lines[1], size=TEXT_POINTS, color="0.2", **look)
    else:
        axes.text(x, y, lines[0], size=TEXT_POINTS, color="0.1", **look)
    if isinstance(node, Select):
        for port, letter in enumerate("kq"):
            at = (x - box.width / 2 + TIP + LETTERS / 2, y - port_offset(box, port))
            axes.text(*at, letter, size=PORT_POINTS, color=SELECTOR.edge, **look)


def _arrows(axes: Axes, nodes: list[Expression], drawing: Drawing) -> None:
    for (reader, port), points in drawing.paths.items():
        read = nodes[reader].children[port]
        colour = _kind(read).edge
        vertices, codes = [points[0]], [Path.MOVETO]
        for i, (before, after) in enumerate(pairwise(points)):
            if i % 2 == 0:
                vertices.append(after)
                codes.append(Path.LINETO)
            else:
                middle = (before[0] + after[0]) / 2
                vertices += [(middle, before[1]), (middle, after[1]), after]
                codes += [Path.CURVE4] * 3
        axes.add_patch(PathPatch(Path(vertices, codes), fill=False, edgecolor=colour, linewidth=1.0))
        (x, y) = points[-1]
        head = [(x, y), (x - 0.07, y - 0.028), (x - 0.07, y + 0.028)]
        axes.add_patch(Polygon(head, facecolor=colour, edgecolor="none", zorder=3.5))


def _legend(axes: Axes, y: float) -> None:
    x = 0.2
    for kind, thick in ((INPUT, False), (SOP, False), (SELECTOR, False), (SOP, True)):
        label = "the program" if thick else kind.legend
        _frame(axes, kind, (x, y), 0.36, 0.18, thick)
        axes.text(x + 0.26, y, label, size=TEXT_POINTS, ha="left", va="center", color="0.2")
        x += 0.62 + 0.075 * len(label)
