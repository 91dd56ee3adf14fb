"""Token sequences whose targets follow from the tokens or their places by a simple rule."""

from dataclasses import dataclass

import torch
from torch import Tensor

from microtome.lab.tasks.protocol import TokenBatch, TokenTask, check_generator, check_sizes


@dataclass(frozen=True)
class PositionIdentification(TokenTask):
    """Random tokens; the target is the position itself, y_i = i, counted from 0.

    No Transformer whose positions enter only through relative terms inside the softmax can solve it on
    constant sequences (Luo et al. 2022, urpe).

    Attributes:
        vocab: how many token ids are drawn from.
        length: positions.
    """

    vocab: int
    length: int

    def __post_init__(self):
        check_sizes(vocab=self.vocab, length=self.length)

    @property
    def d_vocab(self) -> int:
        return max(self.vocab, self.length)

    def sample(self, batch: int, generator: torch.Generator) -> TokenBatch:
        """See `TokenTask.sample`."""
        tokens = _uniform(self.vocab, batch, self.length, generator)
        targets = torch.arange(self.length, device=tokens.device).expand(batch, -1)
        return TokenBatch(tokens, targets, torch.ones_like(tokens, dtype=torch.float32))


@dataclass(frozen=True)
class EvenTokenPrediction(TokenTask):
    """Random tokens; the first half of the targets are the tokens in even places, the rest is the `eos`.

    With places counted from 1, y_i = w_{2i} for i ≤ n/2 (Luo et al. 2022, urpe). About half of the targets
    are this constant, so that accuracy begins near one half.

    Attributes:
        vocab: how many token ids are drawn from; `eos` is one more.
        length: positions, n ≥ 2.
    """

    vocab: int
    length: int

    def __post_init__(self):
        check_sizes(vocab=self.vocab)
        if self.length < 2:
            raise ValueError(
                f"length must be at least 2, so that there is a token in an even place, not {self.length}."
            )

    @property
    def eos(self) -> int:
        return self.vocab

    @property
    def d_vocab(self) -> int:
        return self.vocab + 1

    def sample(self, batch: int, generator: torch.Generator) -> TokenBatch:
        """See `TokenTask.sample`."""
        tokens = _uniform(self.vocab, batch, self.length, generator)
        targets = torch.full_like(tokens, self.eos)
        targets[:, : self.length // 2] = tokens[:, 1::2]
        return TokenBatch(tokens, targets, torch.ones_like(tokens, dtype=torch.float32))


@dataclass(frozen=True)
class RepeatedBlock(TokenTask):
    """A random block of tokens said several times; the target is the next token.

    The loss counts from the second period on, where the token and its successor have been seen before, so
    that an induction head can know what comes. After the last token the block would begin again: its first
    token is the target there.

    Attributes:
        vocab: how many token ids are drawn from.
        block: tokens of the block.
        repeats: periods, at least 2.
    """

    vocab: int
    block: int
    repeats: int

    def __post_init__(self):
        check_sizes(vocab=self.vocab, block=self.block)
        if self.repeats < 2:
            raise ValueError(f"repeats must be at least 2, as the first period is not counted, not {self.repeats}.")

    @property
    def length(self) -> int:
        return self.block * self.repeats

    @property
    def d_vocab(self) -> int:
        return self.vocab

    def sample(self, batch: int, generator: torch.Generator) -> TokenBatch:
        """See `TokenTask.sample`."""
        tokens = _uniform(self.vocab, batch, self.block, generator).repeat(1, self.repeats)
        weights = torch.ones_like(tokens, dtype=torch.float32)
        weights[:, : self.block] = 0
        return TokenBatch(tokens, tokens.roll(-1, dims=1), weights)


def _uniform(vocab: int, batch: int, length: int, generator: torch.Generator) -> Tensor:
    check_sizes(batch=batch)
    check_generator(generator)
    return torch.randint(vocab, (batch, length), generator=generator, device=generator.device)
