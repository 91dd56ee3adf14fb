"""Multi-scale retention (Sun et al. 2023, "Retentive network: a successor to transformer for large language models").

    z_i = Σ_{j≤i} γ^{i−j} (R_i q_i · R_j k_j)/√d v_j,   γ_h = 1 − 2^{−5−h} for h = 0, 1, …
    output = W_O (GroupNorm(z) ⊙ SiLU(W_G x))

R turns queries and keys by their position, so that places are inside and no position part is needed. Values and gate
are `expand` times as wide as keys, as published. It is state-space duality with a constant decay; the published
rescaling of rows is left out, because the group norm, which has no parameters, undoes any.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from microtome.kernels.rope import rotate
from microtome.lab.zoo.mixers._decay import DecayMixer, Terms
from microtome.lab.zoo.mixers._heads import HeadWeights, head_width
from microtome.lab.zoo.parts import Context, MixerPart, Shape
from microtome.lab.zoo.streaming import Moment, State
from microtome.lab.zoo.template import Template


class RetentionMixer(HeadWeights, DecayMixer):
    """Retention of one layer; padding has k = 0 and decays nothing, though places go on being counted."""

    slot: ClassVar = "attn"

    def __init__(self, options: "Part", shape: Shape):
        super().__init__()
        self.n_heads, self.d_head = shape.n_heads, head_width(shape)
        wide = options.expand * shape.d_model
        self.q, self.k = (nn.Linear(shape.d_model, shape.d_model, bias=False) for _ in range(2))
        self.v, self.gate = (nn.Linear(shape.d_model, wide, bias=False) for _ in range(2))
        self.o = nn.Linear(wide, shape.d_model, bias=False)
        self.eps = options.eps

    @property
    def log_decay(self) -> Float[Tensor, " head"]:
        """log γ of each head."""
        h = torch.arange(self.n_heads, dtype=torch.float64, device=self.o.weight.device)
        return torch.log1p(-(2.0 ** (-5 - h))).to(self.o.weight.dtype)

    def _terms(self, x: Tensor, context: Context) -> Terms:
        q, k, v = self._turned(x, torch.arange(context.n, device=x.device))
        log_decay = self.log_decay[:, None].expand(len(x), -1, context.n)
        if context.mask is not None:
            k, log_decay = k * context.mask[:, None, :, None], log_decay * context.mask[:, None]
        return Terms(q, k, v, log_decay, self.gate(x))

    def _turned(
        self, x: Float[Tensor, "batch pos d_model"], positions: Int[Tensor, " pos"]
    ) -> tuple[Float[Tensor, "batch head pos width"], ...]:
        q, k, v = (linear(x).unflatten(-1, (self.n_heads, -1)) for linear in (self.q, self.k, self.v))
        turned = rotate(q, positions), rotate(k * self.d_head**-0.5, positions), v
        return tuple(each.transpose(1, 2) for each in turned)

    def _read(self, z: Tensor, gate: Tensor) -> Tensor:
        return F.layer_norm(z, z.shape[-1:], eps=self.eps).flatten(-2) * F.silu(gate)

    def start(self, batch: int) -> State:
        """S [batch head d_head d_v]."""
        weight = self.o.weight
        return (weight.new_zeros(batch, self.n_heads, self.d_head, weight.shape[1] // self.n_heads),)

    def _terms_at(self, x: Tensor, kept: State, moment: Moment) -> tuple[Terms, State]:
        q, k, v = (each[:, :, 0] for each in self._turned(x[:, None], torch.tensor([moment.t], device=x.device)))
        return Terms(q, k, v, self.log_decay.expand(len(x), -1), self.gate(x)), kept


@dataclass(frozen=True)
class Part(MixerPart):
    """`expand`: width of values for each of keys; `eps` of the group norm."""

    causal_only: ClassVar = True
    template: ClassVar = Template(
        matrix="γ^{i−j}·(R_i q_i)·(R_j k_j)/√d",
        depends="input",
        structure="semiseparable, rank ≤ d_head",
        cost="n·(chunk·d + d²)",
        normalised="group norm of the output",
        low_rank="d_head",
    )

    expand: int = 2
    eps: float = 1e-5

    def build(self, shape: Shape) -> RetentionMixer:
        if self.expand < 1:
            raise ValueError(f"expand must be at least 1, not {self.expand}.")
        if head_width(shape) % 2:
            raise ValueError(f"retention turns pairs of dimensions: the head's width {head_width(shape)} must be even.")
        return RetentionMixer(self, shape)
