"""A gated linear recurrence: an exponential moving average whose rate the input sets, channel by channel.

    f_t = σ(W_f x_t + b_f),   h_t = f_t ⊙ h_{t−1} + (1 − f_t) ⊙ W_v x_t,   output = (h_t ⊙ SiLU(W_g x_t)) W_O

The gates read the input only, not the state, so that all states are made at once (Martin & Cundy 2018, "Parallelizing
linear recurrent neural nets over sequence length"; Qin et al. 2023, "Hierarchically gated recurrent neural network for
sequence modeling", without its lower bounds; Feng et al. 2024, "Were RNNs all we needed?").
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from microtome.kernels.linear_recurrence import decay_matrix, linear_recurrence
from microtome.lab.zoo.mixers._recurrent import Channels, RecurrentMixer, RecurrentPart
from microtome.lab.zoo.parts import Context, Effective, Shape
from microtome.lab.zoo.points import Point
from microtome.lab.zoo.streaming import Moment, State, Streaming
from microtome.lab.zoo.template import Template


class GatedRecurrence(RecurrentMixer, Streaming):
    """Padding leaves the state as it is."""

    def __init__(self, shape: Shape):
        super().__init__(shape)
        self.forget = nn.Linear(shape.d_model, shape.d_model)
        self.v = nn.Linear(shape.d_model, shape.d_model)
        self.gate = nn.Linear(shape.d_model, shape.d_model)
        self.hook_forget = Point("batch pos d_model", "gate")

    def _states(self, x: Channels, context: Context) -> Channels:
        forget, v = self._forget_and_values(x, context)
        return linear_recurrence(forget, (1 - forget) * v)

    def _read(self, z: Channels, x: Channels) -> Channels:
        return z * F.silu(self.gate(x))

    def _forget_and_values(self, x: Channels, context: Context) -> tuple[Tensor, Tensor]:
        forget = self.hook_forget(torch.sigmoid(self.forget(x)))
        if context.mask is not None:
            forget = torch.where(context.mask[..., None], forget, 1.0)
        return forget, self._values(self.v(x))

    def effective_attention(self, x: Channels, context: Context) -> Effective:
        forget, v = self._forget_and_values(x, context)
        matrix = decay_matrix(forget) * (1 - forget).mT[:, :, None]
        return Effective(matrix, v.mT[..., None], exact=True)

    def start(self, batch: int) -> State:
        """h [batch d_model]."""
        return (self.o.weight.new_zeros(batch, len(self.o.weight)),)

    def step(
        self, x: Float[Tensor, "batch d_model"], state: State, moment: Moment
    ) -> tuple[Float[Tensor, "batch d_model"], State]:
        forget = torch.sigmoid(self.forget(x))
        h = forget * state[0] + (1 - forget) * self.v(x)
        return self.o(h * F.silu(self.gate(x))), (h,)


@dataclass(frozen=True)
class Part(RecurrentPart):
    """No options."""

    template: ClassVar = Template(
        matrix="f_i⋯f_{j+1}·(1 − f_j)",
        depends="input",
        structure="semiseparable, one a channel",
        cost="n·d",
    )

    def build(self, shape: Shape) -> GatedRecurrence:
        return GatedRecurrence(shape)
