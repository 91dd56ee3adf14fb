"""Aaren (Feng et al. 2024, "Attention as an RNN", slug `aaren`): attention whose query is one learned token.

    s_j = q·k_j/√d with q = W_q x^{(q)},   z_i = Σ_{j≤i} e^{s_j} v_j / Σ_{j≤i} e^{s_j}

The token x^{(q)} is a parameter of the layer and does not depend on the input, so that all rows share their scores and
what is to be known of the past is a triple (max s, Σ e^{s−m}, Σ e^{s−m} v): d_head + 2 numbers a head. Projecting each
position's own query would be causal attention, which has no such state. Without positions in the input the order of the
past is invisible.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from microtome.kernels.scan import prefix_softmax
from microtome.lab.zoo.mixers._heads import softmax_or_zero
from microtome.lab.zoo.mixers._pattern import Heads, Pattern, PatternMixer
from microtome.lab.zoo.parts import Context, MixerPart, Shape
from microtome.lab.zoo.streaming import Moment, State, Streaming
from microtome.lab.zoo.template import Template


class AarenMixer(PatternMixer, Streaming):
    """Multi-head Aaren of one layer; masked keys weigh nothing, and a row that sees no key is zero."""

    def __init__(self, shape: Shape):
        super().__init__(shape)
        del self.hook_q
        self.absent = {**self.absent, "hook_q": "the query is one learned token, not a position's: see `queries`"}
        self.token = nn.Parameter(torch.randn(shape.d_model))

    @property
    def queries(self) -> Float[Tensor, "head d_head"]:
        """The one query of each head, divided by √d_head."""
        return self.q(self.token).unflatten(0, (self.n_heads, self.d_head)) * self.d_head**-0.5

    def _heads(self, x: Tensor, context: Context) -> tuple[Heads, Heads, Heads]:
        k = self.hook_k(self.k(x).unflatten(-1, (self.n_heads, self.d_head))).transpose(1, 2)
        v = self.hook_v(self.v(x).unflatten(-1, (self.n_heads, self.d_head))).transpose(1, 2)
        return self.queries[None, :, None].expand_as(k), k, v

    def _pattern(self, q: Heads, k: Heads, context: Context) -> Pattern:
        n = k.shape[2]
        seen = torch.ones(n, n, dtype=torch.bool, device=k.device).tril()
        return softmax_or_zero(self._scores(q, k, context)[..., None, :].masked_fill(~seen, -torch.inf))

    def _fast(self, q: Heads, k: Heads, v: Heads, context: Context) -> Heads:
        return prefix_softmax.prefix_attention(self._scores(q, k, context), v)

    def _scores(self, q: Heads, k: Heads, context: Context) -> Float[Tensor, "batch head pos"]:
        scores = (k @ q[:, :, :1].mT)[..., 0]  # all rows of q are the one query
        return scores if context.mask is None else scores.masked_fill(~context.mask[:, None], -torch.inf)

    def start(self, batch: int) -> State:
        """m and u [batch head], w [batch head d_head]."""
        return tuple(prefix_softmax.identity(self.o.weight.new_zeros(batch, self.n_heads, self.d_head)))

    def step(
        self, x: Float[Tensor, "batch d_model"], state: State, moment: Moment
    ) -> tuple[Float[Tensor, "batch d_model"], State]:
        k, v = (linear(x).unflatten(-1, (self.n_heads, self.d_head)) for linear in (self.k, self.v))
        z, triple = prefix_softmax.step(prefix_softmax.Triple(*state), (k * self.queries).sum(-1), v)
        return self.o(z.flatten(-2)), tuple(triple)


@dataclass(frozen=True)
class Part(MixerPart):
    """No options."""

    causal_only: ClassVar = True
    template: ClassVar = Template(
        matrix="softmax over j ≤ i of q·k_j/√d",
        depends="input",
        structure="one score a key, renormalised row by row",
        cost="n·d",
        normalised="softmax over keys",
    )

    def build(self, shape: Shape) -> AarenMixer:
        return AarenMixer(shape)
