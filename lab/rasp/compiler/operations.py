"""What lowering produces: heads and neurons over named directions of the stream, before any index is given."""

from collections.abc import Mapping
from dataclasses import dataclass

Row = Mapping[str, float]
"""Weights by name of direction."""


@dataclass(frozen=True)
class Head:
    """One attention head. Scores are in tiers (see `heads`); `emit` turns a tier into float32's coldness.

    Attributes:
        label: of the s-op that it computes.
        query, key: coordinates `[direction][dim]` whose product is the table part of the score, 0 where the key is
            selected.
        width: number of these dims.
        demoted: directions of a key that lower its score by one tier.
        sink_score: score of the sink, in tiers.
        sink_bonus: added to it, in nats.
        value: `value[source][target]`, what a key at `source` writes to `target`.
        sink_value: what the sink writes, by target.
    """

    label: str
    query: Mapping[str, Mapping[int, float]]
    key: Mapping[str, Mapping[int, float]]
    width: int
    demoted: tuple[str, ...]
    sink_score: float
    sink_bonus: float
    value: Mapping[str, Row]
    sink_value: Row

    @property
    def reads(self) -> frozenset[str]:
        return frozenset((*self.query, *self.key, *self.demoted, *self.value))

    @property
    def writes(self) -> tuple[str, ...]:
        """The targets, in a fixed order."""
        targets = dict.fromkeys(target for row in (*self.value.values(), self.sink_value) for target in row)
        return tuple(targets)

    @property
    def d_head(self) -> int:
        """Dims that it needs: two beyond its table for the sink, or one for each target."""
        return max(self.width + 2, len(self.writes))


@dataclass(frozen=True)
class Neuron:
    """writes · relu(reads · stream + bias)."""

    reads: Row
    bias: float
    writes: Row


@dataclass(frozen=True)
class Neurons:
    """The neurons that compute one s-op, or the values of one from its number."""

    label: str
    neurons: tuple[Neuron, ...]

    @property
    def reads(self) -> frozenset[str]:
        return frozenset(direction for neuron in self.neurons for direction in neuron.reads)

    @property
    def writes(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(direction for neuron in self.neurons for direction in neuron.writes))


Operation = Head | Neurons
