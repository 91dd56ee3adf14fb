"""DiagAttention, attention inside blocks: "The Devil in Linear Transformer" (Qin et al. 2022, slug `transnormer`).

The sequence is cut into blocks of c positions that do not overlap, and each looks at itself only:

    T1:  P = ReLU(QKᵀ/√d),  output = RMS(PV) W_O + b_O        T2:  P = softmax(QKᵀ/√d),  output = PV W_O + b_O

LRPE comes first, its positions starting at 0 in every block. A last block that is short is filled up and masked, so
that the filling takes no weight.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from microtome.lab.zoo.mixers._pattern import Heads, Pattern
from microtome.lab.zoo.mixers._transnormer import TransNormerMixer, TransNormerPart
from microtome.lab.zoo.norms.simple_rmsnorm import simple_rms
from microtome.lab.zoo.parts import Context, Shape
from microtome.lab.zoo.streaming import Moment, State, Streaming
from microtome.lab.zoo.template import Template


class DiagAttention(TransNormerMixer, Streaming):
    """Multi-head DiagAttention of one layer."""

    def __init__(self, options: "Part", shape: Shape):
        super().__init__(options, shape)
        self.block = options.block

    def _heads(self, x: Tensor, context: Context) -> tuple[Heads, Heads, Heads]:
        q, k, v = super()._heads(x, context)
        positions = torch.arange(context.n, device=x.device) % self.block
        return self.lrpe(q, positions), self.lrpe(k, positions), v

    def _pattern(self, q: Heads, k: Heads, context: Context) -> Pattern:
        block = torch.arange(context.n, device=q.device) // self.block
        allowed = block[:, None] == block
        if self.causal:
            allowed = allowed.tril()
        if context.mask is not None:
            allowed = allowed & context.mask[:, None, None]
        return self._weights(q @ k.mT, allowed)

    def _fast(self, q: Heads, k: Heads, v: Heads, context: Context) -> Heads:
        n, c = context.n, min(self.block, context.n)
        filled = -(-n // c) * c
        real = torch.arange(filled, device=q.device)[None] < n
        if context.mask is not None:
            real = real & F.pad(context.mask, (0, filled - n))
        q, k, v = (F.pad(heads, (0, 0, 0, filled - n)).unflatten(2, (-1, c)) for heads in (q, k, v))
        allowed = real.unflatten(1, (-1, c))[:, None, :, None]  # [batch 1 block 1 key]
        if self.causal:
            allowed = allowed & torch.ones(c, c, dtype=torch.bool, device=q.device).tril()
        return (self._weights(q @ k.mT, allowed) @ v).flatten(2, 3)[:, :, :n]

    def _weights(
        self, products: Float[Tensor, "*axes query key"], allowed: Bool[Tensor, "*#axes #query key"]
    ) -> Float[Tensor, "*axes query key"]:
        logits = products * self.d_head**-0.5
        if self.kind == "t1":
            return logits.relu() * allowed
        # The smallest number keeps a row without keys defined; those keys then lose their equal shares.
        return logits.masked_fill(~allowed, torch.finfo(logits.dtype).min).softmax(-1) * allowed

    def _read(self, z: Float[Tensor, "batch pos head d_head"], x: Tensor, v: Heads) -> Float[Tensor, "batch pos width"]:
        return simple_rms(z.flatten(-2)) if self.kind == "t1" else z.flatten(-2)

    def start(self, batch: int) -> State:
        """Keys and values of one block, [batch head block d_head] each."""
        empty = self.o.weight.new_zeros(batch, self.n_heads, self.block, self.d_head)
        return empty, empty

    def step(
        self, x: Float[Tensor, "batch d_model"], state: State, moment: Moment
    ) -> tuple[Float[Tensor, "batch d_model"], State]:
        """The query against its block so far; the places of later positions hold the block before, out of sight."""
        place = moment.t % self.block
        q, k, v = (linear(x).unflatten(-1, (self.n_heads, 1, self.d_head)) for linear in (self.q, self.k, self.v))
        here = torch.tensor([place], device=x.device)
        q, k = self.lrpe(q, here), self.lrpe(k, here)
        keys, values = (
            torch.cat([cache[:, :, :place], new, cache[:, :, place + 1 :]], dim=2)
            for cache, new in zip(state, (k, v), strict=True)
        )
        allowed = torch.arange(self.block, device=x.device)[None] <= place
        z = (self._weights(q @ keys.mT, allowed) @ values).transpose(1, 2)
        return self.o(self._read(z, x, v)[:, 0]), (keys, values)


@dataclass(frozen=True)
class Part(TransNormerPart):
    """`kind`: "t1" weighs by ReLU, "t2" by softmax; `block` is c, the positions of a block."""

    template: ClassVar = Template(
        matrix="ReLU(QKᵀ/√d) inside blocks (T1), softmax (T2)",
        depends="input",
        structure="block-diagonal",
        cost="n·c·d",
        normalised="root mean square of the output, over all heads (T1); softmax over keys (T2)",
        local="the query's block of c",
    )

    block: int = 64

    def build(self, shape: Shape) -> DiagAttention:
        if self.block < 1:
            raise ValueError(f"a block has at least 1 position, not {self.block}.")
        return DiagAttention(self, shape)
