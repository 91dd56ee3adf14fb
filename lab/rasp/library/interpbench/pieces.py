"""The steps that several of the numbered programs share, beside those in `parts`."""

from microtome.lab.rasp.language import Aggregate, Comparison, Select, SelectorWidth, SOp, indices, length, tokens
from microtome.lab.rasp.library.parts import EARLIER, EVERYWHERE, SAME_TOKEN

HIST = SelectorWidth(SAME_TOKEN).named("hist")
OPPOSITE = (length - 1 - indices).named("opposite")


def token_at(position: int) -> SOp:
    """The token at one position, everywhere; None in inputs too short to have it."""
    there = Select(indices, indices, lambda key, query: key == position).named(f"at_{position}")
    return Aggregate(there, tokens).named(f"token_{position}")


def clamped_at(position: SOp) -> SOp:
    """The token at the position that each position names, or the last token where that is past the end."""
    return Aggregate(Select(indices, position, Comparison.LEQ), tokens, reduction="last")


def previous() -> SOp:
    """The previous token; at the first position its own."""
    return Aggregate(Select(indices, indices, lambda key, query: key == max(query - 1, 0)), tokens).named("previous")


def following() -> SOp:
    """The next token; at the last position its own."""
    return clamped_at(indices + 1).named("following")


def stable_rank(keys: SOp) -> SOp:
    """Where each position goes when sorting by `keys`, equal ones in the order of the input.

    Two widths added take far fewer weights than one width of the two selectors joined.
    """
    smaller = SelectorWidth(Select(keys, keys, Comparison.LT)).named("smaller")
    tied = SelectorWidth(Select(keys, keys, Comparison.EQ) & EARLIER).named("tied_before")
    return (smaller + tied).named("rank")


def first() -> SOp:
    """The first token, everywhere."""
    return Aggregate(EVERYWHERE, tokens, reduction="first").named("first")


def last() -> SOp:
    """The last token, everywhere."""
    return Aggregate(EVERYWHERE, tokens, reduction="last").named("last")


def least(sop: SOp) -> SOp:
    """The least value, everywhere; of zeros and ones: whether it is one at every position."""
    return Aggregate(EVERYWHERE, sop, reduction="min")


def greatest(sop: SOp) -> SOp:
    """The greatest value, everywhere; of zeros and ones: whether it is one at any position."""
    return Aggregate(EVERYWHERE, sop, reduction="max")
