"""T5's relative position bias (Raffel et al. 2020, section 2.1): offsets fall into buckets, exact up to a half of
them and logarithmic up to `max_distance`; each bucket has one learned scalar a head, shared by all layers.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from microtome.lab.zoo.parts import Position, PositionPart, Shape


def buckets(
    offsets: Int[Tensor, "*shape"], n_buckets: int, max_distance: int, bidirectional: bool
) -> Int[Tensor, "*shape"]:
    """The bucket of each offset key − query.

    Bidirectional models give one half of the buckets to keys ahead; causal ones send every key ahead to bucket 0.
    """
    side = torch.zeros_like(offsets)
    if bidirectional:
        n_buckets //= 2
        side = (offsets > 0).long() * n_buckets
        distance = offsets.abs()
    else:
        distance = (-offsets).clamp_min(0)
    exact = n_buckets // 2
    ratio = (distance.clamp_min(1).float() / exact).log() / math.log(max_distance / exact)
    far = (exact + (ratio * (n_buckets - exact)).long()).clamp_max(n_buckets - 1)
    return side + torch.where(distance < exact, distance, far)


class T5Position(Position):
    """The table `relative_attention_bias.weight` is [bucket, head], as in T5."""

    def __init__(self, options: "Part", shape: Shape):
        super().__init__()
        self.options, self.bidirectional = options, not shape.causal
        self.relative_attention_bias = nn.Embedding(options.n_buckets, shape.n_heads)

    def bias(self, queries: Int[Tensor, " query"], n_keys: int) -> Float[Tensor, "head query key"]:
        offsets = torch.arange(n_keys, device=queries.device) - queries[:, None]
        o = self.options
        index = buckets(offsets, o.n_buckets, o.max_distance, self.bidirectional)
        return self.relative_attention_bias(index).permute(2, 0, 1)


@dataclass(frozen=True)
class Part(PositionPart):
    """`n_buckets` in all (32 as published), logarithmic up to `max_distance` (128 as published)."""

    provides: ClassVar = frozenset({"bias"})

    n_buckets: int = 32
    max_distance: int = 128

    def build(self, shape: Shape) -> T5Position:
        exact = self.n_buckets // (2 if shape.causal else 4)
        if exact < 1 or self.max_distance <= exact:
            raise ValueError(
                f"T5 needs at least 4 buckets and max_distance above the exact ones; got n_buckets={self.n_buckets}, "
                f"max_distance={self.max_distance}."
            )
        return T5Position(self, shape)
