"""The images of SLAB's claim: ten templates in noise, each image at a contrast of its own."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from microtome.lab.train import Batch
from microtome.theory.claims._fitting import fresh

SIDE, TEMPLATE, CLASSES = 16, 8, 10


@dataclass(frozen=True)
class Templates:
    """An objective: ten 8 × 8 templates of standard normal pixels, each pixel drawn two wide and two high, plus normal
    noise, and the whole times a contrast e^{spread·ε}.

    Attributes:
        seed: decides the templates.
        size: images a step.
        noise: standard deviation of the noise at contrast one.
        spread: standard deviation of the log contrast.
    """

    seed: int
    size: int = 16
    noise: float = 1.0
    spread: float = 0.7

    def sample(
        self, n: int, generator: torch.Generator
    ) -> tuple[Float[Tensor, "image 1 side side"], Int[Tensor, " image"]]:
        """Images and their classes."""
        small = torch.randn(CLASSES, TEMPLATE, TEMPLATE, generator=fresh(self.seed))
        templates = small.repeat_interleave(SIDE // TEMPLATE, 1).repeat_interleave(SIDE // TEMPLATE, 2)
        labels = torch.randint(CLASSES, (n,), generator=generator)
        contrast = (self.spread * torch.randn(n, generator=generator)).exp()
        noise = torch.randn(n, SIDE, SIDE, generator=generator)
        images = contrast[:, None, None] * (templates[labels] + self.noise * noise)
        return images[:, None], labels

    def batch(self, step: int, generator: torch.Generator) -> Batch:
        images, labels = self.sample(self.size, generator)
        return Batch((images,), labels)

    def loss(self, model: nn.Module, batch: Batch) -> Float[Tensor, ""]:
        return F.cross_entropy(model(*batch.inputs), batch.targets)

    def describe(self) -> dict[str, Any]:
        return {"name": "templates", "seed": self.seed, "batch": self.size, "noise": self.noise, "spread": self.spread}
