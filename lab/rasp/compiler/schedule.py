"""Every operation goes into a layer: as few layers as the order of reading allows, evenly filled.

A layer attends first and then runs its neurons, so neurons may read heads of their own layer. The longest chain of
reading sets the number of layers; operations off that chain go where the fewest heads or neurons are, so that no layer
makes all others wide.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from microtome.lab.rasp.compiler.operations import Direction, Head, Neurons, Operation


@dataclass(frozen=True)
class Layer:
    """The heads and neurons of one transformer block."""

    heads: tuple[Head, ...]
    neurons: tuple[Neurons, ...]

    @property
    def n_neurons(self) -> int:
        return sum(len(op.neurons) for op in self.neurons)


@dataclass(frozen=True)
class Schedule:
    """The layers, and how many any schedule needs because each operation must follow those that it reads."""

    layers: tuple[Layer, ...]
    lower_bound: int


def schedule(operations: Sequence[Operation], *, spread: bool) -> Schedule:
    """The layers, at least one.

    Args:
        operations: in an order in which each follows those that it reads.
        spread: whether to fill layers evenly; else each operation is as early as it can be.
    """
    # Half-layers: heads run at 1, 3, 5, … and neurons at 2, 4, 6, …
    earliest = _earliest(operations)
    depth = max((time + 1) // 2 for time in earliest) if operations else 1
    if spread:
        operations = _merged(operations, earliest)
        earliest = _earliest(operations)
    times = _placed(operations, earliest, depth) if spread else earliest
    layers = tuple(
        Layer(
            tuple(op for time, op in zip(times, operations, strict=True) if time == 2 * layer + 1),
            tuple(op for time, op in zip(times, operations, strict=True) if time == 2 * layer + 2),
        )
        for layer in range(depth)
    )
    return Schedule(layers, depth)


def _after(time: int, operation: Operation) -> int:
    """The first half-layer for the operation after everything that it reads was written at `time` or before."""
    attends = isinstance(operation, Head)
    return time + 1 if (time % 2 == 0) == attends else time + 2


def _earliest(operations: Iterable[Operation]) -> list[int]:
    written: dict[Direction, int] = {}
    times = []
    for operation in operations:
        time = _after(max((written.get(d, 0) for d in operation.reads), default=0), operation)
        times.append(time)
        written.update(dict.fromkeys(operation.writes, time))
    return times


def _latest(operations: Sequence[Operation], depth: int) -> list[int]:
    needed: dict[Direction, int] = {}
    times = []
    for operation in reversed(operations):
        before = min((needed.get(d, 2 * depth + 1) for d in operation.writes), default=2 * depth + 1)
        time = before - 1 if (before % 2 == 0) == isinstance(operation, Head) else before - 2
        times.append(time)
        for d in operation.reads:
            needed[d] = min(needed.get(d, time), time)
    return times[::-1]


def _placed(operations: Sequence[Operation], earliest: Sequence[int], depth: int) -> list[int]:
    """The emptiest half-layer that each may have, those on the longest chains first where they must be."""
    latest = _latest(operations, depth)
    load = [0.0] * (2 * depth + 2)
    for operation, first, last in zip(operations, earliest, latest, strict=True):
        if first == last:
            load[first] += _size(operation)
    written: dict[Direction, int] = {}
    times = []
    for operation, first, last in zip(operations, earliest, latest, strict=True):
        ready = _after(max((written.get(d, 0) for d in operation.reads), default=0), operation)
        if first == last:
            time = first
        else:
            time = min(range(ready, last + 1, 2), key=lambda t: (load[t], t))
            load[time] += _size(operation)
        times.append(time)
        written.update(dict.fromkeys(operation.writes, time))
    return times


def _size(operation: Operation) -> float:
    return 1.0 if isinstance(operation, Head) else float(len(operation.neurons))


def _merged(operations: Sequence[Operation], times: Sequence[int]) -> list[Operation]:
    """Heads that attend alike at the same time become one that writes for all."""
    first: dict[tuple, int] = {}
    merged: list[Operation | None] = list(operations)
    for i, (operation, time) in enumerate(zip(operations, times, strict=True)):
        if not isinstance(operation, Head):
            continue
        j = first.setdefault((operation.selector, time), i)
        if j != i:
            merged[j], merged[i] = _joined(merged[j], operation), None
    # A merged head may read what comes between the two; it is at the same time, so it belongs at the later place.
    order = sorted((i for i, op in enumerate(merged) if op is not None), key=lambda i: (times[i], i))
    return [merged[i] for i in order]


def _joined(a: Head, b: Head) -> Head:
    return replace(
        a,
        label=f"{a.label}, {b.label}",
        values={**a.values, **b.values},
        constants={**a.constants, **b.constants},
        sink_values={**a.sink_values, **b.sink_values},
    )
