"""What mixers share that are linear attention under a decay of each head: state-space duality on the slot's contract.

z_i = Σ_{j≤i} (q_i·k_j) Π_{j<r≤i} a_r · v_j + D v_i
"""

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from microtome.kernels.scan import ssd
from microtome.lab.zoo.mixers._heads import row_entropy
from microtome.lab.zoo.parts import Context, Effective, Mixer
from microtome.lab.zoo.points import Point, Recomputable
from microtome.lab.zoo.streaming import Moment, State, Streaming

Pattern = Float[Tensor, "batch head query key"]


class Terms(NamedTuple):
    """q and k [batch head pos state], v [batch head pos d_v], log a [batch head pos], and a gate [batch pos width].

    Of one position, in a step, the axis pos is missing.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    log_decay: Tensor
    gate: Tensor


class DecayMixer(Mixer, Streaming):
    """Causal mixing by the pattern (q_i·k_j) Π a, whose weights have any sign. The subclass makes the map `o`."""

    absent: ClassVar[Mapping[str, str]] = {
        "hook_attn_scores": "there is no softmax of scores, so hook_pattern is all there is"
    }

    def __init__(self):
        super().__init__()
        self.hook_q = Point("batch pos head state", "query")
        self.hook_k = Point("batch pos head state", "key")
        self.hook_v = Point("batch pos head d_head", "value")
        self.hook_pattern = Recomputable("batch head query key", "pattern")
        self.hook_z = Point("batch pos head d_head", "write")

    @abstractmethod
    def _terms(self, x: Tensor, context: Context) -> Terms:
        """What x [batch pos d_model] is turned into; masked positions have k = 0 and log a = 0."""

    @abstractmethod
    def _terms_at(self, x: Tensor, kept: State, moment: Moment) -> tuple[Terms, State]:
        """The same of one position x [batch d_model], and what is kept beside the state S."""

    @abstractmethod
    def _read(self, z: Tensor, gate: Tensor) -> Tensor:
        """What W_O reads, made from z [batch … head d_head] and the gate [batch … width]."""

    def _skip(self) -> Float[Tensor, " head"] | None:
        """D of each head, or None."""
        return None

    def forward(self, x: Float[Tensor, "batch pos d_model"], context: Context) -> Float[Tensor, "batch pos d_model"]:
        terms = self._shown(self._terms(x, context))
        z = self.hook_z(self._mix(terms).transpose(1, 2))
        if self.hook_effective_pattern.watched or self.hook_row_entropy.watched:
            with torch.no_grad():
                pattern = self._pattern(terms)
            self.hook_effective_pattern.read(lambda: pattern)
            self.hook_row_entropy.read(lambda: row_entropy(pattern.abs()))
        return self.o(self._read(z, terms.gate))

    def effective_attention(self, x: Float[Tensor, "batch pos d_model"], context: Context) -> Effective:
        """The pattern, exact."""
        terms = self._shown(self._terms(x, context))
        return Effective(self._pattern(terms), terms.v, exact=True)

    def step(
        self, x: Float[Tensor, "batch d_model"], state: State, moment: Moment
    ) -> tuple[Float[Tensor, "batch d_model"], State]:
        """One position read by the recurrence; S [batch head state d_v] is the last tensor of the state."""
        *kept, S = state
        terms, kept = self._terms_at(x, tuple(kept), moment)
        z, S = ssd.step(S, *terms[:4])
        skip = self._skip()
        z = z if skip is None else z + skip[:, None] * terms.v
        return self.o(self._read(z, terms.gate)), (*kept, S)

    def _shown(self, terms: Terms) -> Terms:
        points = (self.hook_q, self.hook_k, self.hook_v)
        q, k, v = (point(each.transpose(1, 2)).transpose(1, 2) for point, each in zip(points, terms, strict=False))
        return terms._replace(q=q, k=k, v=v)

    def _pattern(self, terms: Terms) -> Pattern:
        matrix, skip = ssd.matrix(terms.q, terms.k, terms.log_decay), self._skip()
        if skip is None:
            return matrix
        return matrix + torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device) * skip[:, None, None]

    def _mix(self, terms: Terms) -> Float[Tensor, "batch head pos d_head"]:
        if self.hook_pattern.watched:
            if self.hook_pattern.needs_path and torch.is_grad_enabled():
                return self.hook_pattern.show(self._pattern(terms))[0] @ terms.v
            with torch.no_grad():
                pattern, edited = self.hook_pattern.show(self._pattern(terms))
                if edited:
                    return pattern @ terms.v
        z, skip = ssd.ssd(*terms[:4]), self._skip()
        return z if skip is None else z + skip[:, None, None] * terms.v
