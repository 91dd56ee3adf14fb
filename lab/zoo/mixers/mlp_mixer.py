"""MLP-Mixer's token mixing (Tolstikhin et al. 2021, "MLP-Mixer: An all-MLP architecture for vision").

    Y = W₂ gelu(W₁ X),   W₁ [d_token pos],  W₂ [pos d_token], the same for every channel

It is not linear, so that no one M serves two inputs. Since gelu(u) = u·Φ(u), each channel c of one input does have a
matrix of its own, W₂ diag(Φ(W₁ x_c)) W₁, whose product with x_c is Y: an identity, as the LSTM's is, in which the
matrix has seen the values. `long_sequence_unified` (2023) has the formula, without biases. An input shorter than n_ctx
is one with zeros behind it.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from microtome.lab.zoo.mixers._heads import head_width
from microtome.lab.zoo.mixers._static import Heads, Matrix, StaticMixer, Stream
from microtome.lab.zoo.parts import Context, Effective, MixerPart, Shape
from microtome.lab.zoo.template import Template


class MLPMixer(StaticMixer):
    """The token MLP of one layer. Readings show the mean of |M| over a head's channels, d_model/n_heads in a row."""

    W_O = property(lambda self: None, doc="there is no output map")
    b_O = property(lambda self: None, doc="there is no output map")

    def __init__(self, options: "Part", shape: Shape):
        super().__init__(shape.n_heads, head_width(shape))
        self.longest = shape.n_ctx
        width = shape.n_ctx if options.d_token is None else options.d_token
        self.w1 = nn.Linear(shape.n_ctx, width, bias=False)
        self.w2 = nn.Linear(width, shape.n_ctx, bias=False)

    def _project(self, x: Stream) -> Heads:
        return x.unflatten(-1, (self.n_heads, self.d_head))

    def _mix(self, v: Heads, context: Context) -> Heads:
        n = context.n
        hidden = F.gelu(F.linear(v.movedim(1, -1), self.w1.weight[:, :n]))
        return F.linear(hidden, self.w2.weight[:n]).movedim(-1, 1)

    def _matrix(self, v: Heads, context: Context) -> Matrix:
        """One a channel, as many heads of width one."""
        n = context.n
        first, second = self.w1.weight[:, :n], self.w2.weight[:n]
        gate = torch.special.ndtr(F.linear(v.flatten(2).mT, first))
        return torch.einsum("is,bcs,sj->bcij", second, gate, first)

    def effective_attention(self, x: Stream, context: Context) -> Effective:
        """W₂ diag(Φ(W₁ x_c)) W₁ of every channel c."""
        v = self._values(x, context)
        return Effective(self._matrix(v, context), v.flatten(2).mT[..., None], exact=True)

    def _pattern(self, v: Heads, context: Context) -> Float[Tensor, "batch head query key"]:
        return self._matrix(v, context).abs().unflatten(1, (self.n_heads, self.d_head)).mean(2)

    def _write(self, z: Heads, x: Stream) -> Stream:
        return z.flatten(2)


@dataclass(frozen=True)
class Part(MixerPart):
    """`d_token`: hidden width of the token MLP; None gives n_ctx."""

    bidirectional_only: ClassVar = True
    template: ClassVar = Template(
        matrix="W₂·diag(Φ(W₁x))·W₁, one a channel",
        depends="input",
        structure="rank ≤ d_token; static weights, not linear",
        cost="n·d_token·d",
        low_rank="d_token",
        lengths="at most n_ctx",
    )

    d_token: int | None = None

    def build(self, shape: Shape) -> MLPMixer:
        if self.d_token is not None and self.d_token < 1:
            raise ValueError(f"d_token must be at least 1, not {self.d_token}.")
        return MLPMixer(self, shape)
