"""Copying the token before: what positions alone decide, and no content does."""

from dataclasses import dataclass

import torch

from microtome.lab.tasks.protocol import TokenBatch, TokenTask, check_generator, check_sizes


@dataclass(frozen=True)
class PreviousToken(TokenTask):
    """Random tokens; the target is the token one place to the left, and nothing is asked at the first place.

    Attributes:
        vocab: how many token ids are drawn from, with equal odds.
        length: positions, at least 2.
    """

    vocab: int
    length: int

    def __post_init__(self):
        check_sizes(vocab=self.vocab)
        if self.length < 2:
            raise ValueError(f"length must be at least 2, so that a token has one before it, not {self.length}.")

    @property
    def d_vocab(self) -> int:
        return self.vocab

    def sample(self, batch: int, generator: torch.Generator) -> TokenBatch:
        """See `TokenTask.sample`."""
        check_sizes(batch=batch)
        check_generator(generator)
        tokens = torch.randint(self.vocab, (batch, self.length), generator=generator, device=generator.device)
        weights = torch.ones_like(tokens, dtype=torch.float32)
        weights[:, 0] = 0.0
        return TokenBatch(tokens, tokens.roll(1, dims=1), weights)
