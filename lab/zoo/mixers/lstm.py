"""Long short-term memory (Hochreiter & Schmidhuber 1997; forget gates of Gers et al. 2000), torch's own.

    c_t = f_t ⊙ c_{t−1} + i_t ⊙ g_t,   h_t = o_t ⊙ tanh(c_t)

Read as attention, h_i = Σ_j A_ij g_j with A_ij = (o_i ⊙ tanh(c_i)/c_i) ⊙ (f_i … f_{j+1}) ⊙ i_j: an identity, but gates
and values read earlier states themselves, so that A depends on all that came before.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from microtome.kernels.linear_recurrence import decay_matrix
from microtome.lab.zoo.mixers._recurrent import Channels, RecurrentMixer, RecurrentPart
from microtome.lab.zoo.parts import Context, Effective, Shape
from microtome.lab.zoo.streaming import Moment, State, Streaming
from microtome.lab.zoo.template import Template


class LSTMMixer(RecurrentMixer, Streaming):
    """One LSTM layer of d_model units; padding leaves its state as it is.

    torch's LSTM is fused: its gates and values are not on the path, and `hook_v` is absent.
    """

    def __init__(self, shape: Shape):
        super().__init__(shape)
        del self.hook_v
        self.absent = {**self.absent, "hook_v": "torch's LSTM is fused; effective_attention gives its values"}
        self.lstm = nn.LSTM(shape.d_model, shape.d_model, batch_first=True)

    def _states(self, x: Channels, context: Context) -> Channels:
        if context.mask is None:
            return self.lstm(x)[0]
        order = _real_first(context.mask)
        packed = self.lstm(x.gather(1, order.expand_as(x)))[0]
        return torch.zeros_like(packed).scatter(1, order.expand_as(packed), packed)

    def effective_attention(self, x: Channels, context: Context) -> Effective:
        inputs, forgets, candidates, outputs, cells = self._unrolled(x, context)
        ratio = torch.where(cells.abs() > 1e-8, torch.tanh(cells) / cells, torch.ones_like(cells))
        matrix = (outputs * ratio).mT[..., None] * decay_matrix(forgets) * inputs.mT[:, :, None]
        return Effective(matrix, candidates.mT[..., None], exact=True)

    def start(self, batch: int) -> State:
        """h and c [batch d_model]."""
        zero = self.o.weight.new_zeros(batch, self.lstm.hidden_size)
        return zero, zero

    def step(
        self, x: Float[Tensor, "batch d_model"], state: State, moment: Moment
    ) -> tuple[Float[Tensor, "batch d_model"], State]:
        state = torch.lstm_cell(x, state, *self.lstm.all_weights[0])
        return self.o(state[0]), state

    def _unrolled(self, x: Channels, context: Context) -> list[Tensor]:
        """Input and forget gates, candidates, output gates and c of every position, step by step."""
        lstm, batch = self.lstm, x.shape[0]
        real = context.real(x)
        h = c = x.new_zeros(batch, lstm.hidden_size)
        steps = []
        for x_t, real_t in zip(x.unbind(1), real.unbind(1), strict=True):
            gates = x_t @ lstm.weight_ih_l0.T + lstm.bias_ih_l0 + h @ lstm.weight_hh_l0.T + lstm.bias_hh_l0
            i, f, g, o = gates.chunk(4, dim=-1)
            keep = real_t[:, None]
            i, f = torch.where(keep, i.sigmoid(), 0.0), torch.where(keep, f.sigmoid(), 1.0)
            g, o = g.tanh(), o.sigmoid()
            c = f * c + i * g
            h = torch.where(keep, o * c.tanh(), h)
            steps.append((i, f, g, o, c))
        return [torch.stack(each, dim=1) for each in zip(*steps, strict=True)]


def _real_first(mask: Tensor) -> Tensor:
    """For each example its real positions in order, then the padding; [batch pos 1]."""
    return (~mask).to(torch.uint8).argsort(dim=1, stable=True)[..., None]


@dataclass(frozen=True)
class Part(RecurrentPart):
    """No options."""

    template: ClassVar = Template(
        matrix="o_i·(f_i⋯f_{j+1})·i_j",
        depends="input",
        structure="semiseparable, one a channel",
        cost="n·d_model²/n_heads",
    )

    def build(self, shape: Shape) -> LSTMMixer:
        return LSTMMixer(shape)
