"""Mamba-2's mixer: state-space duality with heads (Dao & Gu 2024, "Transformers are SSMs"; "A Survey of Mamba", 2024,
slug `survey_mamba`, sections 6 to 8).

    [z, u, Δ] = W_in x,   [v, B, C] = SiLU(conv(u)),   Δ = softplus(Δ + b_Δ),   a = e^{Δ A}, A < 0 one number a head
    S_t = a_t S_{t−1} + Δ_t B_t v_tᵀ,   y_t = S_tᵀ C_t + D v_t,   output = W_out RMSNorm(y ⊙ SiLU(z))

B and C serve all heads. Written as attention q = C, k = ΔB, and `hook_pattern` is L ∘ CBᵀΔ with D on its diagonal.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from microtome.lab.zoo.mixers._decay import DecayMixer, Terms
from microtome.lab.zoo.parts import Context, MixerPart, Shape
from microtome.lab.zoo.streaming import Moment, State
from microtome.lab.zoo.template import Template


class Mamba2Mixer(DecayMixer):
    """Mamba-2's mixer of one layer. Padding counts as zeros for the convolution and leaves the state as it is."""

    def __init__(self, options: "Part", shape: Shape):
        super().__init__()
        width = options.expand * shape.d_model
        self.d_head = options.head_width(shape)
        self.n_heads, self.d_state = width // self.d_head, options.d_state
        self.split = [width, width + 2 * options.d_state, self.n_heads]
        self.in_proj = nn.Linear(shape.d_model, sum(self.split), bias=False)
        self.conv = nn.Conv1d(self.split[1], self.split[1], options.d_conv, groups=self.split[1])
        low, high = math.log(options.dt_min), math.log(options.dt_max)
        dt = (low + (high - low) * torch.rand(self.n_heads)).exp()
        self.b_delta = nn.Parameter(dt + torch.log(-torch.expm1(-dt)))  # softplus⁻¹
        self.A_log = nn.Parameter((1 + 15 * torch.rand(self.n_heads)).log())
        self.D = nn.Parameter(torch.ones(self.n_heads))
        self.norm = nn.RMSNorm(width, eps=1e-5)
        self.o = nn.Linear(width, shape.d_model, bias=False)

    b_O = property(lambda self: self.o.bias, doc="None")

    def _terms(self, x: Tensor, context: Context) -> Terms:
        gate, u, delta = self.in_proj(x).split(self.split, -1)
        delta = F.softplus(delta + self.b_delta)
        if context.mask is not None:
            u, delta = u * context.mask[..., None], delta * context.mask[..., None]
        u = self.conv(F.pad(u.mT, (self.conv.kernel_size[0] - 1, 0))).mT
        return self._attended(u, delta, gate)

    def _attended(self, u: Tensor, delta: Float[Tensor, "batch *pos head"], gate: Tensor) -> Terms:
        """The terms of one or all positions, from the convolution's output."""
        v, B, C = F.silu(u).split([self.split[0], self.d_state, self.d_state], -1)
        q, k = C.unsqueeze(-2).expand(*delta.shape, -1), B.unsqueeze(-2) * delta[..., None]
        heads = (q, k, v.unflatten(-1, (self.n_heads, self.d_head)), delta * -self.A_log.exp())
        # heads before positions, where there are positions
        return Terms(*(each.transpose(1, 2) if delta.ndim == 3 else each for each in heads), gate)

    def _skip(self) -> Float[Tensor, " head"]:
        return self.D

    def _read(self, z: Tensor, gate: Tensor) -> Tensor:
        return self.norm(z.flatten(-2) * F.silu(gate))

    def start(self, batch: int) -> State:
        """The last d_conv − 1 inputs of the convolution [batch channel lag], and S [batch head d_state d_head]."""
        weight = self.o.weight
        lags = weight.new_zeros(batch, self.split[1], self.conv.kernel_size[0] - 1)
        return lags, weight.new_zeros(batch, self.n_heads, self.d_state, self.d_head)

    def _terms_at(self, x: Tensor, kept: State, moment: Moment) -> tuple[Terms, State]:
        gate, u, delta = self.in_proj(x).split(self.split, -1)
        window = torch.cat([kept[0], u[..., None]], -1)
        u = (window * self.conv.weight[:, 0]).sum(-1) + self.conv.bias
        return self._attended(u, F.softplus(delta + self.b_delta), gate), (window[..., 1:],)


@dataclass(frozen=True)
class Part(MixerPart):
    """Options of Mamba-2's mixer.

    Attributes:
        d_state: N, width of keys and read-outs.
        expand: channels of the state space for each of the stream.
        d_conv: positions that the convolution sees.
        d_head: P, channels of a head, 64 as published; None gives expand·d_model / n_heads.
        dt_min, dt_max: between which Δ starts, log-uniformly.
    """

    causal_only: ClassVar = True
    template: ClassVar = Template(
        matrix="C_i·B_j Δ_j·e^{A(Δ_{j+1}+⋯+Δ_i)} + D",
        depends="input",
        structure="semiseparable",
        cost="n·(chunk·d_state + chunk·d + d_state·d)",
        low_rank="off-diagonal blocks: d_state",
    )

    d_state: int = 128
    expand: int = 2
    d_conv: int = 4
    d_head: int | None = None
    dt_min: float = 0.001
    dt_max: float = 0.1

    def head_width(self, shape: Shape) -> int:
        """P. Raises ValueError if the heads do not fill the channels."""
        width = self.expand * shape.d_model
        heads = shape.n_heads if self.d_head is None else max(1, width // max(1, self.d_head))
        if width % heads or self.d_head not in (None, width // heads):
            wanted = f"n_heads={shape.n_heads}" if self.d_head is None else f"d_head={self.d_head}"
            raise ValueError(f"the {width} channels (expand·d_model) do not divide into heads with {wanted}.")
        return width // heads

    def build(self, shape: Shape) -> Mamba2Mixer:
        for name in ("d_state", "expand", "d_conv"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}.")
        if not 0 < self.dt_min <= self.dt_max < math.inf:
            raise ValueError(f"dt_min and dt_max must be 0 < dt_min <= dt_max, not {self.dt_min} and {self.dt_max}.")
        return Mamba2Mixer(self, shape)
