"""Images as sequences of grey levels, row by row (Tay et al. 2020, `long_range_arena`, there of CIFAR-10).

The handwritten digits that scikit-learn ships stand in: 1,797 images of 8 × 8 pixels in ten classes (Alpaydin and
Kaynak 1998).
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from microtome.lab.tasks.long_range.protocol import (
    LabelledSequences,
    SequenceClassification,
    check_request,
    integers,
    whole,
)

GREYS, INK = 256, 16
"""Symbols, and the darkest level of the digits as they are shipped."""
TEST_SHARE = 0.2


@dataclass(frozen=True)
class Image(SequenceClassification):
    """A handwritten digit, one of 256 grey levels a token. Images are drawn with replacement.

    Attributes:
        size: side in pixels, at least 8; beyond 8 the image is enlarged bilinearly, to 1,024 tokens at 32.
        split: "train", or "test" for the fifth kept apart, with the same share of every class.
    """

    size: int = 8
    split: Literal["train", "test"] = "train"

    def __post_init__(self):
        if self.size < 8:
            raise ValueError(f"size must be at least 8, the digits' own, not {self.size}.")
        if self.split not in ("train", "test"):
            raise ValueError(f"split is 'train' or 'test', not {self.split!r}.")

    @property
    def length(self) -> int:
        return self.size**2

    @property
    def n_classes(self) -> int:
        return 10

    @property
    def d_vocab(self) -> int:
        return GREYS

    def sample(self, batch: int, generator: torch.Generator) -> LabelledSequences:
        """See `SequenceClassification.sample`."""
        check_request(batch, generator)
        images, labels = _digits(self.split)
        chosen = integers(0, len(images) - 1, (batch,), generator).cpu()
        grown = F.interpolate(images[chosen, None], (self.size, self.size), mode="bilinear", align_corners=False)
        tokens = (grown * ((GREYS - 1) / INK)).round().long().flatten(1)
        return whole(tokens.to(generator.device), labels[chosen].to(generator.device))

    def held_out(self) -> "Image":
        return Image(self.size, "test")


@lru_cache(maxsize=2)
def _digits(split: str) -> tuple[Float[Tensor, "image row column"], Int[Tensor, " image"]]:
    """Images and labels of a split. (Imported late: scikit-learn takes a second.)"""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    parts = train_test_split(digits.images, digits.target, test_size=TEST_SHARE, stratify=digits.target, random_state=0)
    images, labels = parts[::2] if split == "train" else parts[1::2]
    return torch.from_numpy(images).float(), torch.from_numpy(labels).long()
