"""gMLP's spatial gating (Liu et al. 2021, "Pay attention to MLPs").

    [U, V] = gelu(X W_in),   Y = (U ⊙ (W·norm(V) + b)) W_out,   W [pos pos] and b [pos] learned

for each layer, the same for every channel. W starts near zero and b at one, so that a layer starts as a feed-forward;
gMLP has no other, so that `feedforward="none"` gives its block. An input shorter than n_ctx reads the first rows and
columns of W; a causal model its lower triangle.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from microtome.lab.zoo.mixers._static import Heads, Matrix, StaticMixer, Stream
from microtome.lab.zoo.parts import Context, MixerPart, Shape
from microtome.lab.zoo.streaming import Moment, State, Streaming
from microtome.lab.zoo.template import Template

START = 1e-3
"""W starts uniform between ±START/n_ctx: what its rows add to b is then at most START times the largest value."""


class GMLPMixer(StaticMixer, Streaming):
    """One head as wide as the gate; hook_z is W·norm(V), before b and U."""

    constant_state: ClassVar = False

    def __init__(self, options: "Part", shape: Shape):
        width = 3 * shape.d_model if options.d_gate is None else options.d_gate
        super().__init__(n_heads=1, d_head=width)
        self.longest, self.causal = shape.n_ctx, shape.causal
        self.in_ = nn.Linear(shape.d_model, 2 * width)
        self.norm = nn.LayerNorm(width)
        self.w = nn.Parameter(torch.empty(shape.n_ctx, shape.n_ctx).uniform_(-START / shape.n_ctx, START / shape.n_ctx))
        self.b = nn.Parameter(torch.ones(shape.n_ctx))
        self.o = nn.Linear(width, shape.d_model)

    b_O = property(lambda self: self.o.bias, doc="[d_model]")

    @property
    def W_O(self) -> Float[Tensor, "1 d_head d_model"]:
        return self.o.weight.T[None]

    def _project(self, x: Stream) -> Heads:
        return self.norm(F.gelu(self.in_(x)).chunk(2, dim=-1)[1]).unsqueeze(2)

    def _mix(self, v: Heads, context: Context) -> Heads:
        return (self._weights(context.n) @ v[:, :, 0]).unsqueeze(2)

    def _matrix(self, v: Heads, context: Context) -> Matrix:
        return self._weights(context.n).expand(v.shape[0], 1, -1, -1)

    def _write(self, z: Heads, x: Stream) -> Stream:
        u = F.gelu(self.in_(x)).chunk(2, dim=-1)[0]
        return self.o(u * (z[:, :, 0] + self.b[: z.shape[1], None]))

    def _weights(self, n: int) -> Float[Tensor, "query key"]:
        w = self.w[:n, :n]
        return w.tril() if self.causal else w

    def start(self, batch: int) -> State:
        """norm(V) of no position."""
        return (self.w.new_empty(batch, 0, self.d_head),)

    def step(
        self, x: Float[Tensor, "batch d_model"], state: State, moment: Moment
    ) -> tuple[Float[Tensor, "batch d_model"], State]:
        """One row of W against all norm(V) so far, which are kept."""
        u, v = F.gelu(self.in_(x)).chunk(2, dim=-1)
        values = torch.cat([state[0], self.norm(v)[:, None]], dim=1)
        z = self.w[moment.t, : moment.t + 1] @ values
        return self.o(u * (z + self.b[moment.t])), (values,)


@dataclass(frozen=True)
class Part(MixerPart):
    """`d_gate`: width of U and V; None gives 3·d_model, half of the paper's 6·d_model."""

    template: ClassVar = Template(
        matrix="W, then U ⊙ (W V + b)",
        depends="weights",
        structure="dense",
        cost="n²·d",
        lengths="at most n_ctx",
    )

    d_gate: int | None = None

    def build(self, shape: Shape) -> GMLPMixer:
        if self.d_gate is not None and self.d_gate < 1:
            raise ValueError(f"d_gate must be at least 1, not {self.d_gate}.")
        return GMLPMixer(self, shape)
