"""What was read a fixed time ago: a task whose answer lies outside every window that is too short."""

from dataclasses import dataclass

import torch

from microtome.lab.tasks.protocol import TokenBatch, TokenTask, check_generator, check_sizes


@dataclass(frozen=True)
class DelayedCopy(TokenTask):
    """Windows of a stream of uniform tokens; the target is the token of `delay` positions before.

    The second half of the window is asked for. What lies before the window is the stream as well, so that no more
    than chance is possible where the delay reaches beyond it: everywhere if length ≤ delay, nowhere if
    length ≥ 2·delay.

    Attributes:
        vocab: how many tokens there are.
        delay: d ≥ 1.
        length: positions of a window, at least 2.
    """

    vocab: int
    delay: int
    length: int

    def __post_init__(self):
        check_sizes(vocab=self.vocab, delay=self.delay)
        if self.length < 2:
            raise ValueError(f"length must be at least 2, so that the window has a second half, not {self.length}.")

    @property
    def d_vocab(self) -> int:
        return self.vocab

    def sample(self, batch: int, generator: torch.Generator) -> TokenBatch:
        """See `TokenTask.sample`."""
        check_sizes(batch=batch)
        check_generator(generator)
        shape = (batch, self.delay + self.length)
        stream = torch.randint(self.vocab, shape, generator=generator, device=generator.device)
        tokens, targets = stream[:, self.delay :], stream[:, : self.length]
        weights = torch.ones_like(tokens, dtype=torch.float32)
        weights[:, : self.length // 2] = 0
        return TokenBatch(tokens, targets, weights)
