"""Attention between hash codes: "EcoFormer: Energy-Saving Attention with Linear Complexity" (Liu et al. 2022, slug
`ecoformer`).

    x̃ = W_qk x / ‖W_qk x‖₂,   κ_s = exp(−‖x̃ − a_s‖²/(2σ²)) − μ_s,   h = sign(Aκ) ∈ {±1}^b
    z_i = [h_iᵀ (Σ_j h_j v_jᵀ) + c Σ_j v_j] / [h_iᵀ Σ_j h_j + c N],   c > b

Queries are keys: W_Q and W_K are one map. σ² is the mean squared distance of tokens and anchors in each example and
head; a causal model takes the mean over the tokens so far. Anchors, μ and A are buffers. They start at random, and
`learn_hashes` fits them to a first batch, once; the gradient passes through the signs where |Aκ| < 1.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from microtome.kernels.binary_hash import hash_codes, hashed_attention, hashed_pattern
from microtome.lab.zoo.mixers import _hashing
from microtome.lab.zoo.mixers._pattern import Heads, Pattern, PatternMixer
from microtome.lab.zoo.parts import Context, MixerPart, Shape
from microtome.lab.zoo.points import Point
from microtome.lab.zoo.streaming import Moment, State, Streaming
from microtome.lab.zoo.template import Template

Codes = Float[Tensor, "batch head pos bit"]


class HashedAttention(PatternMixer, Streaming):
    """Multi-head attention between hash codes of one layer; masked keys weigh nothing.

    `hook_q` carries W_qk x, `hook_code` the codes.
    """

    absent: ClassVar = PatternMixer.absent | {"hook_k": "queries are keys, and hook_q carries them"}

    def __init__(self, options: "Part", shape: Shape):
        super().__init__(shape)
        self.k = self.q
        del self.hook_k
        self.options, self.c = options, options.offset
        self.hook_code = Point("batch pos head bit", "hidden")
        anchors = F.normalize(torch.randn(shape.n_heads, options.anchors, self.d_head), dim=-1)
        self.register_buffer("anchors", anchors)
        # The kernel at the mean distance: about its mean, as long as no batch has shown it.
        self.register_buffer("mu", torch.full((shape.n_heads, options.anchors), math.exp(-0.5)))
        self.register_buffer("weights", torch.randn(shape.n_heads, options.bits, options.anchors))

    def tokens(self, q: Heads) -> Heads:
        """x̃."""
        return F.normalize(q, dim=-1)

    def projections(self, q: Heads, context: Context) -> Codes:
        """Aκ, whose signs are the codes."""
        return self.kernel_map(q, context) @ self.weights.mT

    def kernel_map(self, q: Heads, context: Context) -> Float[Tensor, "batch head pos anchor"]:
        """κ of every token."""
        squared = _hashing.squared_distances(self.tokens(q), self.anchors)
        sums, counts = squared.mean(-1), torch.ones_like(squared[..., 0])
        if context.mask is not None:
            sums, counts = sums * context.mask[:, None], counts * context.mask[:, None]
        if self.causal:
            sums, counts = sums.cumsum(-1), counts.cumsum(-1)
        else:
            sums, counts = sums.sum(-1, keepdim=True), counts.sum(-1, keepdim=True)
        # Before the first real token there is no width, and nothing reads that code.
        width = torch.where(counts > 0, sums / counts.clamp(min=1), 1.0)
        return self._centred(squared, width)

    def _centred(self, squared: Tensor, width: Tensor) -> Tensor:
        # All tokens on one anchor would make a width of zero.
        narrow = torch.finfo(width.dtype).eps
        return _hashing.kernel(squared, width.clamp(min=narrow)) - self.mu[:, None]

    def _heads(self, x: Tensor, context: Context) -> tuple[Heads, Heads, Heads]:
        split = (self.n_heads, self.d_head)
        q = self.hook_q(self.q(x).unflatten(-1, split)).transpose(1, 2)
        v = self.hook_v(self.v(x).unflatten(-1, split)).transpose(1, 2)
        return q, q, v

    def codes(self, q: Heads, context: Context) -> Codes:
        """h of every token, ±1."""
        h = hash_codes(self.kernel_map(q, context), self.weights)
        return self.hook_code(h.transpose(1, 2)).transpose(1, 2)

    def _pattern(self, q: Heads, k: Heads, context: Context) -> Pattern:
        return hashed_pattern(self.codes(q, context), self.c, **self._terms(context))

    def _fast(self, q: Heads, k: Heads, v: Heads, context: Context) -> Heads:
        return hashed_attention(self.codes(q, context), v, self.c, **self._terms(context))

    def _terms(self, context: Context) -> dict:
        visible = None if context.mask is None else context.mask.to(self.o.weight.dtype)
        return {"visible": visible, "causal": self.causal, "released_bias": self.options.released_bias}

    @torch.no_grad()
    def learn(self, x: Float[Tensor, "batch pos d_model"], generator: torch.Generator) -> list[_hashing.BitLoss]:
        """Fits anchors, μ and A to the mixer's input x, which has no padding; returns the loss bit by bit."""
        q = self.q(x).unflatten(-1, (self.n_heads, self.d_head)).transpose(1, 2)
        hashes, losses = _hashing.learn(self.tokens(q), self.options.bits, self.options.anchors, generator)
        for name, fitted in hashes._asdict().items():
            getattr(self, name).copy_(fitted)
        return losses

    def start(self, batch: int) -> State:
        """The sum of squared distances so far [batch head], Σ h [v, 1]ᵀ [batch head bit d_head+1], and Σ [v, 1]."""
        zeros = self.o.weight.new_zeros
        return (
            zeros(batch, self.n_heads),
            zeros(batch, self.n_heads, self.options.bits, self.d_head + 1),
            zeros(batch, self.n_heads, 1, self.d_head + 1),
        )

    def step(
        self, x: Float[Tensor, "batch d_model"], state: State, moment: Moment
    ) -> tuple[Float[Tensor, "batch d_model"], State]:
        distances, hashed, total = state
        q, v = (linear(x).unflatten(-1, (self.n_heads, 1, self.d_head)) for linear in (self.q, self.v))
        squared = _hashing.squared_distances(self.tokens(q), self.anchors)
        distances = distances + squared.mean((2, 3))
        h = hash_codes(self._centred(squared, distances[..., None] / (moment.t + 1)), self.weights)
        with_one = F.pad(v, (0, 1), value=1.0)
        hashed, total = hashed + h.mT @ with_one, total + with_one
        sums = h @ hashed + self.c * total
        weighted = sums[..., :-1]
        if self.options.released_bias:
            weighted = weighted + self.c * (v - total[..., :-1])
        return self.o((weighted / sums[..., -1:]).flatten(1)), (distances, hashed, total)


