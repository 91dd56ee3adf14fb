"""Mamba's mixer: a gated, convolved selective state space (Gu & Dao 2023; "A Survey of Mamba", 2024, slug
`survey_mamba`, sections 3 and 5).

    u = W_in x,   v = SiLU(conv(u)),   [δ, B, C] = W_x v,   Δ = softplus(W_Δ δ + b_Δ),   A = −e^{A_log}
    h_t = e^{Δ_t A} h_{t−1} + Δ_t B_t v_t,   z_t = C_t·h_t + D v_t,   output = W_out (z ⊙ SiLU(W_z x))

with d_state states a channel, and a depthwise convolution over d_conv positions. Without causality there are two of
these, convolution and all, one of which reads from right to left; they share W_in, W_z and W_out and are summed (Zhu et
al. 2024, "Vision Mamba"). What selects is an option: what is not made from the input is a learned constant.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from microtome.kernels.scan import selective
from microtome.lab.zoo.mixers._recurrent import Channels, RecurrentMixer
from microtome.lab.zoo.parts import Context, Effective, MixerPart, Shape
from microtome.lab.zoo.streaming import Moment, State, Streaming
from microtome.lab.zoo.template import Template

SMALLEST_STEP = 1e-4
"""Below which no Δ starts."""
SELECTABLE = ("delta", "B", "C")

Wide = Float[Tensor, "batch pos width"]


class Selected(NamedTuple):
    """Δ [… width], B and C [… d_state] of every position."""

    delta: Tensor
    B: Tensor
    C: Tensor


class SelectiveBranch(nn.Module):
    """One direction of reading: the convolution and S6 over `width` channels.

    b_Δ is a parameter of its own, not the bias of a linear map, so that no law of `Init` sets it to zero.
    """

    def __init__(self, options: "Part", width: int, d_model: int):
        super().__init__()
        rank = math.ceil(d_model / 16) if options.dt_rank is None else options.dt_rank
        sizes = {"delta": rank, "B": options.d_state, "C": options.d_state}
        self.sizes = {name: sizes[name] for name in SELECTABLE if name in options.selective}
        self.conv = nn.Conv1d(width, width, options.d_conv, groups=width)
        if self.sizes:
            self.x_proj = nn.Linear(width, sum(self.sizes.values()), bias=False)
        if "delta" in self.sizes:
            self.dt_proj = nn.Linear(rank, width, bias=False)
        if "B" not in self.sizes:
            self.B = nn.Parameter(torch.ones(options.d_state))
        if "C" not in self.sizes:
            self.C = nn.Parameter(torch.randn(options.d_state))
        low, high = math.log(options.dt_min), math.log(options.dt_max)
        dt = (low + (high - low) * torch.rand(width)).exp().clamp(min=SMALLEST_STEP)
        self.b_delta = nn.Parameter(dt + torch.log(-torch.expm1(-dt)))  # softplus⁻¹
        self.A_log = nn.Parameter(torch.arange(1, options.d_state + 1).float().log().repeat(width, 1))
        self.D = nn.Parameter(torch.ones(width))

    @property
    def A(self) -> Float[Tensor, "width d_state"]:
        return -self.A_log.exp()

    def convolved(self, u: Wide) -> Wide:
        """SiLU of the causal convolution; before the first position there are zeros."""
        return F.silu(self.conv(F.pad(u.mT, (self.conv.kernel_size[0] - 1, 0))).mT)

    def select(self, v: Float[Tensor, "batch *pos width"]) -> Selected:
        """Δ, B and C, each from the input or constant."""
        made = {}
        if self.sizes:
            made = dict(zip(self.sizes, self.x_proj(v).split(list(self.sizes.values()), -1), strict=True))
        delta = self.dt_proj(made["delta"]) if "delta" in made else torch.zeros_like(v)
        B, C = (made[name] if name in made else getattr(self, name).expand(*v.shape[:-1], -1) for name in ("B", "C"))
        return Selected(F.softplus(delta + self.b_delta), B, C)


class MambaMixer(RecurrentMixer, Streaming):
    """Mamba's mixer of one layer. Padding counts as zeros for the convolution and leaves the state as it is.

    `hook_z` is what is read out of the states, before the gate. Bidirectional, `hook_v` and `hook_z` have twice n_heads
    heads: first those of the branch that reads from the left, then those of the other.
    """

    def __init__(self, options: "Part", shape: Shape):
        width = options.expand * shape.d_model
        super().__init__(shape, width=width, bias=False)
        self.inputs = nn.Linear(shape.d_model, width, bias=False)
        self.gate = nn.Linear(shape.d_model, width, bias=False)
        self.branches = nn.ModuleList(
            SelectiveBranch(options, width, shape.d_model) for _ in range(1 if shape.causal else 2)
        )
        self.n_heads = shape.n_heads * len(self.branches)
        with torch.no_grad():  # as many writes to the stream as layers
            self.o.weight /= math.sqrt(shape.n_layers)

    def _states(self, x: Channels, context: Context) -> Float[Tensor, "batch pos branches"]:
        v, selected = self._values_and_selected(x, context)
        outputs = []
        for i, (branch, (delta, B, C), v_i) in self._each(selected, v):
            v_i = v_i.flip(1) if i else v_i
            y = selective.selective_scan(v_i, delta, branch.A, B, C) + branch.D * v_i
            outputs.append(y.flip(1) if i else y)
        return torch.cat(outputs, -1)

    def _values_and_selected(
        self, x: Channels, context: Context
    ) -> tuple[Float[Tensor, "batch pos branches"], list[Selected]]:
        """v of all branches, every one at its own position; Δ, B and C in each branch's order of reading."""
        u = self.inputs(x)
        if context.mask is not None:
            u = u * context.mask[..., None]
        values, selected = [], []
        for i, branch in enumerate(self.branches):
            v = branch.convolved(u.flip(1) if i else u)
            selected.append(_resting(branch.select(v), context.mask, reverse=i > 0))
            values.append(v.flip(1) if i else v)
        return self._values(torch.cat(values, -1)), selected

    def _each(self, selected: list[Selected], v: Tensor) -> Iterator[tuple[int, tuple]]:
        """Branch by branch: its index; itself, what it selected, and its values."""
        return enumerate(zip(self.branches, selected, v.chunk(len(self.branches), -1), strict=True))

    def _read(self, z: Float[Tensor, "batch pos branches"], x: Channels) -> Wide:
        return sum(z.chunk(len(self.branches), -1)) * F.silu(self.gate(x))

    def effective_attention(self, x: Channels, context: Context) -> Effective:
        v, selected = self._values_and_selected(x, context)
        matrices = []
        for i, (branch, (delta, B, C), _) in self._each(selected, v):
            matrix = selective.effective_matrix(delta, branch.A, B, C)
            matrix = matrix.flip(-1, -2) if i else matrix
            matrices.append(matrix + torch.eye(context.n, dtype=x.dtype, device=x.device) * branch.D[:, None, None])
        return Effective(torch.cat(matrices, 1), v.mT[..., None], exact=True)

    def start(self, batch: int) -> State:
        """The last d_conv − 1 inputs of the convolution [batch width lag], and h [batch width d_state]."""
        (branch,), weight = self.branches, self.o.weight
        width, d_state = branch.A_log.shape
        return weight.new_zeros(batch, width, branch.conv.kernel_size[0] - 1), weight.new_zeros(batch, width, d_state)

    def step(
        self, x: Float[Tensor, "batch d_model"], state: State, moment: Moment
    ) -> tuple[Float[Tensor, "batch d_model"], State]:
        (branch,) = self.branches
        window = torch.cat([state[0], self.inputs(x)[..., None]], -1)
        v = F.silu((window * branch.conv.weight[:, 0]).sum(-1) + branch.conv.bias)
        delta, B, C = branch.select(v)
        y, h = selective.step(state[1], v, delta, branch.A, B, C)
        return self.o((y + branch.D * v) * F.silu(self.gate(x))), (window[..., 1:], h)


