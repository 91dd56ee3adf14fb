"""What mixers share whose weights are no softmax of scores: `hook_pattern` is the matrix that multiplies the values.

A subclass gives the pattern, plainly; and, if it has one, a faster way to its product with the values, which runs when
no hook wants the pattern on the path. Tests hold the two against each other for every mixer.
"""

from abc import abstractmethod
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from microtome.lab.zoo.mixers._heads import HeadWeights, head_width, row_entropy
from microtome.lab.zoo.parts import Context, Effective, Mixer, Shape
from microtome.lab.zoo.points import Point, Recomputable

Heads = Float[Tensor, "batch head pos d_head"]
Features = Float[Tensor, "batch head pos feature"]
"""Queries or keys as the pattern takes them: what they are mapped to, or they themselves."""
Pattern = Float[Tensor, "batch head query key"]


class PatternMixer(HeadWeights, Mixer):
    """Multi-head mixing by a pattern made of queries and keys.

    Args:
        shape: the model's.
        bias: whether the four projections have biases.
    """

    slot: ClassVar = "attn"
    absent: ClassVar = {"hook_attn_scores": "there is no softmax of scores, so hook_pattern is all there is"}

    def __init__(self, shape: Shape, *, bias: bool = True):
        super().__init__()
        self.n_heads, self.d_head, self.causal = shape.n_heads, head_width(shape), shape.causal
        self.q, self.k, self.v, self.o = (nn.Linear(shape.d_model, shape.d_model, bias=bias) for _ in range(4))
        self.hook_q = Point("batch pos head d_head", "query")
        self.hook_k = Point("batch pos head d_head", "key")
        self.hook_v = Point("batch pos head d_head", "value")
        self.hook_pattern = Recomputable("batch head query key", "pattern")
        self.hook_z = Point("batch pos head d_head", "write")

    def forward(self, x: Float[Tensor, "batch pos d_model"], context: Context) -> Float[Tensor, "batch pos d_model"]:
        q, k, v = self._heads(x, context)
        z = self.hook_z(self._attend(q, k, v, context).transpose(1, 2))
        if self.hook_effective_pattern.watched or self.hook_row_entropy.watched:
            with torch.no_grad():
                pattern = self._summary(q, k, context)
            self.hook_effective_pattern.read(lambda: pattern)
            self.hook_row_entropy.read(lambda: row_entropy(pattern.abs()))
        return self.o(self._read(z, x, v))

    def effective_attention(self, x: Float[Tensor, "batch pos d_model"], context: Context) -> Effective:
        """The pattern, exact."""
        q, k, v = self._heads(x, context)
        return Effective(self._pattern(q, k, context), v, exact=True)

    @abstractmethod
    def _pattern(self, q: Features, k: Features, context: Context) -> Pattern:
        """What multiplies the values, written plainly; masked and future keys weigh nothing."""

    def _summary(self, q: Features, k: Features, context: Context) -> Pattern:
        """What the readings show: the pattern, unless channels of a head have matrices of their own."""
        return self._pattern(q, k, context)

    def _fast(self, q: Features, k: Features, v: Heads, context: Context) -> Heads:
        """pattern @ values, by the quicker way."""
        return self._pattern(q, k, context) @ v

    def _read(self, z: Float[Tensor, "batch pos head d_head"], x: Tensor, v: Heads) -> Float[Tensor, "batch pos width"]:
        """What W_O reads: z of all heads side by side, unless the method does more to it."""
        return z.flatten(-2)

    def _heads(self, x: Tensor, context: Context) -> tuple[Features, Features, Heads]:
        """Queries, keys and values; a method that maps them first (features, rotations) extends this."""
        split = (self.n_heads, self.d_head)
        q = self.hook_q(self.q(x).unflatten(-1, split)).transpose(1, 2)
        k = self.hook_k(self.k(x).unflatten(-1, split)).transpose(1, 2)
        v = self.hook_v(self.v(x).unflatten(-1, split)).transpose(1, 2)
        return q, k, v

    def _attend(self, q: Features, k: Features, v: Heads, context: Context) -> Heads:
        if self.hook_pattern.watched:
            if self.hook_pattern.needs_path and torch.is_grad_enabled():
                return self.hook_pattern.show(self._pattern(q, k, context))[0] @ v
            with torch.no_grad():
                pattern, edited = self.hook_pattern.show(self._pattern(q, k, context))
                if edited:
                    return pattern @ v
        return self._fast(q, k, v, context)
