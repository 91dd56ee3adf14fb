"""What TransNormer's two attentions share (Qin et al. 2022, slug `transnormer`)."""

from dataclasses import dataclass
from typing import Literal

from torch import nn

from microtome.lab.zoo.mixers._lrpe import Lrpe
from microtome.lab.zoo.mixers._pattern import PatternMixer
from microtome.lab.zoo.parts import MixerPart, Shape

KINDS = ("t1", "t2")


class TransNormerMixer(PatternMixer):
    """Four maps with biases, started as the published code starts them, and LRPE."""

    def __init__(self, options: "TransNormerPart", shape: Shape):
        super().__init__(shape)
        self.kind = options.kind
        self.lrpe = Lrpe(self.d_head)
        for linear, gain in ((self.q, 2**-0.5), (self.k, 2**-0.5), (self.v, 2**-0.5), (self.o, 1.0)):
            nn.init.xavier_uniform_(linear.weight, gain=gain)


@dataclass(frozen=True)
class TransNormerPart(MixerPart):
    """`kind`: which of the paper's two families of activations, "t1" or "t2"."""

    kind: Literal["t1", "t2"] = "t1"

    def __post_init__(self):
        if self.kind not in KINDS:
            raise ValueError(f"kind is one of {', '.join(KINDS)}, not {self.kind!r}.")
