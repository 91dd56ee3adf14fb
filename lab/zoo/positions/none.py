"""No positions: the model sees an unordered set, but for what a causal mask tells it."""

from dataclasses import dataclass

from microtome.lab.zoo.parts import Position, PositionPart, Shape


@dataclass(frozen=True)
class Part(PositionPart):
    """No options."""

    def build(self, shape: Shape) -> Position:
        return Position()
