"""A mixer of its own in every layer: local ones below and linear ones above (TransNormer, Qin et al. 2022), one
attention in eight layers of Mamba (Jamba, Lieber et al. 2024), and the like.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from microtome.lab.zoo.parts import DepthPart, MixerPart


@dataclass(frozen=True)
class Part(DepthPart):
    """`mixers_by_layer`: one mixer a layer, from the first; empty for the model's own `mixer` in every layer.

    A mixer with a module that serves all layers (`urpe`) cannot stand beside others.
    """

    slots: ClassVar[Mapping[str, str]] = {"mixers_by_layer": "mixers"}

    mixers_by_layer: tuple[MixerPart, ...] = ()

    def mixers(self, mixer: MixerPart, n_layers: int) -> list[MixerPart]:
        if not self.mixers_by_layer:
            return super().mixers(mixer, n_layers)
        if len(self.mixers_by_layer) != n_layers:
            raise ValueError(
                f"depth 'by_layer' needs one mixer a layer: {n_layers} layers, {len(self.mixers_by_layer)} mixers."
            )
        return list(self.mixers_by_layer)
