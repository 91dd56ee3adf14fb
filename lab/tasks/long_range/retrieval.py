"""Do two documents speak of the same thing? Each is encoded by itself (Tay et al. 2020, `long_range_arena`, there of
papers that cite each other; made-up documents here, related where they share a rare n-gram)."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from microtome.lab.tasks.long_range import documents
from microtome.lab.tasks.long_range.protocol import LabelledSequences, SequenceClassification, check_request, integers

CAPITALS = 26


@dataclass(frozen=True)
class Retrieval(SequenceClassification):
    """Two documents of small-letter words, each with one word of capitals somewhere: the same in both, or another.

    Labels are fair; words that differ do so in every letter.

    Attributes:
        length: bytes of each document.
        ngram: letters of the rare word, at least 1.
    """

    pairs: ClassVar = True

    length: int = 4000
    ngram: int = 2

    def __post_init__(self):
        if self.ngram < 1 or self.length < self.ngram + 2:
            raise ValueError(f"ngram must lie between 1 and length − 2 = {self.length - 2}, not {self.ngram}.")

    @property
    def n_classes(self) -> int:
        return 2

    @property
    def d_vocab(self) -> int:
        return documents.D_VOCAB

    def sample(self, batch: int, generator: torch.Generator) -> LabelledSequences:
        """See `SequenceClassification.sample`."""
        check_request(batch, generator)
        labels = integers(0, 1, (batch,), generator)
        first = integers(0, CAPITALS - 1, (batch, self.ngram), generator)
        other = (first + integers(1, CAPITALS - 1, (batch, self.ngram), generator)) % CAPITALS
        words = torch.stack((first, torch.where(labels[:, None] == 1, first, other)), dim=1).flatten(0, 1)
        blank = torch.full_like(words[:, :1], documents.SPACE)
        text = documents.prose(2 * batch, self.length, generator)
        start = integers(0, self.length - self.ngram - 2, (2 * batch,), generator)
        text = documents.lay(text, start, torch.cat((blank, ord("A") + words, blank), dim=1))
        tokens = (text + 1).unflatten(0, (batch, 2))
        return LabelledSequences(tokens, torch.ones_like(tokens, dtype=torch.bool), labels)
