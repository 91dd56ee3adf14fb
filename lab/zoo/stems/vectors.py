"""Sequences of vectors in, a vector out at every place: a linear map to the stream and one back.

Every token is a state x_i of a dynamical system, and the model says the next one (Guo et al. 2024,
`icl_representations`, section 3.2).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from microtome.lab.zoo.config import Spec
from microtome.lab.zoo.transformer import SequenceModel


class VectorModel(SequenceModel):
    """A learner of sequences in R^dim."""

    def __init__(self, spec: Spec):
        super().__init__(spec)
        self.dim = self.n_out = spec.stem.dim
        self.embed = nn.Linear(self.dim, spec.shape.d_model)
        self.unembed = nn.Linear(spec.shape.d_model, self.dim)
        self._finish()

    def forward(
        self, xs: Float[Tensor, "batch points dim"], *, stop_at_layer: int | None = None
    ) -> Float[Tensor, "batch points dim"] | Float[Tensor, "batch points d_model"]:
        """A vector at every place, [batch points dim]; with `stop_at_layer` the stream before that layer.

        Raises:
            ValueError: for another shape, no vectors, more of them than n_ctx, or ones that are not finite.
        """
        if xs.ndim != 3 or xs.shape[-1] != self.dim or xs.numel() == 0:
            raise ValueError(f"vectors must be [batch points {self.dim}], at least one, not {list(xs.shape)}.")
        if xs.device.type == "cpu" and not torch.isfinite(xs).all():
            raise ValueError("the vectors hold an infinity or a NaN.")
        x = self._through(self.embed(xs), stop_at_layer=stop_at_layer)
        return x if stop_at_layer is not None else self.unembed(x)


@dataclass(frozen=True)
class Part:
    """`dim`: width of a vector."""

    dim: int

    def build(self, spec: Spec) -> VectorModel:
        if self.dim < 1:
            raise ValueError(f"dim must be at least 1, not {self.dim}.")
        return VectorModel(spec)
