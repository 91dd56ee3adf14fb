"""NormAttention, linear attention without a denominator: "The Devil in Linear Transformer" (Qin et al. 2022, slug
`transnormer`).

    O = tril(QKᵀ) V  or  Q(KᵀV),   output = RMS([O_1 … O_H]) W_O + b_O

Queries and keys are activated, elu in T1 (signed: a row's weights may sum to zero, which is why nothing is divided by
their sum) and 1 + elu in T2, and then carry LRPE. One root mean square over all heads' channels, without a gain,
takes the place of the denominator. `hook_z` is O, before it.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from microtome.lab.zoo.mixers._pattern import Heads, Pattern
from microtome.lab.zoo.mixers._transnormer import TransNormerMixer, TransNormerPart
from microtome.lab.zoo.norms.simple_rmsnorm import simple_rms
from microtome.lab.zoo.parts import Context, Shape
from microtome.lab.zoo.streaming import Moment, State, Streaming
from microtome.lab.zoo.template import Template

CHUNK = 128
"""Positions whose weights are made at once in the causal form."""


class NormAttention(TransNormerMixer, Streaming):
    """Multi-head NormAttention of one layer; masked keys weigh nothing."""

    def _heads(self, x: Tensor, context: Context) -> tuple[Heads, Heads, Heads]:
        q, k, v = super()._heads(x, context)
        positions = torch.arange(context.n, device=x.device)
        q, k = self.lrpe(self._activated(q), positions), self.lrpe(self._activated(k), positions)
        if context.mask is not None:
            k = k * context.mask[:, None, :, None]
        return q, k, v

    def _activated(self, x: Tensor) -> Tensor:
        return F.elu(x) if self.kind == "t1" else 1 + F.elu(x)

    def _pattern(self, q: Heads, k: Heads, context: Context) -> Pattern:
        return (q @ k.mT).tril() if self.causal else q @ k.mT

    def _fast(self, q: Heads, k: Heads, v: Heads, context: Context) -> Heads:
        if not self.causal:
            return q @ (k.mT @ v)
        state, parts = v.new_zeros(*v.shape[:2], self.d_head, self.d_head), []
        for q_c, k_c, v_c in zip(q.split(CHUNK, 2), k.split(CHUNK, 2), v.split(CHUNK, 2), strict=True):
            parts.append((q_c @ k_c.mT).tril() @ v_c + q_c @ state)
            state = state + k_c.mT @ v_c
        return torch.cat(parts, dim=2)

    def _read(self, z: Float[Tensor, "batch pos head d_head"], x: Tensor, v: Heads) -> Float[Tensor, "batch pos width"]:
        return simple_rms(z.flatten(-2))

    def start(self, batch: int) -> State:
        """S = Σ k vᵀ, [batch head d_head d_head]."""
        return (self.o.weight.new_zeros(batch, self.n_heads, self.d_head, self.d_head),)

    def step(
        self, x: Float[Tensor, "batch d_model"], state: State, moment: Moment
    ) -> tuple[Float[Tensor, "batch d_model"], State]:
        """S ← S + k vᵀ, then RMS(qᵀS)."""
        q, k, v = (linear(x).unflatten(-1, (self.n_heads, 1, self.d_head)) for linear in (self.q, self.k, self.v))
        here = torch.tensor([moment.t], device=x.device)
        q, k = self.lrpe(self._activated(q), here), self.lrpe(self._activated(k), here)
        summed = state[0] + k.mT @ v
        return self.o(simple_rms((q @ summed).flatten(1))), (summed,)


@dataclass(frozen=True)
class Part(TransNormerPart):
    """`kind`: "t1" activates with elu, "t2" with 1 + elu."""

    template: ClassVar = Template(
        matrix="φ(Q)φ(K)ᵀ, φ = LRPE after elu",
        depends="input",
        structure="rank ≤ d_head",
        cost="n·d²",
        normalised="root mean square of the output, over all heads",
        low_rank="d_head",
    )

    def build(self, shape: Shape) -> NormAttention:
        return NormAttention(self, shape)
