"""Two marks far apart: the least that a model must do to relate what stands at the two ends of its input."""

from dataclasses import dataclass

import torch

from microtome.lab.tasks.long_range.protocol import (
    LabelledSequences,
    SequenceClassification,
    check_request,
    integers,
    whole,
)

MARKS = 2


@dataclass(frozen=True)
class TwoMarks(SequenceClassification):
    """Random filler with two marks, each of two kinds: are they of the same kind?

    Marks stand on a uniform pair of places at least `gap` apart. Kinds are fair coins, so that one mark alone
    says nothing about the label.

    Attributes:
        length: positions, above `gap`.
        gap: least distance between the marks, at least 1.
        filler: how many symbols the filler is drawn from; ids 1 and 2 are the marks, the filler follows.
    """

    length: int = 512
    gap: int = 256
    filler: int = 8

    def __post_init__(self):
        if not 1 <= self.gap < self.length:
            raise ValueError(f"gap must lie between 1 and length − 1 = {self.length - 1}, not {self.gap}.")
        if self.filler < 1:
            raise ValueError(f"filler must be at least 1, not {self.filler}.")

    @property
    def n_classes(self) -> int:
        return 2

    @property
    def d_vocab(self) -> int:
        return 1 + MARKS + self.filler

    def sample(self, batch: int, generator: torch.Generator) -> LabelledSequences:
        """See `SequenceClassification.sample`."""
        check_request(batch, generator)
        tokens = integers(1 + MARKS, MARKS + self.filler, (batch, self.length), generator)
        kinds = integers(1, MARKS, (batch, 2), generator)
        # A pair i < j with j − i ≥ gap is a pair i < j' of the first length − gap + 1 places, j drawn out by gap − 1.
        room = self.length - self.gap + 1
        chance = torch.rand(batch, room, generator=generator, device=tokens.device)
        places = chance.topk(2, dim=1).indices.sort(dim=1).values
        places[:, 1] += self.gap - 1
        return whole(tokens.scatter(1, places, kinds), (kinds[:, 0] == kinds[:, 1]).long())
