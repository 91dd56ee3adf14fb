"""From coordinates of the stream back to the values of a program's s-ops."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from microtome.lab.rasp.compiler.operations import Direction
from microtome.lab.rasp.language import Expression, Map, SequenceMap, SOp, topological
from microtome.lab.rasp.values import Value, key
from microtome.lab.rasp.verify import point_after

if TYPE_CHECKING:
    from microtome.lab.rasp.compiled import Compiled

MAX_COMBINATIONS = 2**16
"""Most combinations of values among which a reading is looked for."""
TOLERANCE = 0.02
"""How far a coordinate may be off, relative to the distance between two that mean something else."""


@dataclass(frozen=True)
class OneOf:
    """The stream leaves these values open."""

    values: tuple[Value, ...]

    def __repr__(self) -> str:
        return f"OneOf{self.values!r}"


Read = Mapping[str, list[list[Value | OneOf]]]
"""By label of the s-op: for each input of the batch and each of its positions, the value, or the values that it may be.

An s-op of which the stream holds nothing is not listed.
"""


def read(compiled: "Compiled", cache, layer: int) -> Read:
    """See `Compiled.read`."""
    depth = compiled.model.cfg.n_layers
    if not -1 <= layer < depth:
        raise ValueError(f"the model has layers 0 to {depth - 1}, and -1 stands for the embedding; there is no {layer}")
    stream = cache[point_after(compiled, 2 * layer + 2)][:, compiled.sink :].double().cpu().numpy()
    held = compiled.lowered.plan.allocation.at(2 * layer + 2)
    found: dict[str, list[list[Value | OneOf]]] = {}
    for expression in topological(compiled.program):
        if isinstance(expression, SOp):
            values = _read_one(compiled, expression, held, stream)
            if values is not None:
                found.setdefault(expression.label, values)
    return found


def _read_one(
    compiled: "Compiled", expression: Expression, held: Mapping[Direction, int], stream: np.ndarray
) -> list[list[Value | OneOf]] | None:
    inference = compiled.lowered.inference
    node = compiled.lowered.images[expression]
    facts = inference.facts[node]
    numbers = [d for d in held if d.table is None and d.sops[0] is node]
    if facts.values is None:
        return stream[..., held[numbers[0]]].tolist() if numbers else None
    arguments, image = _leaves(inference, node)
    if arguments is None:
        return None
    atoms = set(arguments)
    bearing = [d for d in held if all(s in atoms or s is node for s in d.sops)]
    if not bearing:
        return None
    combinations = list(np.ndindex(image.shape))
    coordinates = np.array(
        [[_coordinate(inference, d, arguments, node, image, c) for d in bearing] for c in combinations]
    )
    meant = np.array([image[c] for c in combinations])
    scale = np.array([_gap(coordinates[:, j]) for j in range(len(bearing))])
    columns = [held[d] for d in bearing]
    known: dict[bytes, Value | OneOf] = {}
    result = []
    for row in stream[..., columns]:
        result.append([_decoded(x, coordinates, scale, meant, facts.values, known) for x in row])
    return result


def _leaves(inference, node: SOp) -> tuple[list[SOp] | None, np.ndarray]:
    """The s-ops that a node is a function of at its own position, and the number of its value for each combination."""
    arguments = [node]
    image = np.arange(len(inference.facts[node].values))
    while True:
        place = next((i for i, s in enumerate(arguments) if isinstance(s, Map | SequenceMap)), None)
        if place is None:
            return arguments, image
        inner = inference.images.get(arguments[place])
        if inner is None or image.size // image.shape[place] * inner.size > MAX_COMBINATIONS:
            return None, image
        shape = (1,) * place + inner.shape + (1,) * (image.ndim - place - 1)
        image = np.where((inner < 0).reshape(shape), -1, np.take(image, np.maximum(inner, 0), axis=place))
        arguments[place : place + 1] = arguments[place].children
        for i in reversed(range(len(arguments))):
            j = next(j for j in range(len(arguments)) if arguments[j] is arguments[i])
            if j < i:
                image = np.moveaxis(np.diagonal(image, axis1=j, axis2=i), -1, j)
                del arguments[i]


def _coordinate(inference, direction: Direction, arguments, node: SOp, image, place) -> float:
    values = {id(s): inference.facts[s].values[i] for s, i in zip(arguments, place, strict=True)}
    if image[place] >= 0:
        values[id(node)] = inference.facts[node].values[image[place]]
    try:
        return direction.expected(*(values[id(s)] for s in direction.sops))
    except KeyError:
        return float("nan")


def _gap(coordinates: np.ndarray) -> float:
    distinct = np.unique(coordinates[~np.isnan(coordinates)])
    return float(np.diff(distinct).min()) if len(distinct) > 1 else 1.0


def _decoded(x, coordinates, scale, meant, values, known) -> Value | OneOf:
    mark = np.round(x, 6).tobytes()
    if mark not in known:
        with np.errstate(invalid="ignore"):
            near = (np.abs(coordinates - x) <= TOLERANCE * scale + 1e-5 * np.abs(x)).all(1) & (meant >= 0)
        fitting = np.unique(meant[near]).tolist()
        found = {key(values[i]): values[i] for i in fitting}
        known[mark] = next(iter(found.values())) if len(found) == 1 else OneOf(tuple(found.values()))
    return known[mark]
