"""No normalisation."""

from dataclasses import dataclass

from torch import nn

from microtome.lab.zoo.parts import NormPart, Placement


@dataclass(frozen=True)
class Part(NormPart):
    """No options: blocks write x + F(x)."""

    placement: Placement = "none"
    final: bool = False

    def build(self, d_model: int) -> nn.Identity:
        return nn.Identity()
