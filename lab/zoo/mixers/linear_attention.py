"""Linear attention (Katharopoulos et al. 2020, "Transformers are RNNs"): a feature map in place of the exponential.

    z_i = Σ_j A_ij v_j,   A_ij = φ(q_i)·φ(k_j) / Σ_l φ(q_i)·φ(k_l),   φ(x) = elu(x) + 1

`hook_pattern` is A. Without hooks on it, long inputs go through sums of φ(k_j) v_jᵀ, whose size does not depend on n.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from microtome.lab.zoo.mixers._heads import head_width, row_entropy
from microtome.lab.zoo.parts import Context, Effective, Mixer, MixerPart, Shape
from microtome.lab.zoo.points import Point, Recomputable

CHUNK = 128
"""Up to how many positions A is made; longer inputs are cut into chunks of so many."""

Heads = Float[Tensor, "batch head pos d_head"]


class LinearAttention(Mixer):
    """Multi-head linear attention of one layer; masked keys weigh nothing."""

    slot: ClassVar = "attn"
    absent: ClassVar = {"hook_attn_scores": "there is no softmax, so hook_pattern is all there is"}

    def __init__(self, shape: Shape):
        super().__init__()
        self.n_heads, self.d_head, self.causal = shape.n_heads, head_width(shape), shape.causal
        self.q, self.k, self.v, self.o = (nn.Linear(shape.d_model, shape.d_model) for _ in range(4))
        self.hook_q = Point("batch pos head d_head", "query")
        self.hook_k = Point("batch pos head d_head", "key")
        self.hook_v = Point("batch pos head d_head", "value")
        self.hook_pattern = Recomputable("batch head query key", "pattern")
        self.hook_z = Point("batch pos head d_head", "write")

    def forward(self, x: Float[Tensor, "batch pos d_model"], context: Context) -> Float[Tensor, "batch pos d_model"]:
        q, k, v = self._features(x, context)
        z = self.hook_z(self._attend(q, k, v).transpose(1, 2))
        if self.hook_effective_pattern.watched or self.hook_row_entropy.watched:
            with torch.no_grad():
                pattern = self._pattern(q, k)
            self.hook_effective_pattern.read(lambda: pattern)
            self.hook_row_entropy.read(lambda: row_entropy(pattern))
        return self.o(z.flatten(-2))

    def effective_attention(self, x: Float[Tensor, "batch pos d_model"], context: Context) -> Effective:
        """A, exact."""
        q, k, v = self._features(x, context)
        return Effective(self._pattern(q, k), v, exact=True)

    def _features(self, x: Tensor, context: Context) -> tuple[Heads, Heads, Heads]:
        """φ(q), φ(k) and v."""
        split = (self.n_heads, self.d_head)
        q = self.hook_q(self.q(x).unflatten(-1, split)).transpose(1, 2)
        k = self.hook_k(self.k(x).unflatten(-1, split)).transpose(1, 2)
        v = self.hook_v(self.v(x).unflatten(-1, split)).transpose(1, 2)
        q, k = F.elu(q) + 1, F.elu(k) + 1
        if context.mask is not None:
            k = k * context.mask[:, None, :, None]
        return q, k, v

    def _attend(self, q: Heads, k: Heads, v: Heads) -> Heads:
        if self.hook_pattern.watched:
            if self.hook_pattern.needs_path and torch.is_grad_enabled():
                return self.hook_pattern.show(self._pattern(q, k))[0] @ v
            with torch.no_grad():
                pattern, edited = self.hook_pattern.show(self._pattern(q, k))
                if edited:
                    return pattern @ v
        return self._chunked(q, k, v) if q.shape[2] > CHUNK else self._pattern(q, k) @ v

    def _pattern(self, q: Heads, k: Heads) -> Float[Tensor, "batch head query key"]:
        weights = q @ k.mT
        if self.causal:
            weights = weights.tril()
        return weights / _positive(weights.sum(-1, keepdim=True))

    def _chunked(self, q: Heads, k: Heads, v: Heads) -> Heads:
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


def _positive(total: Tensor) -> Tensor:
    """The normaliser, kept off zero for rows that may look nowhere."""
    return total.clamp(min=torch.finfo(total.dtype).tiny)


@dataclass(frozen=True)
class Part(MixerPart):
    """No options."""

    def build(self, shape: Shape) -> LinearAttention:
        return LinearAttention(shape)
