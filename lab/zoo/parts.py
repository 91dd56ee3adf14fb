"""The slots of the composable transformer, and what a part must offer to sit in one.

A part is a frozen dataclass of options with a `build` method; the module that it builds keeps one of the interfaces
below. A part's file lies in its slot's folder, bears the part's name, and calls the dataclass `Part`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from microtome.lab.zoo.points import Reading
from microtome.lab.zoo.template import Template

Placement = Literal["pre", "post", "stream", "none"]


@dataclass(frozen=True)
class Shape:
    """What all parts of one model share: widths, counts, the longest input `n_ctx` in positions, and whether queries
    and keys are rotated by the position part (`rotary`)."""

    d_model: int
    n_layers: int
    n_heads: int
    n_ctx: int
    causal: bool
    rotary: bool = False


class Position(nn.Module):
    """How a model knows where a token stands. Each of the three ways defaults to nothing."""

    longest: int | None = None
    """The longest input that the part can place, or None for any."""

    def embedding(self, n: int) -> Float[Tensor, "pos d_model"] | None:
        """What is added to the stream at the `n` positions of an input."""
        return None

    def rotate(
        self, x: Float[Tensor, "batch pos head d_head"], positions: Int[Tensor, " pos"]
    ) -> Float[Tensor, "batch pos head d_head"]:
        """Queries or keys at the given positions, rotated."""
        return x

    def bias(self, queries: Int[Tensor, " query"], n_keys: int) -> Float[Tensor, "head query key"] | None:
        """What is added to the scores of queries at the given positions against keys 0 … n_keys − 1."""
        return None


@dataclass(frozen=True)
class Context:
    """What a block is told about the input beside the stream.

    Attributes:
        position: the model's position part.
        n: number of positions of the stream.
        mask: [batch, pos], True at real tokens; None when all are.
        bias: [head, query, key], the position part's additive scores, made once for all layers; None without.
        rows: positions whose outputs are wanted, or None for all; `bias` then has these rows only.
        whole: the context that `rows` was narrowed from.
        attend: what softmax attention calls in the place of its kernel, with q, k and v [batch head pos d_head] and the
            scale of the scores, where the stream is not laid out as a batch; None otherwise.
        shared: the mixer's module that serves all layers (URPE's table), if it has one.
    """

    position: Position
    n: int
    mask: Bool[Tensor, "batch pos"] | None = None
    bias: Float[Tensor, "head query key"] | None = None
    rows: slice | None = None
    shared: nn.Module | None = None
    whole: "Context | None" = None
    attend: Callable[[Tensor, Tensor, Tensor, float], Tensor] | None = None

    def narrowed(self, rows: slice) -> "Context":
        """The same input with only some rows wanted."""
        bias = None if self.bias is None else self.bias[:, rows]
        return replace(self, rows=rows, bias=bias, whole=self)

    def real(self, like: Float[Tensor, "batch ..."]) -> Bool[Tensor, "batch pos"]:
        """The mask, or True everywhere where there is none, for a batch like this tensor's and on its device."""
        if self.mask is not None:
            return self.mask
        return torch.ones(like.shape[0], self.n, dtype=torch.bool, device=like.device)

    def queries(self, device: torch.device) -> Int[Tensor, " query"]:
        """The positions at which queries stand."""
        every = torch.arange(self.n, device=device)
        return every if self.rows is None else every[self.rows]


class Effective(NamedTuple):
    """A mixer written as attention: what `hook_z` carries is `matrix @ values`.

    `exact` says whether that equation holds to rounding or the matrix is a declared heuristic. A recurrent mixer has a
    matrix for every channel: as many heads of width one.
    """

    matrix: Float[Tensor, "batch head query key"]
    values: Float[Tensor, "batch head key d_head"]
    exact: bool


