"""Naming a token that stands somewhere early: one lookup over a long distance."""

from dataclasses import dataclass

import torch

from microtome.lab.tasks.protocol import TokenBatch, TokenTask, check_generator, check_sizes


@dataclass(frozen=True)
class LabelRecall(TokenTask):
    """Filler, one label in an early segment but not at its end, and at the last position the question which it was.

    Labels are ids 0 … labels − 1, then come `filler` ids and the question. The loss counts at the last position only.

    Attributes:
        labels: how many there are, with equal odds.
        length: positions, at least two segments.
        segment: positions a segment has, at least 2; the label stands in any but the last segment, at any of its places
            but the last.
        filler: how many filler ids are drawn from.
    """

    labels: int = 10
    length: int = 64
    segment: int = 8
    filler: int = 4

    def __post_init__(self):
        check_sizes(labels=self.labels, filler=self.filler)
        if self.segment < 2 or self.length < 2 * self.segment:
            raise ValueError(
                f"a segment has at least 2 positions and an input at least two segments, not {self.segment} and "
                f"{self.length}."
            )

    @property
    def d_vocab(self) -> int:
        return self.labels + self.filler + 1

    def sample(self, batch: int, generator: torch.Generator) -> TokenBatch:
        """See `TokenTask.sample`."""
        check_sizes(batch=batch)
        check_generator(generator)
        draw = {"generator": generator, "device": generator.device}
        tokens = self.labels + torch.randint(self.filler, (batch, self.length), **draw)
        said = torch.randint(self.labels, (batch, 1), **draw)
        early = -(-self.length // self.segment) - 1
        place = torch.randint(early, (batch, 1), **draw) * self.segment
        place = place + torch.randint(self.segment - 1, (batch, 1), **draw)
        tokens.scatter_(1, place, said)
        tokens[:, -1] = self.d_vocab - 1
        targets = torch.zeros_like(tokens)
        targets[:, -1:] = said
        weights = torch.zeros(batch, self.length, device=generator.device)
        weights[:, -1] = 1
        return TokenBatch(tokens, targets, weights)
