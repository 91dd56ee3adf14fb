"""What mixers share that have heads: their width, their weights head by head, and the entropy of plain patterns."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

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


def softmax_or_zero(scores: Float[Tensor, "*axes key"]) -> Float[Tensor, "*axes key"]:
    """Softmax over the last axis; a row of −∞ gives zeros, with a gradient of zero."""
    empty = (scores == -torch.inf).all(-1, keepdim=True)
    return scores.masked_fill(empty, 0.0).softmax(-1).masked_fill(empty, 0.0)


class HeadWeights:
    """TransformerLens' weights, head by head, of a mixer whose linear maps are `q`, `k`, `v` and `o`."""

    def _projection(self, which: int) -> tuple[Tensor, Tensor | None]:
        """Weight and bias of the map to queries (0), keys (1) or values (2), all heads together."""
        linear: nn.Linear = (self.q, self.k, self.v)[which]
        return linear.weight, linear.bias

    def _per_head(self, which: int) -> tuple[Tensor, Tensor | None]:
        """Weight [head d_model d_head] and bias [head d_head]."""
        weight, bias = self._projection(which)
        heads = (self.n_heads, -1)
        return weight.unflatten(0, heads).transpose(1, 2), None if bias is None else bias.unflatten(0, heads)

    W_Q = property(lambda self: self._per_head(0)[0], doc="[head d_model d_head]")
    W_K = property(lambda self: self._per_head(1)[0], doc="[head d_model d_head]")
    W_V = property(lambda self: self._per_head(2)[0], doc="[head d_model d_head]")
    b_Q = property(lambda self: self._per_head(0)[1], doc="[head d_head] or None")
    b_K = property(lambda self: self._per_head(1)[1], doc="[head d_head] or None")
    b_V = property(lambda self: self._per_head(2)[1], doc="[head d_head] or None")
    b_O = property(lambda self: self.o.bias, doc="[d_model] or None")

    @property
    def W_O(self) -> Float[Tensor, "head d_head d_model"]:
        return self.o.weight.T.unflatten(0, (self.n_heads, -1))
