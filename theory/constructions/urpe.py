"""Relative-position transformers with and without URPE's Toeplitz factor, as plain functions on float64 tensors.

Luo et al., "Your Transformer May Not be as Powerful as You Expect" (2022): a head attends with
A = softmax(QKᵀ/√d_h + B), B_{ij} = b_{i−j}, and URPE with A_U = A ⊙ C, C_{ij} = c_{j−i}. Written for the statements
about those two matrices; the trainable mechanism is a component of the zoo.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Layer:
    """One pre-LayerNorm layer: attention over all positions, then a GELU feed-forward network, both residual.

    Leading axes, if any, hold independent layers for independent sequences.
    """

    W_Q: Float[Tensor, "*batch head d_model d_head"]
    W_K: Float[Tensor, "*batch head d_model d_head"]
    W_V: Float[Tensor, "*batch head d_model d_head"]
    W_O: Float[Tensor, "*batch head d_head d_model"]
    W_in: Float[Tensor, "*batch d_model d_mlp"]
    W_out: Float[Tensor, "*batch d_mlp d_model"]


def random_layer(d_model: int, n_heads: int, batch: tuple[int, ...], generator: torch.Generator) -> Layer:
    """A layer with all weights N(0, 1/fan-in) and a feed-forward network four times as wide as the model."""
    d_head = d_model // n_heads

    def normal(*shape: int) -> Tensor:
        return torch.randn((*batch, *shape), generator=generator, dtype=torch.float64) / math.sqrt(shape[-2])

    projections = (normal(n_heads, d_model, d_head) for _ in range(3))
    return Layer(
        *projections,
        normal(n_heads, d_head, d_model),
        normal(d_model, 4 * d_model),
        normal(4 * d_model, d_model),
    )


def toeplitz(by_offset: Float[Tensor, "*batch offset"]) -> Float[Tensor, "*batch query key"]:
    """The matrices with entry [i, j] = by_offset[j − i + n − 1], for 2n − 1 offsets.

    Raises ValueError for an even number of offsets.
    """
    offsets = by_offset.shape[-1]
    if offsets % 2 == 0:
        raise ValueError(f"a square Toeplitz matrix has an odd number 2n-1 of offsets; got {offsets}")
    n = (offsets + 1) // 2
    position = torch.arange(n)
    return by_offset[..., position[None, :] - position[:, None] + n - 1]


def pattern(
    scores: Float[Tensor, "*batch query key"],
    factor: Float[Tensor, "*#batch query key"] | None = None,
    causal: bool = False,
) -> Float[Tensor, "*batch query key"]:
    """softmax(scores) ⊙ factor; with `causal`, scores of later keys are masked before the softmax."""
    if causal:
        later = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
        scores = scores.masked_fill(later, -torch.inf)
    probabilities = scores.softmax(-1)
    return probabilities if factor is None else probabilities * factor


def transformer(
    x: Float[Tensor, "*batch pos d_model"],
    layers: tuple[Layer, ...],
    bias: Float[Tensor, "*#batch head query key"],
    factor: Float[Tensor, "*#batch head query key"] | None = None,
    causal: bool = False,
) -> Float[Tensor, "*batch pos d_model"]:
    """The residual stream after the layers, which share `bias` (B) and `factor` (C; None for plain RPE attention)."""
    for layer in layers:
        x = x + attention(_layer_norm(x), layer, bias, factor, causal)
        x = x + F.gelu(_layer_norm(x) @ layer.W_in) @ layer.W_out
    return x


def attention(
    x: Float[Tensor, "*batch pos d_model"],
    layer: Layer,
    bias: Float[Tensor, "*#batch head query key"],
    factor: Float[Tensor, "*#batch head query key"] | None = None,
    causal: bool = False,
) -> Float[Tensor, "*batch pos d_model"]:
    """Multi-head attention Σ_h A_h x W_V W_O with A_h = softmax(QKᵀ/√d_head + B_h) ⊙ C_h."""
    q, k, v = (x.unsqueeze(-3) @ weight for weight in (layer.W_Q, layer.W_K, layer.W_V))  # [*batch head pos d_head]
    scores = q @ k.mT / math.sqrt(q.shape[-1]) + bias
    return (pattern(scores, factor, causal) @ v @ layer.W_O).sum(-3)


def row_spread(rows: Float[Tensor, "*batch pos d_model"]) -> Float[Tensor, "*batch"]:
    """How far the rows of a sequence lie apart: the largest max − min over positions of any coordinate."""
    return (rows.amax(-2) - rows.amin(-2)).amax(-1)


def _layer_norm(x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:])
