"""The picture of a program: nothing overlaps, everything can be read, and it is the program."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patches import FancyBboxPatch, PathPatch, Polygon

from microtome.lab import rasp
from microtome.lab.rasp import Comparison, Full, LinearSequenceMap, Map, Select, SelectorWidth, indices, length, tokens
from microtome.lab.rasp.graph import LABEL_LIMIT, draw
from microtome.lab.rasp.language import Aggregate, SequenceMap, topological
from microtome.lab.rasp.layered import Box, Drawing, place

SAME = Select(tokens, tokens, Comparison.EQ).named("same")


def twenty_nodes() -> rasp.SOp:
    count = SelectorWidth(SAME).named("count")
    previous = Select(indices, indices, lambda key, query: key + 1 == query).named("previous")
    before = Aggregate(previous, tokens, reduction="first").named("before")
    triple = SequenceMap(lambda x, y, z: (x, y, z), tokens, before, count).named("triple")
    chosen = Select(triple, triple, Comparison.EQ) & ~previous | Select(tokens, Full("b"), Comparison.NEQ)
    largest = Aggregate(chosen, count, default=0, reduction="max").named("largest")
    return LinearSequenceMap(largest - SelectorWidth(chosen), length * 2 % 3, 1, -2).named("result") == before


PROGRAMS = {
    "input": tokens,
    "hist": SelectorWidth(SAME).named("hist"),
    "selector": SAME & Select(indices, tokens, Comparison.LT),
    "constant": Full(3) + 1,
    "same twice": Map(lambda x: x + 1, tokens) * tokens + tokens,
    "long labels": Map(lambda x: "a very long constant that does not fit" + x, tokens.named("n" * 80)).named("m" * 80),
    "dollars": (tokens == "$x$").named("$cost_of_{x}$"),
    "twenty nodes": twenty_nodes(),
}


def contains(outer, inner, slack: float = 0.5) -> bool:
    return (
        outer.x0 - slack <= inner.x0
        and outer.y0 - slack <= inner.y0
        and inner.x1 <= outer.x1 + slack
        and inner.y1 <= outer.y1 + slack
    )


def apart(one, other) -> bool:
    return one.x1 <= other.x0 or other.x1 <= one.x0 or one.y1 <= other.y0 or other.y1 <= one.y0


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_expression_is_a_box_that_holds_its_text_and_overlaps_nothing(name):
    program = PROGRAMS[name]
    figure = draw(program)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    axes = figure.axes[0]
    patches = [p for p in axes.patches if isinstance(p, FancyBboxPatch) or (isinstance(p, Polygon) and len(p.xy) == 7)]
    nodes = list(topological(program))
    assert len(patches) == len(nodes) + 4  # four in the legend
    frames = [patch.get_window_extent(renderer) for patch in patches]
    assert all(contains(figure.bbox, frame) for frame in frames)
    assert all(apart(one, other) for one, other in itertools.combinations(frames, 2))
    texts = [text.get_window_extent(renderer) for text in axes.texts]
    assert all(contains(figure.bbox, text) for text in texts)
    assert all(apart(one, other) for one, other in itertools.combinations(texts, 2))
    inside = [text for text in texts if any(contains(frame, text) for frame in frames)]
    assert len(inside) == len(texts) - 4
    arrows = [patch for patch in axes.patches if isinstance(patch, PathPatch)]
    assert len(arrows) == sum(len(node.children) for node in nodes)


def test_labels_say_what_each_expression_does():
    texts = [text.get_text() for text in draw(twenty_nodes()).axes[0].texts]
    for label in (
        "same",
        "key == query",
        "width",
        "first",
        "max, else 0",
        "lambda key, query: key + 1 == que…",
        "lambda x, y, z: (x, y, z)",
        "~·",
        "· | ·",
        "· - ·",
        "· % 3",
        "Full('b')",
        "1 × · - 2 × ·",
        "· == ·",
    ):
        assert label in texts
    assert max(map(len, texts)) <= LABEL_LIMIT


def test_kinds_differ_in_shape_and_colour():
    boxes = draw(SelectorWidth(SAME)).axes[0].patches
    outlines = {type(patch): patch.get_edgecolor() for patch in boxes if not isinstance(patch, PathPatch)}
    assert outlines[FancyBboxPatch] != outlines[Polygon]
    thick = [patch for patch in boxes if patch.get_linewidth() > 2]
    assert len(thick) == 2  # the program and its sign in the legend


BOXES = st.lists(
    st.tuples(st.floats(0.2, 3.0), st.floats(0.2, 0.8), st.lists(st.integers(0, 99), max_size=3)),
    min_size=1,
    max_size=25,
)


def boxes_of(drawn: list[tuple]) -> list[Box]:
    boxes = [
        Box(width, height, tuple(read % i for read in reads) if i else (), left=not (reads and i))
        for i, (width, height, reads) in enumerate(drawn)
    ]
    loose = set(range(len(boxes))) - {read for box in boxes for read in box.reads}
    return [*boxes, Box(1.0, 0.5, tuple(sorted(loose)))]


def crosses(path: list[tuple[float, float]], centre: tuple[float, float], box: Box) -> bool:
    """Whether a level part of the path runs through the inside of the box."""
    x, y = centre
    return any(
        abs(at - y) < box.height / 2 - 1e-6 and start < x + box.width / 2 - 1e-6 and end > x - box.width / 2 + 1e-6
        for (start, at), (end, _) in itertools.islice(itertools.pairwise(path), 0, None, 2)
    )


@settings(max_examples=50, deadline=None)
@given(BOXES)
def test_any_graph_is_laid_out_apart_from_left_to_right(drawn):
    boxes = boxes_of(drawn)
    drawing = place(boxes)
    assert isinstance(drawing, Drawing)
    centres = np.array(drawing.centres)
    sizes = np.array([(box.width, box.height) for box in boxes])
    gaps = np.abs(centres[:, None] - centres[None, :]) - (sizes[:, None] + sizes[None, :]) / 2
    together = (gaps < -1e-9).all(axis=-1)
    assert together.sum() == len(boxes)  # each only with itself
    assert (centres - sizes / 2 >= -1e-9).all()
    assert (centres + sizes / 2 <= np.array([drawing.width, drawing.height]) + 1e-9).all()
    assert set(drawing.paths) == {(i, port) for i, box in enumerate(boxes) for port in range(len(box.reads))}
    for (reader, port), path in drawing.paths.items():
        read = boxes[reader].reads[port]
        assert path[0] == (centres[read][0] + sizes[read][0] / 2, centres[read][1])
        assert path[-1][0] == pytest.approx(centres[reader][0] - sizes[reader][0] / 2)
        assert abs(path[-1][1] - centres[reader][1]) < sizes[reader][1] / 2
        assert all(start[0] <= end[0] + 1e-9 for start, end in itertools.pairwise(path))
        strangers = set(range(len(boxes))) - {read, reader}
        assert not any(crosses(path, drawing.centres[i], boxes[i]) for i in strangers)


def test_a_chain_is_drawn_on_a_line():
    drawing = place([Box(1.0, 0.3, left=True), Box(1.0, 0.5, (0,)), Box(2.0, 0.3, (1,))])
    assert len({round(y, 9) for _, y in drawing.centres}) == 1
    assert [x for x, _ in drawing.centres] == [0.5, 2.1, 4.2]
