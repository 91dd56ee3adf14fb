"""The arguments of a function that is read: which s-ops it really depends on, and at which depth to look at it."""

from typing import TYPE_CHECKING

import numpy as np

from microtome.lab.rasp.compiler import readouts
from microtome.lab.rasp.language import Map, SequenceMap, SOp

if TYPE_CHECKING:
    from microtome.lab.rasp.compiler.lower import Lowering

MAX_FUSED = 2**16
"""Most combinations of values on which nested functions are looked at as one."""


def reduced(lowering: "Lowering", sops: list[SOp], function: np.ndarray) -> tuple[list[SOp], np.ndarray]:
    """Maps folded into the function, each s-op once, and only those that make a difference."""
    function = np.asarray(function, dtype=float)
    i = 0
    while i < len(sops):
        sop = sops[i]
        if folds(lowering, sops, i):
            image = lowering.inference.images[sop]
            taken = function.take(np.maximum(image, 0), axis=i)
            shape = [-1 if j == i else 1 for j in range(function.ndim)]
            function = np.where((image < 0).reshape(shape), np.nan, taken)
            sops[i] = sop.inner
            continue
        earlier = next((j for j in range(i) if sops[j] is sop), None)
        if earlier is not None:
            function = np.moveaxis(np.diagonal(function, axis1=earlier, axis2=i), -1, earlier)
            del sops[i]
            continue
        if _indifferent(function, i):
            function = np.nanmax(np.where(np.isnan(function), -np.inf, function), axis=i)
            function = np.where(np.isinf(function), np.nan, function)
            del sops[i]
            i = 0
            continue
        i += 1
    if len(sops) > 1 and all(lowering.facts(s).at is not None for s in sops):
        reached = np.zeros(function.shape, dtype=bool)
        reached[tuple(lowering.facts(s).at for s in sops)] = True
        function = np.where(reached, function, np.nan)
    return sops, function


def folds(lowering: "Lowering", sops: list[SOp], i: int) -> bool:
    """Whether a Map among the arguments becomes part of the function: if what it reads is listed and not large."""
    sop = sops[i]
    if not isinstance(sop, Map) or lowering.plain or lowering.facts(sop.inner).values is None:
        return False
    others = np.prod([len(lowering.facts(s).values) for s in sops if s is not sop], dtype=float)
    return len(sops) == 1 or bool(others * len(lowering.facts(sop.inner).values) <= MAX_FUSED)


def opened(lowering: "Lowering", sops: list[SOp], function: np.ndarray) -> list[tuple[list[SOp], np.ndarray]]:
    """The function as it is, and with nested functions opened one after another as far as that stays small."""
    opened = [(sops, function)]
    while True:
        sops, function = opened[-1]
        place = next((i for i, s in enumerate(sops) if can_open(lowering, s)), None)
        if place is None:
            return opened
        image = lowering.inference.images[sops[place]]
        if function.size // function.shape[place] * image.size > MAX_FUSED:
            return opened
        taken = np.take(function, np.maximum(image, 0), axis=place)
        shape = (1,) * place + image.shape + (1,) * (function.ndim - place - 1)
        function = np.where((image < 0).reshape(shape), np.nan, taken)
        inner = [*sops[:place], *sops[place].children, *sops[place + 1 :]]
        opened.append(reduced(lowering, inner, function))
        if not opened[-1][0]:
            return opened[:-1]


def can_open(lowering: "Lowering", sop: SOp) -> bool:
    return isinstance(sop, SequenceMap) and not lowering.facts(sop).linear


def cheapest(lowering: "Lowering", opened: list[tuple[list[SOp], np.ndarray]]) -> tuple[list[SOp], np.ndarray]:
    """The most opened form that does not need many more neurons than the closed one."""
    if len(opened) == 1:
        return opened[0]
    sops, function = opened[0]
    known = ~np.isnan(function)
    # What is 1 and not 0 costs as much as what is 0 and not 1.
    shape = np.abs(function - function[known][0]) if np.isin(function[known], (0.0, 1.0)).all() else function
    mark = (tuple(sops), shape.tobytes())
    if mark not in lowering.choices:
        lowering.choices[mark] = _choice(lowering, opened)
    return opened[lowering.choices[mark]]


def _choice(lowering: "Lowering", opened: list[tuple[list[SOp], np.ndarray]]) -> int:
    """Which of the forms is `cheapest`."""
    cost = readouts.cost(lowering, *opened[-1], enough=readouts.FEW)
    if cost is not None and cost <= readouts.FEW:
        return len(opened) - 1
    costs = [*(readouts.cost(lowering, *form) for form in opened[:-1]), cost]
    known = [c for c in costs if c is not None]
    if not known:
        return 0
    limit = max(readouts.FEW, 3 * (costs[0] if costs[0] is not None else min(known)))
    return max(i for i, c in enumerate(costs) if c is not None and c <= limit)


def additive(function: np.ndarray) -> list[np.ndarray] | None:
    """Functions of each argument alone that sum to the function wherever it is known, or None."""
    if np.isnan(function).any():
        return _additive_known(function)
    corner = function[(0,) * function.ndim]
    parts, total = [], np.zeros(function.shape)
    for axis in range(function.ndim):
        line = function[tuple(slice(None) if i == axis else 0 for i in range(function.ndim))]
        part = line - (corner if axis else 0.0)
        parts.append(part)
        total = total + part.reshape([-1 if i == axis else 1 for i in range(function.ndim)])
    scale = max(1.0, float(np.abs(function).max()))
    return parts if np.abs(total - function).max() <= 1e-12 * scale else None


def _additive_known(function: np.ndarray) -> list[np.ndarray] | None:
    """As `additive`, where some combinations never occur: solved over those that do, if small."""
    known = np.argwhere(~np.isnan(function))
    if function.ndim != 2 or len(known) == 0:
        return None
    rows, columns = function.shape
    part = [np.full(rows, np.nan), np.full(columns, np.nan)]
    neighbours: dict[tuple[int, int], list[int]] = {}
    for r, c in known.tolist():
        neighbours.setdefault((0, r), []).append(c)
        neighbours.setdefault((1, c), []).append(r)
    for start in neighbours:
        if not np.isnan(part[start[0]][start[1]]):
            continue
        part[start[0]][start[1]] = 0.0
        stack = [start]
        while stack:
            side, i = stack.pop()
            for j in neighbours[side, i]:
                if np.isnan(part[1 - side][j]):
                    value = function[i, j] if side == 0 else function[j, i]
                    part[1 - side][j] = value - part[side][i]
                    stack.append((1 - side, j))
    total = part[0][:, None] + part[1][None, :]
    scale = max(1.0, float(np.nanmax(np.abs(function))))
    with np.errstate(invalid="ignore"):
        fits = np.abs(total - function)[~np.isnan(function)].max() <= 1e-12 * scale
    return [np.nan_to_num(p) for p in part] if fits else None


def _indifferent(function: np.ndarray, axis: int) -> bool:
    """Whether an argument makes no difference wherever the function is known."""
    if function.shape[axis] == 1:
        return True
    first, second = function.take(0, axis), function.take(1, axis)
    if ((first < second) | (first > second)).any():
        return False
    with np.errstate(all="ignore"):
        low = np.where(np.isnan(function), np.inf, function).min(axis)
        high = np.where(np.isnan(function), -np.inf, function).max(axis)
    return bool((high <= low).all())
