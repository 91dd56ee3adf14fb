"""What recurrent mixers share: one state a channel, read as attention channel by channel."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from microtome.lab.zoo.mixers._heads import head_width, row_entropy
from microtome.lab.zoo.parts import Context, Effective, Mixer, MixerPart, Shape
from microtome.lab.zoo.points import Point

Channels = Float[Tensor, "batch pos d_model"]

_NO_PATTERN = "a recurrence has no pattern; hook_effective_pattern has the one that it amounts to"


class RecurrentMixer(Mixer):
    """A mixer whose `hook_z` is Σ_j A_ij v_j in every channel, with an A of its own in each.

    The readings give the mean of |A| over a head's channels, heads being d_model/n_heads channels in a row: exact
    as `effective_attention` has it, channel by channel, and a summary as the readings do.

    Args:
        shape: the model's.
        width: channels of z; None gives d_model.
        bias: whether W_O has a bias.
    """

    absent: ClassVar[Mapping[str, str]] = {
        "hook_pattern": _NO_PATTERN,
        "hook_attn_scores": _NO_PATTERN,
        "hook_q": "a recurrence has no queries",
        "hook_k": "a recurrence has no keys",
    }

    def __init__(self, shape: Shape, *, width: int | None = None, bias: bool = True):
        super().__init__()
        width = shape.d_model if width is None else width
        self.n_heads, self.d_head = shape.n_heads, head_width(shape) * width // shape.d_model
        self.o = nn.Linear(width, shape.d_model, bias=bias)
        self.hook_v = Point("batch pos head d_head", "value")
        self.hook_z = Point("batch pos head d_head", "write")

    def forward(self, x: Channels, context: Context) -> Float[Tensor, "batch query d_model"]:
        z = self.hook_z(self._heads(self._states(x, context))).flatten(-2)
        if self.hook_effective_pattern.watched or self.hook_row_entropy.watched:
            with torch.no_grad():
                pattern = self._pattern(x, context)
            self.hook_effective_pattern.read(lambda: pattern)
            self.hook_row_entropy.read(lambda: row_entropy(pattern))
        return self.o(self._read(z, x))

    @abstractmethod
    def _states(self, x: Channels, context: Context) -> Channels:
        """z."""

    def _read(self, z: Channels, x: Channels) -> Channels:
        """What is done to z, position by position, before W_O."""
        return z

    @abstractmethod
    def effective_attention(self, x: Channels, context: Context) -> Effective:
        """A and the values of every channel: heads of width one."""

    def _pattern(self, x: Channels, context: Context) -> Float[Tensor, "batch head query key"]:
        matrix = self.effective_attention(x, context).matrix
        return matrix.abs().unflatten(1, (self.n_heads, self.d_head)).mean(2)

    b_O = property(lambda self: self.o.bias, doc="[d_model] or None")

    def _heads(self, x: Channels) -> Float[Tensor, "batch pos head d_head"]:
        return x.unflatten(-1, (self.n_heads, self.d_head))

    def _values(self, v: Channels) -> Channels:
        return self.hook_v(self._heads(v)).flatten(-2)


@dataclass(frozen=True)
class RecurrentPart(MixerPart):
    """Options of a mixer that reads from left to right."""

    causal_only: ClassVar[bool] = True
