"""A layered drawing of a graph without cycles (Sugiyama, Tagawa and Toda 1981): places for boxes, paths for edges.

Layers run from left to right. What a box is read for leaves it as one trunk that passes through the layers between;
order in a layer follows barycentres, heights follow by isotonic regression, so that nothing in a layer overlaps.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import isotonic_regression

SWEEPS = 24
GAP = 0.14  # inches between what lies above each other
COLUMN_GAP = 0.6  # inches between layers
TRUNK = 0.1  # inches that a passing trunk takes

Point = tuple[float, float]


@dataclass(frozen=True)
class Box:
    """A box to place: its size in inches, the boxes that it reads in order of its ports, and whether it stays left."""

    width: float
    height: float
    reads: tuple[int, ...] = ()
    left: bool = False


@dataclass(frozen=True)
class Drawing:
    """Centres of the boxes, one path of points for each (reader, port), and the size of it all, in inches."""

    centres: list[Point]
    paths: dict[tuple[int, int], list[Point]]
    width: float
    height: float


@dataclass(frozen=True)
class _Graph:
    """What lies in each layer. Entry e < number of boxes is box e; the others are trunks passing through."""

    layers: list[list[int]]
    heights: list[float]
    segments: list[list[tuple[int, int]]]  # [layer] of (entry, entry of the layer after it)
    trunks: dict[tuple[int, int], int]  # (box, layer) of each trunk

    def before(self, box: int, layer: int) -> int:
        """The entry of the layer through which what the box is read for comes."""
        return self.trunks.get((box, layer), box)


def place(boxes: Sequence[Box]) -> Drawing:
    """Places boxes that are listed after those that they read."""
    depth = _depths(boxes)
    graph = _graph(boxes, depth)
    layers = _ordered(graph)
    y = _heights(graph, layers)
    left, right = _columns(boxes, layers, len(boxes))
    centres = [((left[depth[i]] + right[depth[i]]) / 2, y[i]) for i in range(len(boxes))]
    paths = {}
    for i, box in enumerate(boxes):
        for port, read in enumerate(box.reads):
            start = (centres[read][0] + boxes[read].width / 2, y[read])
            points = [start, (right[depth[read]], y[read])]
            for layer in range(depth[read] + 1, depth[i]):
                passing = y[graph.before(read, layer)]
                points += [(left[layer], passing), (right[layer], passing)]
            at = y[i] - port_offset(box, port)
            paths[i, port] = [*points, (left[depth[i]], at), (centres[i][0] - box.width / 2, at)]
    return Drawing(centres, paths, right[-1], max(y[e] + graph.heights[e] / 2 for e in range(len(y))))


def port_offset(box: Box, port: int) -> float:
    """How far a port lies above the middle of its box, in drawing coordinates, where y grows downwards."""
    return box.height * (0.5 - (port + 1) / (len(box.reads) + 1))


def _depths(boxes: Sequence[Box]) -> list[int]:
    """The layer of each box: as late as its readers allow, so that trunks are short; those on the left in layer 0."""
    earliest = []
    for box in boxes:
        earliest.append(1 + max((earliest[read] for read in box.reads), default=-1))
    latest = [max(earliest)] * len(boxes)
    for i, box in reversed(list(enumerate(boxes))):
        for read in box.reads:
            latest[read] = min(latest[read], latest[i] - 1)
    return [0 if box.left else depth for box, depth in zip(boxes, latest, strict=True)]


def _graph(boxes: Sequence[Box], depth: list[int]) -> _Graph:
    layers: list[list[int]] = [[] for _ in range(max(depth) + 1)]
    heights = [box.height for box in boxes]
    for i in range(len(boxes)):
        layers[depth[i]].append(i)
    last = list(depth)
    for i, box in enumerate(boxes):
        for read in box.reads:
            last[read] = max(last[read], depth[i])
    trunks = {}
    segments: list[list[tuple[int, int]]] = [[] for _ in layers]
    for i in range(len(boxes)):
        before = i
        for layer in range(depth[i] + 1, last[i]):
            trunks[i, layer] = len(heights)
            layers[layer].append(len(heights))
            segments[layer - 1].append((before, len(heights)))
            before = len(heights)
            heights.append(TRUNK)
    for i, box in enumerate(boxes):
        for read in box.reads:
            segments[depth[i] - 1].append((trunks.get((read, depth[i] - 1), read), i))
    return _Graph(layers, heights, segments, trunks)


def _ordered(graph: _Graph) -> list[list[int]]:
    """The layers in the order with the fewest crossings that barycentre sweeps find."""
    layers = [list(layer) for layer in graph.layers]
    best, fewest = layers, _crossings(graph, layers)
    for sweep in range(SWEEPS):
        layers = [list(layer) for layer in layers]
        forward = sweep % 2 == 0
        for k in range(1, len(layers)) if forward else range(len(layers) - 2, -1, -1):
            beside = {entry: position for position, entry in enumerate(layers[k - 1 if forward else k + 1])}
            pairs = graph.segments[k - 1 if forward else k]
            reached: dict[int, list[int]] = {}
            for a, b in pairs:
                own, other = (b, a) if forward else (a, b)
                reached.setdefault(own, []).append(beside[other])
            rank = {entry: float(i) for i, entry in enumerate(layers[k])}
            rank |= {entry: float(np.mean(places)) for entry, places in reached.items()}
            layers[k].sort(key=rank.__getitem__)
        count = _crossings(graph, layers)
        if count < fewest:
            best, fewest = layers, count
    return best


def _crossings(graph: _Graph, layers: list[list[int]]) -> int:
    total = 0
    for k, pairs in enumerate(graph.segments[:-1]):
        first, second = ({entry: i for i, entry in enumerate(layers[k + j])} for j in (0, 1))
        ends = np.array([(first[a], second[b]) for a, b in pairs])
        gaps = ends[:, None] - ends[None, :]
        total += int((gaps[..., 0] * gaps[..., 1] < 0).sum()) // 2
    return total


def _heights(graph: _Graph, layers: list[list[int]]) -> list[float]:
    """y of each entry, growing downwards from 0: near to what it is joined with, in order and apart."""
    joined: list[list[int]] = [[] for _ in graph.heights]
    for a, b in (pair for pairs in graph.segments for pair in pairs):
        joined[a].append(b)
        joined[b].append(a)
    offsets = []
    y = [0.0] * len(graph.heights)
    for layer in layers:
        sizes = np.array([graph.heights[entry] for entry in layer])
        starts = np.concatenate([[0.0], np.cumsum((sizes[:-1] + sizes[1:]) / 2 + GAP)])
        offsets.append(starts)
        for entry, start in zip(layer, starts - starts[-1] / 2, strict=True):
            y[entry] = start
    for sweep in range(SWEEPS):
        for k in range(len(layers)) if sweep % 2 == 0 else reversed(range(len(layers))):
            wished = np.array([np.mean([y[other] for other in joined[entry]] or [y[entry]]) for entry in layers[k]])
            # Trunks weigh more, so that they run straight.
            weights = np.array([1.0 if graph.heights[entry] > TRUNK else 4.0 for entry in layers[k]])
            moved = isotonic_regression(wished - offsets[k], weights=weights).x + offsets[k]
            for entry, place_ in zip(layers[k], moved, strict=True):
                y[entry] = float(place_)
    top = min(y[entry] - graph.heights[entry] / 2 for entry in range(len(y)))
    return [value - top for value in y]


def _columns(boxes: Sequence[Box], layers: list[list[int]], count: int) -> tuple[list[float], list[float]]:
    """Left and right edge of each layer."""
    left, right = [], []
    for layer in layers:
        left.append(right[-1] + COLUMN_GAP if right else 0.0)
        right.append(left[-1] + max((boxes[entry].width for entry in layer if entry < count), default=0.0))
    return left, right
