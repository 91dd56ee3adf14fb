"""Copying what matters out of noise, at places that vary or not (Gu & Dao 2023, "Mamba", section 4.1.1; Arjovsky et al.
2016, "Unitary evolution recurrent neural networks", for the fixed places).

A mixer whose weights do not depend on the input can know where the symbols stand if that never changes. If it changes,
it has to tell symbols from noise.
"""

from dataclasses import dataclass

import torch

from microtome.lab.tasks.protocol import TokenBatch, TokenTask, check_generator, check_sizes


@dataclass(frozen=True)
class SelectiveCopying(TokenTask):
    """`copies` symbols among noise, then as many markers, at which the symbols are to be said in order.

    Ids from 0 are symbols, then come `noise` and `marker`. The loss counts at the markers only.

    Attributes:
        symbols: how many there are.
        copies: how many a sequence holds, drawn uniformly with repetition.
        span: positions of noise and symbols together, at least `copies`.
        fixed: whether the symbols always stand at the same places, as evenly spread as can be; else every set of places
            is equally likely in every sequence.

    Raises:
        ValueError: if an attribute is out of range.
    """

    symbols: int = 16
    copies: int = 8
    span: int = 128
    fixed: bool = False

    def __post_init__(self):
        check_sizes(symbols=self.symbols, copies=self.copies)
        if self.span < self.copies:
            raise ValueError(f"span must be at least copies = {self.copies}, not {self.span}.")

    @property
    def length(self) -> int:
        return self.span + self.copies

    @property
    def noise(self) -> int:
        return self.symbols

    @property
    def marker(self) -> int:
        return self.symbols + 1

    @property
    def d_vocab(self) -> int:
        return self.symbols + 2

    def sample(self, batch: int, generator: torch.Generator) -> TokenBatch:
        """See `TokenTask.sample`."""
        check_sizes(batch=batch)
        check_generator(generator)
        device = generator.device
        said = torch.randint(self.symbols, (batch, self.copies), generator=generator, device=device)
        if self.fixed:
            places = (torch.arange(self.copies, device=device) * self.span // self.copies).expand(batch, -1)
        else:
            keys = torch.rand(batch, self.span, generator=generator, device=device, dtype=torch.float64)
            places = keys.argsort(-1)[:, : self.copies].sort(-1).values
        tokens = torch.full((batch, self.length), self.noise, device=device)
        tokens.scatter_(1, places, said)
        tokens[:, self.span :] = self.marker
        targets = torch.full_like(tokens, self.noise)
        targets[:, self.span :] = said
        weights = torch.zeros(batch, self.length, device=device)
        weights[:, self.span :] = 1
        return TokenBatch(tokens, targets, weights)
