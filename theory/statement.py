"""What is claimed, in words precise enough to be wrong."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Statement:
    """A claim about transformers with its hypotheses.

    Attributes:
        name: a few words that identify it within its paper.
        text: what is claimed.
        hypotheses: what the claim assumes, one condition an entry; nothing outside them is claimed.
        source: the paper, and where in it the claim stands.
        slug: the paper's slug, as in the names of its other files.
    """

    name: str
    text: str
    hypotheses: tuple[str, ...]
    source: str
    slug: str
