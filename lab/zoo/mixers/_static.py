"""What mixers share whose matrix is not made of queries and keys: learned once for all inputs, or fixed.

    v = values(x),   z = M v for each head,   output = write(z, x)

A subclass gives the values, their product with M, and M itself; tests hold the product against M for every mixer.
"""

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from microtome.lab.zoo.mixers._heads import row_entropy
from microtome.lab.zoo.parts import Context, Effective, Mixer
from microtome.lab.zoo.points import Point

Stream = Float[Tensor, "batch pos d_model"]
Heads = Float[Tensor, "batch pos head d_head"]
Matrix = Float[Tensor, "batch matrix query key"]
"""One a head, or one a channel."""

_NOT_ATTENTION = "the mixing matrix is not made of queries and keys; hook_effective_pattern shows it"


class StaticMixer(Mixer):
    """Masked positions are zeros among the values.

    Args:
        n_heads: how many matrices there are.
        d_head: how many channels each of them mixes.
    """

    absent: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("hook_q", "hook_k", "hook_pattern", "hook_attn_scores"), _NOT_ATTENTION
    )

    def __init__(self, n_heads: int, d_head: int):
        super().__init__()
        self.n_heads, self.d_head = n_heads, d_head
        self.hook_v = Point("batch pos head d_head", "value")
        self.hook_z = Point("batch pos head d_head", "write")

    def forward(self, x: Stream, context: Context) -> Stream:
        v = self._values(x, context)
        z = self.hook_z(self._mix(v, context))
        if self.hook_effective_pattern.watched or self.hook_row_entropy.watched:
            with torch.no_grad():
                pattern = self._pattern(v, context)
            self.hook_effective_pattern.read(lambda: pattern)
            self.hook_row_entropy.read(lambda: row_entropy(pattern.abs()))
        return self._write(z, x)

    def effective_attention(self, x: Stream, context: Context) -> Effective:
        """M and the values, exact."""
        v = self._values(x, context)
        return Effective(self._matrix(v, context), v.transpose(1, 2), exact=True)

    def _values(self, x: Stream, context: Context) -> Heads:
        v = self._project(x)
        return self.hook_v(v if context.mask is None else v * context.mask[..., None, None])

    @abstractmethod
    def _project(self, x: Stream) -> Heads:
        """The values at each position, masked or not."""

    @abstractmethod
    def _mix(self, v: Heads, context: Context) -> Heads:
        """M v, by the quickest way."""

    @abstractmethod
    def _matrix(self, v: Heads, context: Context) -> Matrix:
        """M of every example and head, or channel."""

    @abstractmethod
    def _write(self, z: Heads, x: Stream) -> Stream:
        """What the mixer writes to the stream, position by position."""

    def _pattern(self, v: Heads, context: Context) -> Float[Tensor, "batch head query key"]:
        """What the readings show."""
        return self._matrix(v, context)
