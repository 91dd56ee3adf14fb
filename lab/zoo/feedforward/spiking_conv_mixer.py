"""The channel mixer of the spiking LMUFormer (Liu et al. 2024, slug `lmuformer`), two convolutions of width one:

    W_out·LIF(BN(W_in·LIF(BN(x)) + b_in)) + b_out

The neurons' potentials run along the sequence, so that a position is not fed by itself.
"""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from microtome.lab.zoo.feedforward._mlp import MLP, width
from microtome.lab.zoo.norms._batch import BatchNorm
from microtome.lab.zoo.parts import FeedForwardPart, Shape
from microtome.lab.zoo.spiking import LIF
from microtome.lab.zoo.streaming import State


class SpikingConvMixer(MLP):
    """`hook_pre` is what the hidden neurons take in, `hook_post` what they fire."""

    def __init__(self, shape: Shape, d_mlp: int):
        super().__init__(shape, d_mlp, LIF(), bias=True)
        self.bn_x, self.lif_x = BatchNorm(shape.d_model), LIF()
        self.bn_in = BatchNorm(d_mlp)

    def forward(self, x: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch pos d_model"]:
        hidden = self.bn_in(self.in_(self.lif_x(self.bn_x(x))))
        return self.out(self.hook_post(self.act(self.hook_pre(hidden))))

    def start(self, batch: int) -> State:
        """The potentials of both layers of neurons, [batch d_model] and [batch d_mlp]."""
        weight = self.in_.weight
        return weight.new_zeros(batch, weight.shape[1]), weight.new_zeros(batch, weight.shape[0])

    def step(self, x: Float[Tensor, "batch 1 d_model"], state: State) -> tuple[Float[Tensor, "batch 1 d_model"], State]:
        """What is written at one position, and the potentials after it."""
        fired, v_x = self.lif_x.step(self.bn_x(x)[:, 0], state[0])
        hidden, v_in = self.act.step(self.bn_in(self.in_(fired[:, None]))[:, 0], state[1])
        return self.out(hidden[:, None]), (v_x, v_in)


@dataclass(frozen=True)
class Part(FeedForwardPart):
    """`d_mlp` None gives 4·d_model."""

    pointwise: ClassVar = False

    d_mlp: int | None = None

    def build(self, shape: Shape) -> SpikingConvMixer:
        return SpikingConvMixer(shape, width(self.d_mlp, 4 * shape.d_model))
