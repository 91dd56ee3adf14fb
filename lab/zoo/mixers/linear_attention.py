"""Linear attention (Katharopoulos et al. 2020, "Transformers are RNNs"): a feature map in place of the exponential.

    z_i = Σ_j A_ij v_j,   A_ij = φ(q_i)·φ(k_j) / Σ_l φ(q_i)·φ(k_l),   φ(x) = elu(x) + 1

`hook_pattern` is A. Without hooks on it, long inputs go through sums of φ(k_j) v_jᵀ, whose size does not depend on n.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from microtome.lab.zoo.mixers._pattern import Features, Heads, Pattern, PatternMixer
from microtome.lab.zoo.parts import Context, MixerPart, Shape
from microtome.lab.zoo.streaming import Moment, State, Streaming
from microtome.lab.zoo.template import Template

CHUNK = 128
"""Up to how many positions A is made; longer inputs are cut into chunks of so many."""


class LinearAttention(PatternMixer, Streaming):
    """Multi-head linear attention of one layer; masked keys weigh nothing."""

    def features(self, x: Float[Tensor, "*axes d_head"]) -> Float[Tensor, "*axes feature"]:
        """φ of queries or keys, non-negative."""
        return F.elu(x) + 1

    @property
    def n_features(self) -> int:
        """How many features φ has."""
        return self.d_head

    def _heads(self, x: Tensor, context: Context) -> tuple[Features, Features, Heads]:
        """φ(q), φ(k) and v."""
        q, k, v = super()._heads(x, context)
        q, k = self.features(q), self.features(k)
        if context.mask is not None:
            k = k * context.mask[:, None, :, None]
        return q, k, v

    def _pattern(self, q: Features, k: Features, context: Context) -> Pattern:
        weights = q @ k.mT
        if self.causal:
            weights = weights.tril()
        return weights / _positive(weights.sum(-1, keepdim=True))

    def _fast(self, q: Features, k: Features, v: Heads, context: Context) -> Heads:
        return self._chunked(q, k, v) if q.shape[2] > CHUNK else self._pattern(q, k, context) @ v

    def _chunked(self, q: Features, k: Features, v: Heads) -> Heads:
        ones = torch.ones_like(v[..., :1])
        v = torch.cat([v, ones], dim=-1)  # the last column sums up to the normaliser
        if not self.causal:
            sums = q @ (k.mT @ v)
            return sums[..., :-1] / _positive(sums[..., -1:])
        state, outputs = v.new_zeros(*k.shape[:2], k.shape[3], v.shape[3]), []
        for q_c, k_c, v_c in zip(q.split(CHUNK, 2), k.split(CHUNK, 2), v.split(CHUNK, 2), strict=True):
            sums = (q_c @ k_c.mT).tril() @ v_c + q_c @ state
            state = state + k_c.mT @ v_c
            outputs.append(sums[..., :-1] / _positive(sums[..., -1:]))
        return torch.cat(outputs, dim=2)

    def start(self, batch: int) -> State:
        """Σ φ(k)vᵀ with Σ φ(k) as its last column, [batch head feature d_head+1]."""
        return (self.o.weight.new_zeros(batch, self.n_heads, self.n_features, self.d_head + 1),)

    def step(
        self, x: Float[Tensor, "batch d_model"], state: State, moment: Moment
    ) -> tuple[Float[Tensor, "batch d_model"], State]:
        q, k, v = (linear(x).unflatten(-1, (self.n_heads, self.d_head)) for linear in (self.q, self.k, self.v))
        q, k = self.features(q), self.features(k)
        sums = state[0] + k[..., None] * F.pad(v, (0, 1), value=1.0)[..., None, :]
        z = (q[..., None, :] @ sums)[..., 0, :]
        return self.o((z[..., :-1] / _positive(z[..., -1:])).flatten(-2)), (sums,)


def _positive(total: Tensor) -> Tensor:
    """The normaliser, one for rows that may look nowhere: their sums are zero, and stay so."""
    return total.masked_fill(total == 0, 1.0)


@dataclass(frozen=True)
class Part(MixerPart):
    """No options."""

    template: ClassVar = Template(
        matrix="φ(Q)φ(K)ᵀ, φ = elu + 1",
        depends="input",
        structure="rank ≤ d_head",
        cost="n·d²",
        normalised="row sum",
        low_rank="d_head",
    )

    def build(self, shape: Shape) -> LinearAttention:
        return LinearAttention(shape)
