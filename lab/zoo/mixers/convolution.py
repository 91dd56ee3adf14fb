"""A learned depthwise convolution: every channel by itself, the same weights at every place.

    z_i = Σ_j w_{i−j} v_j,  |i − j| < width,  j ≤ i in a causal model;   output = gelu(z) W_O

The template's Toeplitz row with a free w (`long_sequence_unified`, 2023; Wu et al. 2019, "Pay less attention with
lightweight and dynamic convolutions", for short ones; Fu et al. 2023, "Simple hardware-efficient long convolutions for
sequence modeling", for w as long as the input). Short kernels run directly, long ones by Fourier transform.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from microtome.kernels.toeplitz import toeplitz
from microtome.kernels.toeplitz_product import toeplitz_product
from microtome.lab.zoo.mixers._recurrent import Channels, RecurrentMixer
from microtome.lab.zoo.parts import Context, Effective, MixerPart, Shape
from microtome.lab.zoo.streaming import Moment, State, Streaming
from microtome.lab.zoo.template import Template

DIRECT = 32
"""Up to how many weights a channel the sum is made term by term."""
_NOT_ATTENTION = "a convolution has no queries and keys; hook_effective_pattern shows its matrix"


class ConvolutionMixer(RecurrentMixer, Streaming):
    """One layer's convolution; `w` is [channel offset], offsets j − i as `kernels.toeplitz` has them. Padding counts as
    zeros.
    """

    absent: ClassVar = dict.fromkeys(("hook_q", "hook_k", "hook_pattern", "hook_attn_scores"), _NOT_ATTENTION)

    def __init__(self, options: "Part", shape: Shape):
        super().__init__(shape)
        self.causal = shape.causal
        self.width = shape.n_ctx if options.width is None else options.width
        taps = self.width if self.causal else 2 * self.width - 1
        self.w = nn.Parameter(torch.randn(shape.d_model, taps) * taps**-0.5)

    def table(self, n: int) -> Float[Tensor, "channel offset"]:
        """w at offsets −(n−1) … n−1, zero where it does not reach."""
        missing = n - self.width  # negative where w is longer than the input
        return F.pad(self.w, (missing, n - 1 if self.causal else missing))

    def _states(self, x: Channels, context: Context) -> Channels:
        v, n = self._inputs(x, context), context.n
        if self.w.shape[1] > DIRECT:
            return toeplitz_product(self.table(n), v.mT[..., None], causal=self.causal)[..., 0].mT
        around = (self.width - 1, 0 if self.causal else self.width - 1)
        return F.conv1d(F.pad(v.mT, around), self.w[:, None], groups=v.shape[2]).mT

    def _inputs(self, x: Channels, context: Context) -> Channels:
        return self._values(x if context.mask is None else x * context.mask[..., None])

    def _read(self, z: Channels, x: Channels) -> Channels:
        return F.gelu(z)

    def effective_attention(self, x: Channels, context: Context) -> Effective:
        matrix = toeplitz(self.table(context.n)).expand(x.shape[0], -1, -1, -1)
        return Effective(matrix, self._inputs(x, context).mT[..., None], exact=True)

    def start(self, batch: int) -> State:
        """The last width − 1 inputs, zeros before the first."""
        return (self.w.new_zeros(batch, self.width - 1, self.w.shape[0]),)

    def step(
        self, x: Float[Tensor, "batch d_model"], state: State, moment: Moment
    ) -> tuple[Float[Tensor, "batch d_model"], State]:
        seen = torch.cat([state[0], x[:, None]], dim=1)
        z = torch.einsum("bjc,cj->bc", seen, self.w)
        return self.o(F.gelu(z)), (seen[:, 1:],)


@dataclass(frozen=True)
class Part(MixerPart):
    """`width`: how far w reaches back, and forward where the model sees both sides, its own place included; None gives
    n_ctx.
    """

    template: ClassVar = Template(
        matrix="w_{i−j}",
        depends="weights",
        structure="Toeplitz, one a channel",
        cost="n·min(width, log n)·d",
        local="|i − j| < width",
    )

    width: int | None = None

    def build(self, shape: Shape) -> ConvolutionMixer:
        if self.width is not None and self.width < 1:
            raise ValueError(f"width must be at least 1, not {self.width}.")
        return ConvolutionMixer(self, shape)
