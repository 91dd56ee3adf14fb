"""In-context regression: prompts of (x, y) pairs in, a prediction at each x out.

The interleaving of Akyürek et al. 2023: tokens x̃ = [0, x] and ỹ = [y, 0…0], both d + 1 wide, in the order
x̃₁ ỹ₁ x̃₂ ỹ₂ …; a linear map to the stream; ŷᵢ is read at x̃ᵢ, so that with a causal mask it depends on pairs before i
and on xᵢ only. In Garg et al. 2022 and the papers on its code tokens are d wide, x̃ = x and ỹ = [y, 0…0] (`padded`).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from microtome.lab.bayes.protocol import Prediction
from microtome.lab.zoo.config import Spec
from microtome.lab.zoo.transformer import SequenceModel

X_POSITIONS = slice(0, None, 2)


class RegressionModel(SequenceModel):
    """An in-context learner of real functions on R^dim; itself a predictor."""

    name = "transformer"
    n_out = 1

    def __init__(self, spec: Spec):
        super().__init__(spec)
        self.dim = spec.stem.dim
        self.width = self.dim + (not spec.stem.padded)
        self.embed = nn.Linear(self.width, spec.shape.d_model)
        self.unembed = nn.Linear(spec.shape.d_model, 1)
        self._finish()

    def forward(
        self,
        xs: Float[Tensor, "batch points dim"],
        ys: Float[Tensor, "batch points"],
        *,
        stop_at_layer: int | None = None,
    ) -> Float[Tensor, "batch points"] | Float[Tensor, "batch pos d_model"]:
        """Predictions [batch points]; with `stop_at_layer`, the stream [batch pos d_model], pos = 2·points, before it.

        Raises:
            ValueError: for shapes that do not fit, empty prompts, more points than n_ctx/2, or non-finite data.
        """
        x = self._through(self.embed(self.interleave(xs, ys)), read=X_POSITIONS, stop_at_layer=stop_at_layer)
        return x if stop_at_layer is not None else self.unembed(x).squeeze(-1)

    def interleave(
        self, xs: Float[Tensor, "batch points dim"], ys: Float[Tensor, "batch points"]
    ) -> Float[Tensor, "batch pos token"]:
        """The prompt as tokens [batch, 2·points, dim + 1], or [batch, 2·points, dim] if padded."""
        check_prompt(xs, ys, self.dim)
        tokens = xs.new_zeros(*ys.shape, 2, self.width)
        tokens[:, :, 0, self.width - self.dim :] = xs
        tokens[:, :, 1, 0] = ys
        return tokens.flatten(1, 2)

    @torch.no_grad()
    def predict(self, xs: Float[Tensor, "batch points dim"], ys: Float[Tensor, "batch points"]) -> Prediction:
        """As a predictor: the forward pass, with no variance."""
        return Prediction(self(xs, ys), None)


def check_prompt(xs: Tensor, ys: Tensor, dim: int, read: slice = slice(None)) -> None:
    """Raises ValueError unless this is a prompt of inputs this wide with finite numbers wherever it is read.

    Numbers are looked at on the CPU alone: elsewhere that would wait for the device.

    Args:
        xs: inputs.
        ys: labels.
        dim: width of x.
        read: the points whose labels are read.
    """
    if xs.ndim != 3 or xs.shape[-1] != dim or ys.shape != xs.shape[:2] or xs.numel() == 0:
        raise ValueError(
            f"a prompt is xs [batch, points, {dim}] and ys [batch, points] with at least one of each, "
            f"not {list(xs.shape)} and {list(ys.shape)}."
        )
    if xs.device.type == "cpu" and not (torch.isfinite(xs).all() and torch.isfinite(ys[:, read]).all()):
        raise ValueError("a prompt holds a value that is not finite; every x and y must be a finite number.")


@dataclass(frozen=True)
class Part:
    """Options of the stem.

    Attributes:
        dim: width of x.
        padded: labels share the first axis of x; otherwise they have one of their own.
    """

    dim: int
    padded: bool = False

    def build(self, spec: Spec) -> RegressionModel:
        if self.dim < 1:
            raise ValueError(f"dim must be at least 1, not {self.dim}.")
        if not spec.shape.causal:
            raise ValueError("a regression stem needs causal=True: otherwise a prediction would see its own answer.")
        return RegressionModel(spec)
