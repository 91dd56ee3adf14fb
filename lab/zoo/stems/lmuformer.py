"""Sequences of frames in, one class out: the convolutional embedding and the head of LMUFormer (Liu et al. 2024, slug
`lmuformer`).

Four times [convolution of width 3 → ReLU → BN], then the relative position x + convolution(x). No frames are merged;
each convolution looks one frame ahead, five in all. The spiking embedding has [convolution → BN → LIF] three times, a
fourth convolution, and x + convolution(LIF(BN(x))). The class logits are a linear map of the stream, averaged over
positions.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from microtome.lab.zoo.config import Spec
from microtome.lab.zoo.norms._batch import BatchNorm
from microtome.lab.zoo.spiking import LIF
from microtome.lab.zoo.transformer import SequenceModel

STAGES = 4
LOOKAHEAD = STAGES + 1
"""How many frames ahead an embedding looks."""

Channels = Float[Tensor, "batch pos channel"]


class Convolution(nn.Conv1d):
    """Of width 3 over positions, channels last, without bias; the input counts as zero outside."""

    def __init__(self, channels_in: int, channels_out: int):
        super().__init__(channels_in, channels_out, 3, padding=1, bias=False)

    def forward(self, x: Float[Tensor, "batch pos c_in"]) -> Float[Tensor, "batch pos c_out"]:
        return super().forward(x.mT).mT

    def middle(self, window: Float[Tensor, "batch 3 c_in"]) -> Float[Tensor, "batch c_out"]:
        """The output at the middle of three positions."""
        return torch.einsum("bkc,ock->bo", window, self.weight)


class ConvEmbedding(nn.Module):
    """Frames [batch pos dim] to the stream [batch pos d_model]; `spiking` as the module's docstring says."""

    def __init__(self, dim: int, d_model: int, spiking: bool):
        super().__init__()
        self.spiking = spiking
        widths = [dim] + [d_model] * STAGES
        self.convolutions = nn.ModuleList(Convolution(a, b) for a, b in pairwise(widths))
        self.norms = nn.ModuleList(BatchNorm(d_model) for _ in range(STAGES))
        self.lifs = nn.ModuleList(LIF() for _ in range(STAGES if spiking else 0))
        self.position = Convolution(d_model, d_model)

    def after(self, stage: int, fire: Callable[[Tensor, int], Tensor]) -> Callable[[Tensor], Tensor]:
        """What follows the convolution of a stage; `fire(x, i)` runs the i-th layer of neurons."""
        norm = self.norms[stage]
        if not self.spiking:
            return lambda x: norm(torch.relu(x))
        return lambda x: x if stage == STAGES - 1 else fire(norm(x), stage)

    def positioned(self, x: Channels, fire: Callable[[Tensor, int], Tensor]) -> Channels:
        """What the position's convolution reads of the embedded x."""
        return fire(self.norms[-1](x), STAGES - 1) if self.spiking else x

    def forward(self, frames: Channels) -> Float[Tensor, "batch pos d_model"]:
        def fire(x: Tensor, i: int) -> Tensor:
            return self.lifs[i](x)

        x = frames
        for stage, convolution in enumerate(self.convolutions):
            x = self.after(stage, fire)(convolution(x))
        return x + self.position(self.positioned(x, fire))


class FrameModel(SequenceModel):
    """A classifier of sequences of frames; `n_out` classes."""

    def __init__(self, spec: Spec):
        super().__init__(spec)
        stem, d_model = spec.stem, spec.shape.d_model
        self.dim, self.n_out = stem.dim, stem.n_classes
        self.embed = ConvEmbedding(stem.dim, d_model, stem.spiking)
        self.head_norm, self.head_lif = (BatchNorm(d_model), LIF()) if stem.spiking else (nn.Identity(), nn.Identity())
        self.unembed = nn.Linear(d_model, stem.n_classes)
        self._finish()

    def forward(
        self, frames: Float[Tensor, "batch pos dim"], *, stop_at_layer: int | None = None
    ) -> Float[Tensor, "batch n_classes"] | Float[Tensor, "batch pos d_model"]:
        """Logits [batch n_classes]; with `stop_at_layer`, the stream [batch pos d_model] before that layer.

        Raises:
            ValueError: for frames of another width, none at all, or values that are not finite.
        """
        x = self._stream(frames, stop_at_layer)
        return x if stop_at_layer is not None else self.unembed(x).mean(1)

    def prefix_logits(self, frames: Float[Tensor, "batch pos dim"]) -> Float[Tensor, "batch pos n_classes"]:
        """Logits after each position, of the mean of the features up to it; the last are those of `forward`."""
        x = self._stream(frames, None)
        return self.unembed(x.cumsum(1) / torch.arange(1, x.shape[1] + 1, device=x.device)[:, None])

    def _stream(self, frames: Tensor, stop_at_layer: int | None) -> Float[Tensor, "batch pos d_model"]:
        if frames.ndim != 3 or frames.shape[-1] != self.dim or frames.numel() == 0:
            raise ValueError(f"frames must be [batch pos {self.dim}], at least one, not {list(frames.shape)}.")
        if frames.device.type == "cpu" and not torch.isfinite(frames).all():
            raise ValueError("the frames hold an infinity or a NaN.")
        x = self._through(self.embed(frames), stop_at_layer=stop_at_layer)
        return x if stop_at_layer is not None else self.head_lif(self.head_norm(x))


@dataclass(frozen=True)
class Part:
    """Options of the stem.

    Attributes:
        dim: width of a frame.
        n_classes: classes.
        spiking: the embedding and the head of the spiking model.
    """

    dim: int
    n_classes: int
    spiking: bool = False

    def build(self, spec: Spec) -> FrameModel:
        if self.dim < 1 or self.n_classes < 1:
            raise ValueError(f"dim and n_classes must be at least 1, not {self.dim} and {self.n_classes}.")
        return FrameModel(spec)
