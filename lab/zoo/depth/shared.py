"""Shared depth: one block's weights at every layer (Universal Transformer, Dehghani et al. 2019; ALBERT, Lan et al.
2020).

The layers keep their own hook points, so that a probe can tell them apart; their parameters are the same tensors.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import nn

from microtome.lab.zoo.parts import DepthPart, MixerPart


@dataclass(frozen=True)
class Part(DepthPart):
    """No options."""

    def blocks(self, make_block: Callable[[MixerPart], nn.Module], mixers: Sequence[MixerPart]) -> list[nn.Module]:
        blocks = super().blocks(make_block, mixers)
        for block in blocks[1:]:
            for module, original in zip(block.modules(), blocks[0].modules(), strict=True):
                for name in dict(module.named_parameters(recurse=False)):
                    setattr(module, name, getattr(original, name))
        return blocks
