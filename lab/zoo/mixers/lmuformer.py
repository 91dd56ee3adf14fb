"""The token mixer of LMUFormer (Liu et al. 2024, slug `lmuformer`): a Legendre memory of one number a position.

    u_t = ReLU(w_u·x_t + b_u),   m_t = Ā m_{t−1} + B̄ u_t,   h_t = ReLU(W_h [m_t; x_t] + b_h),   out = BN(W_O h_t + b_O)

u is a single number for all channels, and Ā, B̄ are fixed (`kernels.legendre_memory`). `hook_v` carries u and `hook_z`
carries m, one head as wide as the memory: m_t = Σ_j H_{t−j} u_j, so that in the effective attention every state is a
head of width one whose values are u and whose matrix is its own row of the impulse response. Padding counts as u = 0.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from microtome.kernels import legendre_memory as kernel
from microtome.kernels.toeplitz import toeplitz
from microtome.lab.zoo.mixers._recurrent import Channels, RecurrentMixer, RecurrentPart
from microtome.lab.zoo.norms._batch import BatchNorm
from microtome.lab.zoo.parts import Context, Effective, Shape
from microtome.lab.zoo.streaming import Moment, State, Streaming
from microtome.lab.zoo.template import Template


class LegendreMemory(nn.Module):
    """Ā, B̄ and the impulse response as buffers that nothing trains; u [batch pos] in, m [batch pos state] out."""

    def __init__(self, d: int, theta: float, n_ctx: int):
        super().__init__()
        self._exact = kernel.system(d, theta)
        a_bar, b_bar = self._exact
        self.register_buffer("a_bar", a_bar.float())
        self.register_buffer("b_bar", b_bar.float())
        self.register_buffer("response", kernel.impulse_response(a_bar, b_bar, n_ctx).float(), persistent=False)

    def _apply(self, fn, recurse: bool = True) -> "LegendreMemory":
        super()._apply(fn, recurse)
        if self.a_bar.dtype == torch.float64:  # widened single precision would have lost the digits
            for buffer, exact in zip((self.a_bar, self.b_bar), self._exact, strict=True):
                buffer.copy_(exact)
            self.response.copy_(kernel.impulse_response(*self._exact, self.response.shape[1]))
        return self

    def lags(self, n: int) -> Float[Tensor, "state lag"]:
        """H_0 … H_{n−1}."""
        if n <= self.response.shape[1]:
            return self.response[:, :n]
        return kernel.impulse_response(*self._exact, n).to(self.response)

    def forward(self, u: Float[Tensor, "batch pos"]) -> Float[Tensor, "batch pos state"]:
        return kernel.legendre_memory(u, self.lags(u.shape[1]))

    def step(self, m: Float[Tensor, "batch state"], u: Float[Tensor, " batch"]) -> Float[Tensor, "batch state"]:
        return kernel.step(m, u, self.a_bar, self.b_bar)


class LMUMixer(RecurrentMixer, Streaming):
    """The feed-forward Legendre memory of one layer; nothing is fed back into u."""

    def __init__(self, options: "Part", shape: Shape):
        super().__init__(shape)
        d = shape.d_model if options.d_memory is None else options.d_memory
        theta = float(shape.n_ctx) if options.theta is None else options.theta
        self.memory = LegendreMemory(d, theta, shape.n_ctx)
        self.u = nn.Linear(shape.d_model, 1)
        self.h = nn.Linear(d + shape.d_model, shape.d_model)
        self.bn = BatchNorm(shape.d_model)
        self.n_heads, self.d_head = 1, d

    def forward(self, x: Channels, context: Context) -> Float[Tensor, "batch query d_model"]:
        return self.bn(super().forward(self._front(x, context), context))

    def _front(self, x: Channels, context: Context) -> Channels:
        """What the memory and h read: the stream itself."""
        return x

    def _states(self, x: Channels, context: Context) -> Float[Tensor, "batch pos state"]:
        return self.memory(self._values(self._input(x, context))[..., 0])

    def _input(self, x: Channels, context: Context) -> Float[Tensor, "batch pos 1"]:
        u = torch.relu(self.u(x))
        return u if context.mask is None else u * context.mask[..., None]

    def _read(self, z: Float[Tensor, "batch pos state"], x: Channels) -> Channels:
        return torch.relu(self.h(torch.cat([z, x], dim=-1)))

    def _heads(self, x: Float[Tensor, "batch pos width"]) -> Float[Tensor, "batch pos 1 width"]:
        return x[:, :, None]

    def _pattern(self, x: Channels, context: Context) -> Float[Tensor, "batch head query key"]:
        return self._effective(x, context).matrix.abs().mean(1, keepdim=True)

    def effective_attention(self, x: Channels, context: Context) -> Effective:
        """A head of width one for every state of the memory, exact."""
        return self._effective(self._front(x, context), context)

    def _effective(self, x: Channels, context: Context) -> Effective:
        lags = self.memory.lags(context.n)
        table = torch.cat([lags.flip(1), torch.zeros_like(lags[:, 1:])], dim=1)  # t_{j−i} = H_{i−j}
        values = self._values(self._input(x, context))[:, None].expand(-1, len(lags), -1, -1)
        return Effective(toeplitz(table).expand(len(x), -1, -1, -1), values, exact=True)

    def start(self, batch: int) -> State:
        """The memory, [batch state], empty."""
        return (self.h.weight.new_zeros(batch, self.memory.b_bar.shape[0]),)

    def step(
        self, x: Float[Tensor, "batch d_model"], state: State, moment: Moment
    ) -> tuple[Float[Tensor, "batch d_model"], State]:
        m = self.memory.step(state[0], torch.relu(self.u(x))[:, 0])
        out = self.bn(self.o(self._read(m[:, None], x[:, None])))
        return out[:, 0], (m,)


@dataclass(frozen=True)
class Part(RecurrentPart):
    """Options of the Legendre memory.

    Attributes:
        d_memory: number of states; None gives d_model.
        theta: θ, the window's length in positions; None gives n_ctx.
    """

    template: ClassVar = Template(
        matrix="H_{i−j}, H_k = Ā^k B̄",
        depends="nothing",
        structure="Toeplitz and semiseparable, one a state of the memory",
        cost="n·log n·d",
    )

    d_memory: int | None = None
    theta: float | None = None

    def build(self, shape: Shape) -> LMUMixer:
        return LMUMixer(self, shape)