class Mixer(nn.Module, ABC):
    """Mixes information across positions. Built once a layer; reads the normalised stream, returns what it writes.

    Every mixer offers two readings, made only when a hook asks: the effective attention matrix, and the entropy of
    each of its rows in nats.
    """

    slot: ClassVar[str] = "mixer"
    """The block's slot: `attn` for attention with a softmax pattern, as TransformerLens users expect, else `mixer`."""
    longest: int | None = None
    """The longest input that the mixer can take, or None for any."""
    skips_rows: ClassVar[bool] = False
    """Whether `Context.rows` is honoured: then the output has only those rows."""
    absent: ClassVar[Mapping[str, str]] = {}
    """Points of TransformerLens' attention that this mixer lacks, with the reason."""

    def __init__(self):
        super().__init__()
        self.hook_effective_pattern = Reading("batch head query key", "pattern")
        self.hook_row_entropy = Reading("batch head query", "measure")

    @abstractmethod
    def forward(self, x: Float[Tensor, "batch pos d_model"], context: Context) -> Float[Tensor, "batch query d_model"]:
        """What the mixer writes to the stream."""

    @abstractmethod
    def effective_attention(self, x: Float[Tensor, "batch pos d_model"], context: Context) -> Effective:
        """The matrix and values whose product the mixer computes on this input; holds an n × n matrix."""


class MixerPart(ABC):
    """Options of a mixer."""

    takes: ClassVar[frozenset[str]] = frozenset({"embedding"})
    """The ways of `PositionPart.provides` that the mixer can use."""
    template: ClassVar[Template]
    """How the mixer fills in the one template of token mixing."""
    causal_only: ClassVar[bool] = False
    """Whether the mixer can only look backwards."""
    bidirectional_only: ClassVar[bool] = False
    """Whether the mixer cannot be kept from the future."""

    def shared(self, shape: Shape) -> nn.Module | None:
        """A module that serves all layers of one model, or None."""
        return None

    @abstractmethod
    def build(self, shape: Shape) -> Mixer: ...


class PositionPart(ABC):
    """Options of a position.

    `provides` lists the ways that it uses, out of `embedding` (a vector added to the stream), `rotation` (of queries
    and keys) and `bias` (added to the attention scores).
    """

    provides: ClassVar[frozenset[str]] = frozenset()

    @abstractmethod
    def build(self, shape: Shape) -> Position: ...


class NormPart(ABC):
    """Options of a norm. `placement` says where a block applies it:

    - `pre`: x + F(norm(x)), and once more at the end of the stream;
    - `post`: norm(x + F(x));
    - `stream`: x ← norm(x), then x + F(x): the stream itself is normalised before each sub-layer;
    - `none`: nowhere.
    """

    placement: Placement

    final: bool
    """Whether a norm stands at the end of the stream."""

    @abstractmethod
    def build(self, d_model: int) -> nn.Module: ...

    def finish(self, model: nn.Module) -> None:  # noqa: B027 — most norms have nothing to do here
        """What the norm does to the whole model once its parameters have started: nothing, unless it reparametrises."""


class FeedForwardPart(ABC):
    pointwise: ClassVar[bool] = True
    """Whether each position is fed by itself."""

    @abstractmethod
    def build(self, shape: Shape) -> nn.Module: ...


class DepthPart:
    """Options of a depth policy: which mixer stands in which layer, what the blocks share, how the stream passes."""

    sequential: ClassVar[bool] = True
    """Whether the stream passes the blocks one after the other, so that each can be run by itself."""

    def mixers(self, mixer: MixerPart, n_layers: int) -> list[MixerPart]:
        """The mixer of each layer; the model's own, unless the policy says otherwise."""
        return [mixer] * n_layers

    def blocks(self, make_block: Callable[[MixerPart], nn.Module], mixers: Sequence[MixerPart]) -> list[nn.Module]:
        """The blocks in the order in which the stream passes them; `make_block(mixer)` builds a fresh one."""
        return [make_block(mixer) for mixer in mixers]

    def through(
        self, blocks: Iterable[nn.Module], x: Float[Tensor, "batch pos d_model"], context: Context
    ) -> Float[Tensor, "batch query d_model"]:
        """The stream after these blocks, one after the other."""
        for block in blocks:
            x = block(x, context)
        return x
