"""A diagonal state-space layer, S4D with the linear start (Gu et al. 2022, "On the parameterization and initialization
of diagonal state space models"; DSS, Gupta et al. 2022, is the same recurrence).

    x′ = A x + B u,  y = Re C x + D u,  A = diag(a),  zero-order hold of step Δ:
    y = K ∗ u + D u,   K_l = 2 Re Σ_n C_n (e^{Δ a_n} − 1)/a_n · e^{Δ a_n l}

of every channel by itself, N/2 conjugate pairs of states each. Then GELU, and W_O. Re a = −exp(·) < 0: K decays.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from microtome.kernels.toeplitz import toeplitz
from microtome.lab.zoo.mixers._recurrent import Channels, RecurrentMixer, RecurrentPart
from microtome.lab.zoo.parts import Context, Effective, Shape
from microtome.lab.zoo.streaming import Moment, State, Streaming
from microtome.lab.zoo.template import Template


class S4DMixer(RecurrentMixer, Streaming):
    """Convolution of every channel with a kernel as long as the input, by FFT. Padding counts as zeros."""

    def __init__(self, options: "Part", shape: Shape):
        super().__init__(shape)
        pairs, channels = options.d_state // 2, shape.d_model
        low, high = math.log(options.dt_min), math.log(options.dt_max)
        self.log_dt = nn.Parameter(low + (high - low) * torch.rand(channels))
        self.log_decay = nn.Parameter(torch.full((channels, pairs), math.log(0.5)))
        self.frequency = nn.Parameter(math.pi * torch.arange(pairs).float().repeat(channels, 1))
        self.c = nn.Parameter(torch.randn(channels, pairs, 2) * 0.5**0.5)
        self.d = nn.Parameter(torch.randn(channels))

    def kernel(self, n: int) -> Float[Tensor, "channel lag"]:
        """K_l for l = 0 … n − 1, D included at lag 0."""
        z, hold = self._held()
        weight = torch.view_as_complex(self.c) * hold
        # e^{z·l} = e^{z·width·i} e^{z·j} with l = width·i + j: about 2√n exponentials a state, and a matrix product.
        width = math.isqrt(n - 1) + 1
        near = (z[..., None] * torch.arange(width, device=z.device)).exp()
        far = (z[..., None] * torch.arange(0, n, width, device=z.device)).exp()
        response = 2 * ((weight[..., None] * far).mT @ near).real.flatten(1)[:, :n]
        return torch.cat([response[:, :1] + self.d[:, None], response[:, 1:]], dim=1)

    def _held(self) -> tuple[Tensor, Tensor]:
        """Δa and (e^{Δa} − 1)/a, complex [channel pair]."""
        a = torch.complex(-self.log_decay.exp(), self.frequency)
        z = self.log_dt.exp()[:, None] * a
        return z, torch.expm1(z) / a

    def _states(self, x: Channels, context: Context) -> Channels:
        u, n = self._inputs(x, context), context.n
        size = 2 * n
        product = torch.fft.rfft(self.kernel(n).T, n=size, dim=0) * torch.fft.rfft(u, n=size, dim=1)
        return torch.fft.irfft(product, n=size, dim=1)[:, :n]

    def _read(self, z: Channels, x: Channels) -> Channels:
        return F.gelu(z)

    def _inputs(self, x: Channels, context: Context) -> Channels:
        u = x if context.mask is None else x * context.mask[..., None]
        return self._values(u)

    def effective_attention(self, x: Channels, context: Context) -> Effective:
        kernel = self.kernel(context.n)
        table = torch.cat([kernel.flip(1), torch.zeros_like(kernel[:, 1:])], dim=1)  # t_{j−i} = K_{i−j}
        matrix = toeplitz(table).expand(x.shape[0], -1, -1, -1)
        return Effective(matrix, self._inputs(x, context).mT[..., None], exact=True)

    def start(self, batch: int) -> State:
        """x, real and imaginary parts, [batch channel pair 2]."""
        return (self.o.weight.new_zeros(batch, *self.c.shape),)

    def step(
        self, x: Float[Tensor, "batch d_model"], state: State, moment: Moment
    ) -> tuple[Float[Tensor, "batch d_model"], State]:
        z, hold = self._held()
        h = z.exp() * torch.view_as_complex(state[0]) + hold * x[..., None]
        y = 2 * (torch.view_as_complex(self.c) * h).sum(-1).real + self.d * x
        return self.o(F.gelu(y)), (torch.view_as_real(h),)


@dataclass(frozen=True)
class Part(RecurrentPart):
    """Options of S4D.

    Attributes:
        d_state: N, states a channel; even.
        dt_min, dt_max: between which Δ starts, log-uniformly.
    """

    template: ClassVar = Template(
        matrix="K_{i−j}",
        depends="weights",
        structure="Toeplitz and semiseparable, one a channel",
        cost="n·log n·d",
    )

    d_state: int = 64
    dt_min: float = 0.001
    dt_max: float = 0.1

    def build(self, shape: Shape) -> S4DMixer:
        if self.d_state < 2 or self.d_state % 2:
            raise ValueError(f"d_state must be even and at least 2, not {self.d_state}.")
        if not 0 < self.dt_min <= self.dt_max < math.inf:
            raise ValueError(f"dt_min and dt_max must be 0 < dt_min <= dt_max, not {self.dt_min} and {self.dt_max}.")
        return S4DMixer(self, shape)
