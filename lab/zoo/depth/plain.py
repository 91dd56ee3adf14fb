"""Plain depth: n_layers blocks, each with its own weights."""

from dataclasses import dataclass

from microtome.lab.zoo.parts import DepthPart


@dataclass(frozen=True)
class Part(DepthPart):
    """No options."""
