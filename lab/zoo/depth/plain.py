"""Plain depth: n_layers blocks, each with its own weights."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from microtome.lab.zoo.parts import DepthPart


@dataclass(frozen=True)
class Part(DepthPart):
    """No options."""

    def blocks(self, make_block: Callable[[], nn.Module], n_layers: int) -> list[nn.Module]:
        return [make_block() for _ in range(n_layers)]