def _resting(selected: Selected, mask: Bool[Tensor, "batch pos"] | None, reverse: bool) -> Selected:
    """With Δ = 0 at padding."""
    if mask is None:
        return selected
    mask = mask.flip(1) if reverse else mask
    return selected._replace(delta=selected.delta * mask[..., None])


@dataclass(frozen=True)
class Part(MixerPart):
    """Options of Mamba's mixer.

    Attributes:
        d_state: N, states a channel.
        expand: channels of the state space for each of the stream.
        d_conv: positions that the convolution sees.
        dt_rank: R, width of δ; None gives ⌈d_model/16⌉.
        selective: which of `delta`, `B` and `C` depend on the input; the others are learned constants.
        dt_min, dt_max: between which Δ starts, log-uniformly.
    """

    template: ClassVar = Template(
        matrix="C_i·e^{A(Δ_{j+1}+⋯+Δ_i)}·B_j Δ_j + D",
        depends="input",
        structure="semiseparable, one a channel",
        cost="n·d·d_state",
        low_rank="off-diagonal blocks: d_state",
    )

    d_state: int = 16
    expand: int = 2
    d_conv: int = 4
    dt_rank: int | None = None
    selective: tuple[str, ...] = SELECTABLE
    dt_min: float = 0.001
    dt_max: float = 0.1

    def build(self, shape: Shape) -> MambaMixer:
        for name in ("d_state", "expand", "d_conv", "dt_rank"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}.")
        if unknown := [name for name in self.selective if name not in SELECTABLE]:
            raise ValueError(f"selective names some of {', '.join(SELECTABLE)}, not {unknown[0]!r}.")
        if not 0 < self.dt_min <= self.dt_max < math.inf:
            raise ValueError(f"dt_min and dt_max must be 0 < dt_min <= dt_max, not {self.dt_min} and {self.dt_max}.")
        return MambaMixer(self, shape)
