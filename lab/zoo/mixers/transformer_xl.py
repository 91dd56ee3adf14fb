"""Transformer-XL's attention: scores that know how far a key lies, and not where (Dai et al. 2019, "Transformer-XL:
Attentive language models beyond a fixed-length context", section 3.3; slug `survey_faster_lighter`).

    s_ij = (q_iᵀk_j + q_iᵀW_r R_{i−j} + uᵀk_j + vᵀW_r R_{i−j})/√d_head

R_{i−j} are sinusoids of the distance, u and v learned, one a head. The memory of earlier segments that the paper builds
on it is `zoo.segments`.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from microtome.lab.zoo.mixers import softmax
from microtome.lab.zoo.mixers._heads import row_entropy
from microtome.lab.zoo.parts import Context, Shape
from microtome.lab.zoo.streaming import Moment, State
from microtome.lab.zoo.template import Template

BASE = 10_000.0


class TransformerXLMixer(softmax.SoftmaxMixer):
    """Softmax attention with content and distance in the score; `u` and `v_bias` are [head d_head]."""

    def __init__(self, options: "Part", shape: Shape):
        super().__init__(options, shape)
        width = self.n_heads * self.d_head
        self.r = nn.Linear(shape.d_model, width, bias=False)
        self.u, self.v_bias = (nn.Parameter(torch.randn(self.n_heads, self.d_head) * 0.02) for _ in range(2))
        self.d_model = shape.d_model

    def _scores(self, q: Tensor, k: Tensor, context: Context) -> Float[Tensor, "batch head query key"]:
        distance = context.queries(q.device)[:, None] - torch.arange(context.n, device=q.device)
        content = super()._scores(q + self.u[:, None], k, context)
        return content + self._by_distance(q, distance) * self.scale

    def _by_distance(
        self, q: Float[Tensor, "batch head query d_head"], distance: Int[Tensor, "query key"]
    ) -> Float[Tensor, "batch head query key"]:
        """(q_i + v)ᵀ W_r R at each pair's distance."""
        least = int(distance.min())
        span = torch.arange(least, int(distance.max()) + 1, device=q.device)
        r = self.r(sinusoids(span, self.d_model).to(q.dtype)).unflatten(-1, (self.n_heads, self.d_head))
        every = (q + self.v_bias[:, None]) @ r.permute(1, 2, 0)  # [batch head query span]
        return every.gather(-1, (distance - least).expand(*q.shape[:2], -1, -1))

    def _fused(self, q: Tensor, k: Tensor, v: Tensor, context: Context) -> Tensor:
        return self._pattern(self._scores(q, k, context), context) @ v

    def _row_entropy(self, q: Tensor, k: Tensor, context: Context) -> Float[Tensor, "batch head query"]:
        return row_entropy(self._effective(q, k, context))

    def step(
        self, x: Float[Tensor, "batch d_model"], state: State, moment: Moment
    ) -> tuple[Float[Tensor, "batch d_model"], State]:
        """One query against the cache of keys and values, to which its own are added."""
        q, k, v = (each.unflatten(-1, (self.n_heads, self.d_head))[:, :, None] for each in self._row(x))
        keys, values = torch.cat([state[0], k], 2), torch.cat([state[1], v], 2)
        row = Context(moment.position, moment.t + 1, rows=slice(moment.t, moment.t + 1))
        z = self._pattern(self._scores(q, keys, row), row) @ values
        return self.o(z[:, :, 0].flatten(-2)), (keys, values)


def sinusoids(distance: Int[Tensor, " distance"], d_model: int) -> Float[Tensor, "distance d_model"]:
    """sin and then cos of distance/10000^{2i/d_model}, as the paper lays them out; an odd width lacks the last cos."""
    rates = BASE ** (-torch.arange(0, d_model, 2, device=distance.device) / d_model)
    angles = distance[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=-1)[:, :d_model]


@dataclass(frozen=True)
class Part(softmax.Part):
    """The options of softmax attention; positions are its own, so that it takes none that turn or bias scores."""

    takes: ClassVar = frozenset({"embedding"})
    template: ClassVar = Template(
        matrix="softmax((QKᵀ + Q(R W_r)ᵀ + uKᵀ + v(R W_r)ᵀ)/√d)",
        depends="input",
        structure="dense",
        cost="n²·d",
        normalised="softmax over keys",
    )

    def build(self, shape: Shape) -> TransformerXLMixer:
        return TransformerXLMixer(self, shape)