def learn_hashes(model: nn.Module, *inputs: Tensor, seed: int = 0) -> list[list[_hashing.BitLoss]]:
    """Fits the hash functions of every hashed layer of a model, from the first on, while it reads a first batch.

    Each layer is fitted to what the fitted layers below it pass on. Returns each layer's loss, bit by bit.

    Raises:
        ValueError: if the model has no hashed layer.
    """
    hashed = [module for module in model.modules() if isinstance(module, HashedAttention)]
    if not hashed:
        raise ValueError("the model has no layer of mixer 'ecoformer' whose hashes could be learned.")
    generator, losses = torch.Generator().manual_seed(seed), []
    handles = [
        mixer.register_forward_pre_hook(lambda mixer, given: losses.append(mixer.learn(given[0], generator)))
        for mixer in hashed
    ]
    try:
        with torch.no_grad():
            model(*inputs)
    finally:
        for handle in handles:
            handle.remove()
    return losses


@dataclass(frozen=True)
class Part(MixerPart):
    """Options of attention between hash codes.

    Attributes:
        bits: b, of a code.
        anchors: m, of the kernel map.
        c: what is added to every inner product, more than b; None gives b + 1.
        released_bias: add c·v_i in the numerator where the formula has c Σ_j v_j, as the published code does; a row's
            weights then do not sum to one.
    """

    template: ClassVar = Template(
        matrix="HHᵀ + c, H = sign(κ(X)Aᵀ)",
        depends="input",
        structure="rank ≤ b + 1",
        cost="n·b·d additions",
        normalised="row sum",
        low_rank="b + 1",
    )

    bits: int = 16
    anchors: int = 25
    c: float | None = None
    released_bias: bool = False

    @property
    def offset(self) -> float:
        return self.bits + 1.0 if self.c is None else self.c

    def build(self, shape: Shape) -> HashedAttention:
        if self.bits < 1 or self.anchors < 1 or not self.offset > self.bits:
            raise ValueError(
                f"codes need at least 1 bit and 1 anchor, and c above the number of bits; got bits={self.bits}, "
                f"anchors={self.anchors}, c={self.offset:g}."
            )
        return HashedAttention(self, shape)
