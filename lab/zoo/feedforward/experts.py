"""A mixture of experts (Shazeer et al. 2017; Fedus et al. 2022, "Switch transformers"; slug `survey_faster_lighter`).

    p = softmax(W_r x),   y = Σ_{i ∈ top-k of p} p_i E_i(x),   E_i two-layer feed-forwards with GELU

With a capacity factor c, an expert takes at most ⌈c·k·n/E⌉ tokens of each example, earlier positions first, and what
it refuses goes by with y's share zero. Nothing pushes the router to use all experts but the balance loss

    E·Σ_i f_i P_i,   f_i the share of (token, choice) pairs sent to expert i, P_i the mean of p_i,   1 where balanced

which `balance` gives from `hook_router`; f does not carry a gradient, P does.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from microtome.lab.zoo.feedforward._mlp import Stream, width
from microtome.lab.zoo.parts import FeedForwardPart, Shape
from microtome.lab.zoo.points import Point


class Experts(nn.Module):
    """`hook_router` carries p, [batch pos expert]."""

    b_out = None

    def __init__(self, options: "Part", shape: Shape):
        super().__init__()
        self.options, self.d_mlp = options, width(options.d_mlp, 4 * shape.d_model)
        self.router = nn.Linear(shape.d_model, options.n_experts, bias=False)
        self.w_in = nn.Parameter(_uniform(options.n_experts, shape.d_model, self.d_mlp))
        self.w_out = nn.Parameter(_uniform(options.n_experts, self.d_mlp, shape.d_model))
        self.hook_router = Point("batch pos expert", "gate")

    def forward(self, x: Stream) -> Stream:
        # A softmax in half precision would round the smaller probabilities away.
        p = self.router(x).float().softmax(-1) if x.dtype.itemsize < 4 else self.router(x).softmax(-1)
        p = self.hook_router(p)
        chosen = p.topk(self.options.k, dim=-1).indices
        taken = self._taken(chosen)
        y = torch.zeros_like(x)
        for expert in range(self.options.n_experts):
            batch, pos = ((chosen == expert) & taken).any(-1).nonzero(as_tuple=True)
            fed = F.gelu(x[batch, pos] @ self.w_in[expert]) @ self.w_out[expert]
            y = y.index_put((batch, pos), p[batch, pos, expert, None].to(x.dtype) * fed, accumulate=True)
        return y

    def _taken(self, chosen: Int[Tensor, "batch pos choice"]) -> Bool[Tensor, "batch pos choice"]:
        """Which choices are within their expert's capacity."""
        if self.options.capacity is None:
            return torch.ones_like(chosen, dtype=torch.bool)
        n, k = chosen.shape[1:]
        room = math.ceil(self.options.capacity * k * n / self.options.n_experts)
        sent = F.one_hot(chosen, self.options.n_experts)
        place = sent.flatten(1, 2).cumsum(1).view_as(sent)  # of each choice in its expert's queue, from 1
        return (place * sent).sum(-1) <= room


def balance(p: Float[Tensor, "batch pos expert"], k: int) -> Float[Tensor, ""]:
    """E·Σ f_i P_i of router probabilities, each token sent to its k likeliest experts; 1 where balanced, at most E.

    Raises:
        ValueError: if k is not a number of experts.
    """
    n_experts = p.shape[-1]
    if not 1 <= k <= n_experts:
        raise ValueError(f"k must lie between 1 and the {n_experts} experts, not {k}.")
    f = F.one_hot(p.topk(k, dim=-1).indices, n_experts).flatten(0, 2).to(p.dtype).mean(0)
    return n_experts * (f * p.flatten(0, 1).mean(0)).sum()


def _uniform(n_experts: int, d_in: int, d_out: int) -> Tensor:
    """As torch starts its linear maps."""
    return torch.empty(n_experts, d_in, d_out).uniform_(-(d_in**-0.5), d_in**-0.5)


@dataclass(frozen=True)
class Part(FeedForwardPart):
    """Options of a mixture of experts.

    Attributes:
        n_experts: E.
        k: how many experts each token is sent to.
        capacity: c; None lets every expert take all that is sent to it.
        d_mlp: hidden width of an expert; None gives 4·d_model.
    """

    n_experts: int = 4
    k: int = 2
    capacity: float | None = None
    d_mlp: int | None = None

    @property
    def pointwise(self) -> bool:
        """Without a capacity each position is fed by itself."""
        return self.capacity is None

    def build(self, shape: Shape) -> Experts:
        if not 1 <= self.k <= self.n_experts:
            raise ValueError(f"k must lie between 1 and n_experts={self.n_experts}, not {self.k}.")
        if self.capacity is not None and not 0 < self.capacity < math.inf:
            raise ValueError(f"capacity must be positive and finite, or None, not {self.capacity}.")
        return Experts(self, shape)
