"""The token mixer of the spiking LMUFormer (Liu et al. 2024, slug `lmuformer`): neurons fire wherever it reads.

    x̂ = LIF(BN(x)),   u = LIF(BN(w_u·x̂ + b_u)),   m_t = Ā m_{t−1} + B̄ u_t
    h = LIF(BN(W_h [LIF(BN(m)); x̂] + b_h)),   out = BN(W_O h + b_O)

The recurrence keeps real numbers; only what is read of it is binary. The first neurons have the threshold 0.5, the
others 1. The published step function leaves BN and LIF of m out, so that it is another function than the parallel form;
the one here is the same.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from microtome.lab.zoo.mixers import lmuformer
from microtome.lab.zoo.mixers._recurrent import Channels
from microtome.lab.zoo.norms._batch import BatchNorm
from microtome.lab.zoo.parts import Context, Shape
from microtome.lab.zoo.spiking import LIF
from microtome.lab.zoo.streaming import Moment, State


class SpikingLMUMixer(lmuformer.LMUMixer):
    """The spiking Legendre memory of one layer; its state is the memory and the potentials of four sets of neurons."""

    def __init__(self, options: "Part", shape: Shape):
        super().__init__(options, shape)
        self.bn_x, self.lif_x = BatchNorm(shape.d_model), LIF(0.5)
        self.bn_u, self.lif_u = BatchNorm(1), LIF()
        self.bn_m, self.lif_m = BatchNorm(self.d_head), LIF()
        self.bn_h, self.lif_h = BatchNorm(shape.d_model), LIF()

    def _front(self, x: Channels, context: Context) -> Channels:
        return self.lif_x(_real(self.bn_x(x), context))

    def _input(self, x: Channels, context: Context) -> Float[Tensor, "batch pos 1"]:
        return _real(self.lif_u(_real(self.bn_u(self.u(x)), context)), context)

    def _read(self, z: Float[Tensor, "batch pos state"], x: Channels) -> Channels:
        return self.lif_h(self.bn_h(self.h(torch.cat([self.lif_m(self.bn_m(z)), x], dim=-1))))

    def start(self, batch: int) -> State:
        """The memory [batch state] and the potentials in front, at u, at m and at h."""
        (m,) = super().start(batch)
        widths = (self.h.out_features, 1, self.d_head, self.h.out_features)
        return (m, *(m.new_zeros(batch, width) for width in widths))

    def step(
        self, x: Float[Tensor, "batch d_model"], state: State, moment: Moment
    ) -> tuple[Float[Tensor, "batch d_model"], State]:
        m, v_x, v_u, v_m, v_h = state
        x, v_x = self.lif_x.step(_row(self.bn_x, x), v_x)
        u, v_u = self.lif_u.step(_row(self.bn_u, self.u(x)), v_u)
        m = self.memory.step(m, u[:, 0])
        read, v_m = self.lif_m.step(_row(self.bn_m, m), v_m)
        h, v_h = self.lif_h.step(_row(self.bn_h, self.h(torch.cat([read, x], dim=-1))), v_h)
        return _row(self.bn, self.o(h)), (m, v_x, v_u, v_m, v_h)


def _real(x: Channels, context: Context) -> Channels:
    """x with zeros at padding."""
    return x if context.mask is None else x * context.mask[..., None]


def _row(norm: BatchNorm, x: Float[Tensor, "batch channel"]) -> Float[Tensor, "batch channel"]:
    return norm(x[:, None])[:, 0]


@dataclass(frozen=True)
class Part(lmuformer.Part):
    """Options as those of `lmuformer`; the paper's model has d_memory = 512 beside d_model = 256."""

    def build(self, shape: Shape) -> SpikingLMUMixer:
        return SpikingLMUMixer(self, shape)
