"""ELECTRA's objective (Clark et al. 2020, "ELECTRA: Pre-training text encoders as discriminators rather than
generators", equations 1 and 2; slug `survey_faster_lighter`).

A small generator fills masked places; a discriminator says of every position whether its token was replaced:

    L = L_MLM(masked places) + λ·L_disc(all positions),   λ = 50

What the generator samples carries no gradient, and a sample that equals the original counts as original.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from microtome.lab.tasks.protocol import TokenTask, check_sizes
from microtome.lab.train.objective import Batch, described


class Electra(nn.Module):
    """Generator and discriminator as one model to train.

    Args:
        generator: a bidirectional token model over d_vocab + 1 ids, the last of which marks a masked place.
        discriminator: a bidirectional token model over at least d_vocab ids whose first logit says "replaced".
    """

    def __init__(self, generator: nn.Module, discriminator: nn.Module):
        super().__init__()
        self.generator, self.discriminator = generator, discriminator

    def forward(
        self, tokens: Int[Tensor, "batch pos"], masked: Bool[Tensor, "batch pos"], noise: Float[Tensor, "batch pos"]
    ) -> tuple[Float[Tensor, "batch pos d_vocab"], Float[Tensor, "batch pos"], Bool[Tensor, "batch pos"]]:
        """The generator's logits, the discriminator's logit of "replaced", and what was replaced.

        Args:
            tokens: the originals.
            masked: the places to fill.
            noise: uniform in [0, 1), what the generator's samples are drawn by (inverse distribution function).
        """
        logits = self.generator(tokens.masked_fill(masked, self.generator.n_out - 1))[..., :-1]
        with torch.no_grad():
            levels = logits.softmax(-1).cumsum(-1)
            sampled = (levels <= noise[..., None] * levels[..., -1:]).sum(-1)
        corrupted = torch.where(masked, sampled, tokens)
        return logits, self.discriminator(corrupted)[..., 0], corrupted != tokens


class ReplacedTokenDetection:
    """The loss L of an `Electra` on the sequences of a task; targets and weights of the task are left aside.

    Args:
        task: where sequences come from.
        batch: sequences a step.
        share: of positions that are masked, in (0, 1).
        weight: λ, not negative.

    Raises:
        ValueError: if a number is outside its range.
    """

    def __init__(self, task: TokenTask, batch: int, *, share: float = 0.15, weight: float = 50.0):
        check_sizes(batch=batch)
        if not 0 < share < 1:
            raise ValueError(f"share must lie between 0 and 1, not {share}.")
        if not 0 <= weight < float("inf"):
            raise ValueError(f"weight must be finite and not negative, not {weight}.")
        self.task, self.size, self.share, self.weight = task, batch, share, weight

    def batch(self, step: int, generator: torch.Generator) -> Batch:
        """Inputs (tokens, masked, noise), all [batch pos]; at least one place of each sequence is masked."""
        tokens = self.task.sample(self.size, generator).tokens
        draw = torch.rand(tokens.shape, generator=generator, device=tokens.device)
        masked = (draw < self.share) | (draw == draw.amin(1, keepdim=True))
        noise = torch.rand(tokens.shape, generator=generator, device=tokens.device)
        return Batch((tokens, masked, noise), tokens)

    def loss(self, model: Electra, batch: Batch) -> Float[Tensor, ""]:
        """L, both terms in nats a position."""
        _, masked, _ = batch.inputs
        logits, replaced, truth = model(*batch.inputs)
        mlm = F.cross_entropy(logits[masked], batch.targets[masked])
        return mlm + self.weight * F.binary_cross_entropy_with_logits(replaced, truth.to(replaced.dtype))

    def describe(self) -> dict[str, Any]:
        return {
            "name": "replaced token detection",
            "task": described(self.task),
            "batch": self.size,
            "share": self.share,
            "weight": self.weight,
        }
