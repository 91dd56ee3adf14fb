"""Made-up documents as bytes: words of a small lexicon under Zipf's law, with marked words laid over them."""

from functools import lru_cache

import torch
from jaxtyping import Bool, Int
from torch import Tensor

BYTES = 256
D_VOCAB = BYTES + 1
"""A byte is its value plus one; 0 is padding."""
SPACE = ord(" ")
WORDS, SHORTEST, LONGEST = 400, 2, 9
LEXICON_SEED = 1935


@lru_cache(maxsize=1)
def lexicon() -> tuple[Int[Tensor, "word letter"], Int[Tensor, " word"]]:
    """Small-letter words, each followed by blanks to `LONGEST` + 1 letters, and their lengths with one blank."""
    generator = torch.Generator().manual_seed(LEXICON_SEED)
    lengths = torch.randint(SHORTEST, LONGEST + 1, (WORDS,), generator=generator)
    letters = ord("a") + torch.randint(26, (WORDS, LONGEST + 1), generator=generator)
    letters[torch.arange(LONGEST + 1) >= lengths[:, None]] = SPACE
    return letters, lengths + 1


def prose(rows: int, length: int, generator: torch.Generator) -> Int[Tensor, "row pos"]:
    """Bytes (not ids) of words with one blank between them, cut off at `length`."""
    device = generator.device
    letters, lengths = (each.to(device) for each in lexicon())
    zipf = 1 / torch.arange(1, WORDS + 1, dtype=torch.float32, device=device)
    count = -(-length // (SHORTEST + 1))
    words = torch.multinomial(zipf.expand(rows, -1), count, replacement=True, generator=generator)
    ends = lengths[words].cumsum(1)
    places = torch.arange(length, device=device).expand(rows, -1).contiguous()
    which = torch.searchsorted(ends, places, right=True)
    word = words.gather(1, which)
    starts = ends.gather(1, which) - lengths[word]
    return letters[word, places - starts]


def lay(
    text: Int[Tensor, "row pos"], start: Int[Tensor, " row"], words: Int[Tensor, "row letter"]
) -> Int[Tensor, "row pos"]:
    """The text with a word over the letters from `start` on."""
    at = start[:, None] + torch.arange(words.shape[1], device=text.device)
    return text.scatter(1, at, words)


def as_ids(
    text: Int[Tensor, "row pos"], lengths: Int[Tensor, " row"]
) -> tuple[Int[Tensor, "row pos"], Bool[Tensor, "row pos"]]:
    """Ids and mask of documents that end after `lengths` bytes."""
    mask = torch.arange(text.shape[1], device=text.device) < lengths[:, None]
    return (text + 1) * mask, mask
