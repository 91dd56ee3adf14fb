"""What mixers share whose patterns are no softmax."""

import torch
from jaxtyping import Float
from torch import Tensor

from microtome.lab.zoo.parts import Shape


def head_width(shape: Shape) -> int:
    """d_model / n_heads. Raises ValueError if it is not whole."""
    if shape.d_model % shape.n_heads:
        raise ValueError(f"d_model={shape.d_model} is not divisible by n_heads={shape.n_heads}.")
    return shape.d_model // shape.n_heads


def row_entropy(pattern: Float[Tensor, "batch head query key"]) -> Float[Tensor, "batch head query"]:
    """The entropy in nats of each row, normalised to sum to one; 0 for a row of zeros."""
    total = pattern.sum(-1, keepdim=True)
    return torch.special.entr(pattern / total.clamp(min=torch.finfo(pattern.dtype).tiny)).sum(-1)
