"""The data and the training of LMUFormer's claim: permuted digits, words in a longer recording, and mixup."""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from sklearn.datasets import load_digits
from torch import Tensor, nn

from microtome.lab.train import Batch, TrainConfig
from microtome.theory.claims._classification import Classification
from microtome.theory.claims._fitting import fit, fresh

TRAINED_ON = 1000
"""Digits that are trained on; the other 797 are the test."""
WORDS, BANDS, FRAMES, SPOKEN = 10, 8, 64, 28
EARLIEST, LATEST = 8, 24
"""Between which frames a word may begin, so that it ends between frames 36 and 52 of 64."""


@dataclass(frozen=True)
class Mixup(Classification):
    """Binary cross entropy of every class on mixtures λx + (1 − λ)x′, λ uniform (Zhang et al. 2018), as the paper's."""

    def batch(self, step: int, generator: torch.Generator) -> Batch:
        one, two = (super(Mixup, self).batch(step, generator) for _ in range(2))
        share = torch.rand(self.size, generator=generator)
        x, other = one.inputs[0], two.inputs[0]
        along = share.view(-1, *[1] * (x.ndim - 1))
        classes = int(self.labels.max()) + 1
        targets = (F.one_hot(b.targets, classes).float() for b in (one, two))
        return Batch((torch.lerp(other, x, along),), torch.lerp(*reversed(tuple(targets)), share[:, None]))

    def loss(self, model: nn.Module, batch: Batch) -> Float[Tensor, ""]:
        return F.binary_cross_entropy_with_logits(model(*batch.inputs), batch.targets)


def digits(seed: int, size: int = 64) -> tuple[Mixup, Mixup]:
    """Scikit-learn's 8 × 8 digits as sequences of 64 pixels in one random order, [example pos]; training and test."""
    generator = fresh(seed)
    images, labels = load_digits(return_X_y=True)
    pixels = torch.tensor(images, dtype=torch.float32) / 16
    order, shuffled = torch.randperm(64, generator=generator), torch.randperm(len(pixels), generator=generator)
    found = Mixup("permuted digits", pixels[shuffled][:, order], torch.tensor(labels)[shuffled], size)
    return cut(found, slice(TRAINED_ON)), cut(found, slice(TRAINED_ON, None))


def cut(data: Mixup, examples: slice) -> Mixup:
    return replace(data, inputs=data.inputs[examples], labels=data.labels[examples])


def spoken_words(examples: int, seed: int, generator: torch.Generator, size: int = 64) -> Mixup:
    """Recordings of 64 frames of 8 bands with one of ten words in each: a smooth trajectory of 28 frames that begins
    anywhere from frame 8 to 24, at a log-normal loudness, in noise of a standard deviation half of the word's.

    `seed` decides the words, the generator the recordings.
    """
    knots = torch.randn(WORDS, BANDS, 8, generator=fresh(seed))
    words = F.interpolate(knots, SPOKEN, mode="linear", align_corners=True)
    words = words / words.std((1, 2), keepdim=True)
    labels = torch.randint(WORDS, (examples,), generator=generator)
    starts = torch.randint(EARLIEST, LATEST + 1, (examples,), generator=generator)
    loudness = (0.3 * torch.randn(examples, generator=generator)).exp()
    frames = 0.5 * torch.randn(examples, FRAMES, BANDS, generator=generator)
    at = starts[:, None] + torch.arange(SPOKEN)
    frames[torch.arange(examples)[:, None], at] += loudness[:, None, None] * words[labels].mT
    return Mixup("words in a recording", frames, labels, size)


def as_frames(data: Mixup) -> Mixup:
    """Sequences of numbers as sequences of frames of width one."""
    return replace(data, inputs=data.inputs[..., None])


def trained(model: nn.Module, data: Mixup, seed: int, steps: int) -> nn.Module:
    """The model after training by the paper's optimiser, at twice its rate and with a cosine in place of its stairs."""
    config = TrainConfig(
        steps=steps, lr=5e-3, optimizer="adam", betas=(0.95, 0.999), schedule="cosine", seed=seed,
        checkpoint_every=steps,
    )  # fmt: skip
    fit(model, data, config)
    return model


def wrong(logits: Float[Tensor, "example classes"], labels: Int[Tensor, " example"]) -> int:
    """How many examples are given another class."""
    return int((logits.argmax(-1) != labels).sum())
