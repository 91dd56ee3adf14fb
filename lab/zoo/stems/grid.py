"""Images in: square patches become positions (Dosovitskiy et al. 2021, ViT), class logits or features out."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from microtome.lab.zoo.config import Spec
from microtome.lab.zoo.transformer import SequenceModel


class GridModel(SequenceModel):
    """A vision transformer. Position 0 is the class token when `pool` is "cls"; patches follow row by row."""

    def __init__(self, spec: Spec):
        super().__init__(spec)
        stem, d_model = spec.stem, spec.shape.d_model
        self.n_out = stem.n_classes
        self.embed = nn.Conv2d(stem.channels, d_model, stem.patch, stride=stem.patch)
        if stem.pool == "cls" or stem.idle_cls:
            self.cls = nn.Parameter(torch.randn(d_model) * 0.02)
        self.unembed = nn.Linear(d_model, stem.n_classes) if stem.n_classes else nn.Identity()
        self._finish()

    def forward(
        self, images: Float[Tensor, "batch channel height width"], *, stop_at_layer: int | None = None
    ) -> Float[Tensor, "batch out"] | Float[Tensor, "batch pos d_model"]:
        """Logits [batch n_classes], features [batch d_model] when n_classes is 0, or the stream before `stop_at_layer`.

        Raises:
            ValueError: for images of another size than the stem's.
        """
        stem = self.spec.stem
        wanted = [stem.channels, stem.image_size, stem.image_size]
        if images.ndim != 4 or list(images.shape[1:]) != wanted or images.shape[0] == 0:
            raise ValueError(f"images must be [batch, {', '.join(map(str, wanted))}], not {list(images.shape)}.")
        x = self.embed(images).flatten(2).transpose(1, 2)
        if stem.pool == "cls":
            x = torch.cat((self.cls.expand(len(x), 1, -1), x), dim=1)
        x = self._through(x, read=slice(0, 1) if stem.pool == "cls" else None, stop_at_layer=stop_at_layer)
        return x if stop_at_layer is not None else self.unembed(x.mean(1))


@dataclass(frozen=True)
class Part:
    """Square images of `image_size` pixels cut into `patch`-sized squares.

    `pool`: read the class token, or the mean over patches. `n_classes` 0 gives features. `idle_cls` keeps a class token
    that no input gets beside the mean, as the published SLAB models do, so that parameters can be counted alike.
    """

    image_size: int = 224
    patch: int = 16
    channels: int = 3
    n_classes: int = 1000
    pool: Literal["cls", "mean"] = "cls"
    idle_cls: bool = False

    @property
    def n_positions(self) -> int:
        return (self.image_size // self.patch) ** 2 + (self.pool == "cls")

    def build(self, spec: Spec) -> GridModel:
        if self.image_size % self.patch:
            raise ValueError(f"image_size={self.image_size} is not divisible by patch={self.patch}.")
        return GridModel(spec)
