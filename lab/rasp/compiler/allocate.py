"""Which column of the stream each direction has, and when a column is cleared for another direction.

A direction is alive from the half-layer that writes it to the last that reads it. A column whose direction is dead can
be taken over: a neuron reads the old coordinate, which is a whole number held exactly, and writes its negative. That
costs a neuron (two where the coordinate has both signs) and saves a column, and is done where it saves parameters.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from microtome.lab.rasp.compiler.operations import Direction, Form
from microtome.lab.rasp.compiler.schedule import Layer


@dataclass(frozen=True)
class Life:
    """A direction in a column, from the half-layer `born` (0: the embedding) until it is cleared at `cleared`."""

    direction: Direction
    column: int
    born: int
    cleared: int | None = None


@dataclass(frozen=True)
class Allocation:
    """The columns of the stream.

    Attributes:
        lives: of all directions, in order of birth.
        width: how many columns there are.
        clearing: for each layer, the directions that its neurons clear.
    """

    lives: tuple[Life, ...]
    width: int
    clearing: Mapping[int, tuple[Direction, ...]] = field(default_factory=dict)

    @property
    def column(self) -> Mapping[Direction, int]:
        return {life.direction: life.column for life in self.lives}

    def at(self, half_layer: int) -> dict[Direction, int]:
        """The directions that are held after that half-layer, with their columns."""
        return {
            life.direction: life.column
            for life in self.lives
            if life.born <= half_layer and (life.cleared is None or life.cleared > half_layer)
        }


def allocate(
    layers: Sequence[Layer], embedded: Iterable[Direction], output: Iterable[Form], *, first: int, weight, reuse: bool
) -> Allocation:
    """Columns for all directions.

    Args:
        first: how many columns are taken already (the sink's mark).
        weight: parameters of a model by (columns, most neurons of a layer).
        reuse: whether to reuse columns.
    """
    born, died = _lives(layers, embedded, output)
    # The output reads at the end, after which no neuron runs.
    costs = {d: _clear_cost(d) for d in born if reuse and died[d] <= 2 * len(layers)}
    load = [layer.n_neurons for layer in layers]
    lives: list[Life] = []
    owner: dict[int, Life] = {}
    clearing: dict[int, list[Direction]] = {}
    width = first
    for direction in sorted(born, key=lambda d: born[d]):
        birth = born[direction]
        choice = None
        if reuse and birth > 0:
            choice = _reusable(owner, costs, died, birth, load, width, weight)
        if choice is None:
            column, width = width, width + 1
        else:
            old, layer = choice
            column = old.column
            load[layer] += costs[old.direction]
            clearing.setdefault(layer, []).append(old.direction)
            ended = Life(old.direction, old.column, old.born, cleared=2 * layer + 2)
            lives[lives.index(old)] = ended
        life = Life(direction, column, birth)
        lives.append(life)
        owner[column] = life
    return Allocation(tuple(lives), max(1, width), {layer: tuple(ds) for layer, ds in clearing.items()})


def _lives(
    layers: Sequence[Layer], embedded: Iterable[Direction], output: Iterable[Form]
) -> tuple[dict[Direction, int], dict[Direction, int]]:
    born = dict.fromkeys(embedded, 0)
    died = dict.fromkeys(embedded, 0)
    for i, layer in enumerate(layers):
        for time, operations in ((2 * i + 1, layer.heads), (2 * i + 2, layer.neurons)):
            for operation in operations:
                died.update(dict.fromkeys(operation.reads, time))
                for direction in operation.writes:
                    born.setdefault(direction, time)
                    died.setdefault(direction, time)
    for form in output:
        died.update(dict.fromkeys(form.weights, 2 * len(layers) + 1))
    return born, died


def _reusable(owner, costs, died, birth: int, load: list[int], width: int, weight) -> tuple[Life, int] | None:
    """A dead column and the layer to clear it in, where that saves the most parameters."""
    best, saved = None, 0
    most = max(load)
    now = weight(width + 1, most)
    for life in owner.values():
        cost = costs.get(life.direction, 0)
        if cost == 0:
            continue
        # Neurons of a layer run at an even half-layer; what they clear must be dead after it and taken from it on.
        earliest = max((died[life.direction] + 1) // 2 * 2, life.born // 2 * 2 + 2)
        for time in range(earliest, birth + 1, 2):
            layer = time // 2 - 1
            gain = now - weight(width, max(most, load[layer] + cost))
            if gain > saved:
                best, saved = (life, layer), gain
    return best


def _clear_cost(direction: Direction) -> int:
    """Neurons that clear a coordinate exactly; 0 if none do."""
    if direction.table is None or direction.error > 0:
        return 0
    numbers = direction.table.values()
    if any(x != round(x) for x in numbers):
        return 0
    return (min(numbers) < 0) + (max(numbers) > 0)
