"""Softmax attention over a short span, as MASFormer's sparse layers have it (Zhang et al. 2023, slug `masformer`).

Weights, heads and positions are those of softmax attention; only what a query may see differs. With a span of size b,

- `block`: its own block of b positions, ⌊i/b⌋ = ⌊j/b⌋;
- `previous`: its own block and the one before, as in LongT5;
- `window`: i − b ≤ j ≤ i.

All of them end at i in a causal model, the paper's case; in a bidirectional one a block is seen whole and a window
reaches b to either side. Scores are made for the tiles around the diagonal only, never n × n.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from microtome.kernels import local_attention as kernel
from microtome.lab.zoo.mixers import softmax
from microtome.lab.zoo.mixers._heads import row_entropy
from microtome.lab.zoo.parts import Context, Shape
from microtome.lab.zoo.streaming import Moment, State
from microtome.lab.zoo.template import Template

Pattern = Literal["block", "previous", "window"]


@dataclass(frozen=True)
class Span:
    """What a query may see, and what that costs in a causal model.

    Attributes:
        pattern: as the module's docstring says.
        size: b, at least 1.
    """

    pattern: Pattern
    size: int

    def __post_init__(self):
        if self.pattern not in get_args(Pattern):
            raise ValueError(f"a span's pattern is one of {', '.join(get_args(Pattern))}, not {self.pattern!r}.")
        if self.size < 1:
            raise ValueError(f"a span must be at least 1 long, not {self.size}.")

    def sees(self, queries: Int[Tensor, " query"], keys: Int[Tensor, " key"]) -> Bool[Tensor, "query key"]:
        """Which keys lie in the span of which queries, the future included."""
        if self.pattern == "window":
            return (queries[:, None] - keys).abs() <= self.size
        behind = (queries // self.size)[:, None] - keys // self.size
        return (behind >= 0) & (behind <= (self.pattern == "previous"))

    def first(self, t: int) -> int:
        """The earliest key that position t sees."""
        if self.pattern == "window":
            return max(t - self.size, 0)
        return max(t // self.size - (self.pattern == "previous"), 0) * self.size

    @property
    def cache(self) -> int:
        """How many keys a decoder keeps at most: b, 2b, or b + 1."""
        return {"block": self.size, "previous": 2 * self.size, "window": self.size + 1}[self.pattern]

    def pairs(self, n: int) -> int:
        """Pairs of a query and a key that it sees among n positions, causal."""
        b = self.size
        if self.pattern == "window":
            early = min(n, b + 1)
            return triangle(early) + (n - early) * (b + 1)
        own = n // b * triangle(b) + triangle(n % b)
        return own + (max(n - b, 0) * b if self.pattern == "previous" else 0)


def triangle(n: int) -> int:
    """Visible pairs of full causal attention, n(n + 1)/2."""
    return n * (n + 1) // 2


class SpanMixer(softmax.SoftmaxMixer):
    """Softmax attention of one layer within a span."""

    skips_rows: ClassVar = False

    def __init__(self, options: "Part", shape: Shape):
        super().__init__(options, shape)
        self.span = options.reach

    def _adjusted(self, scores: Tensor, queries: Tensor) -> Tensor:
        keys = torch.arange(scores.shape[-1], device=scores.device)
        return scores.masked_fill(~self.span.sees(queries, keys), -torch.inf)

    def _fused(self, q: Tensor, k: Tensor, v: Tensor, context: Context) -> Tensor:
        terms = {"mask": context.mask, "bias": context.bias, "scale": self.scale}
        size = self.span.size
        if self.span.pattern == "window":
            return kernel.window_attention(q, k, v, size, 0 if self.causal else size, **terms)
        previous = int(self.span.pattern == "previous")
        return kernel.block_attention(q, k, v, size, causal=self.causal, previous=previous, **terms)

    def _row_entropy(self, q: Tensor, k: Tensor, context: Context) -> Float[Tensor, "batch head query"]:
        return row_entropy(self._effective(q, k, context))

    def step(
        self, x: Float[Tensor, "batch d_model"], state: State, moment: Moment
    ) -> tuple[Float[Tensor, "batch d_model"], State]:
        """As full attention's, with a cache that holds the span only: own blocks empty it where a block begins."""
        t = moment.t
        first = self.span.first(t)
        passed = first - (self.span.first(t - 1) if t else 0)
        q, k, v = (each.unflatten(-1, (self.n_heads, self.d_head)) for each in self._row(x))
        if self.rotary:
            q, k = moment.rotated(q), moment.rotated(k)
        keys = torch.cat([state[0][:, :, passed:], k[:, :, None]], 2)
        values = torch.cat([state[1][:, :, passed:], v[:, :, None]], 2)
        scores = q[:, :, None] @ keys.mT * self.scale
        bias = moment.bias(x.device)
        if bias is not None:
            scores = scores + bias[:, None, first:]
        return self.o((scores.softmax(-1) @ values)[:, :, 0].flatten(-2)), (keys, values)


@dataclass(frozen=True)
class Part(softmax.Part):
    """The options of softmax attention, and `pattern` and `span`, its size b, as the module's docstring says."""

    template: ClassVar = Template(
        matrix="softmax(QKᵀ/√d + B) within a span",
        depends="input",
        structure="block-diagonal or banded",
        cost="n·span·d",
        normalised="softmax over keys",
        local="the query's block, with the one before, or a window",
    )

    pattern: Pattern = "block"
    span: int = 64

    @property
    def reach(self) -> Span:
        return Span(self.pattern, self.span)

    def build(self, shape: Shape) -> SpanMixer:
        return SpanMixer(self, shape)
