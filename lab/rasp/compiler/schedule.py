"""Pass 5: every operation goes into the first layer where all that it reads is there.

A layer attends first and then runs its neurons, so neurons may read heads of their own layer. Taking each operation as
early as possible gives the fewest layers that the reading order allows.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from microtome.lab.rasp.compiler.operations import Head, Neurons, Operation


@dataclass(frozen=True)
class Layer:
    """The heads and neurons of one transformer block."""

    heads: tuple[Head, ...]
    neurons: tuple[Neurons, ...]


def schedule(operations: Iterable[Operation]) -> tuple[Layer, ...]:
    """The layers, at least one; `operations` come in an order in which each follows those that it reads."""
    ready: dict[str, int] = {}
    placed: list[tuple[int, Operation]] = []
    for operation in operations:
        after = max((ready.get(direction, 0) for direction in operation.reads), default=0)
        attends = isinstance(operation, Head)
        # Half-layers: heads run at 1, 3, 5, … and neurons at 2, 4, 6, …
        time = after + 1 if (after % 2 == 0) == attends else after + 2
        placed.append((time, operation))
        ready.update({direction: max(time, ready.get(direction, 0)) for direction in operation.writes})
    depth = max((time + 1) // 2 for time, _ in placed) if placed else 1
    return tuple(
        Layer(
            tuple(op for time, op in placed if time == 2 * layer + 1),
            tuple(op for time, op in placed if time == 2 * layer + 2),
        )
        for layer in range(depth)
    )
