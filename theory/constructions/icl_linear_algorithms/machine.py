"""The transformer layer that the constructions are weights of.

Akyürek et al., "What learning algorithm is in-context learning?" (2023): for a column h of the stream,
z = h + W^F·heads and h′ = z + W₂GELU(W₁LN(z) + b₁) + b₂, where LN has no parameters. Attention is causal, without the
1/√d scale, and over one more key with logit 0 and value 0, so that a column can attend to nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

Activation = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Head:
    """One attention head; W_O is its block of W^F."""

    W_Q: Float[Tensor, "key_row row"]
    W_K: Float[Tensor, "key_row row"]
    W_V: Float[Tensor, "value_row row"]
    W_O: Float[Tensor, "row value_row"]


@dataclass(frozen=True)
class Layer:
    """The weights of one layer."""

    heads: tuple[Head, ...]
    W_1: Float[Tensor, "unit row"]
    b_1: Float[Tensor, " unit"]
    W_2: Float[Tensor, "row unit"]
    b_2: Float[Tensor, " row"]


def run(
    layers: tuple[Layer, ...], h: Float[Tensor, "*batch column row"], activation: Activation = F.gelu
) -> Float[Tensor, "*batch column row"]:
    """The stream after the layers. `activation` takes GELU's place in all of them."""
    for layer in layers:
        z = h + sum(attend(head, h) for head in layer.heads)
        hidden = activation(F.layer_norm(z, z.shape[-1:]) @ layer.W_1.T + layer.b_1)
        h = z + hidden @ layer.W_2.T + layer.b_2
    return h


def attend(head: Head, h: Float[Tensor, "*batch column row"]) -> Float[Tensor, "*batch column row"]:
    """What one head adds to every column."""
    scores = (h @ head.W_Q.T) @ (h @ head.W_K.T).mT  # [*batch query key]
    later = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
    scores = F.pad(scores.masked_fill(later, -torch.inf), (1, 0))  # the zero logit stands first
    return scores.softmax(-1)[..., 1:] @ (h @ head.W_V.T) @ head.W_O.T
