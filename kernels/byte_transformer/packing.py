"""Which rows of a packed batch are whose: index arrays made once a batch and used by all layers.

    batch_idx_b = Σ_{a<b} n_a,   word_idx[batch_idx_b + i] = b·L + i,   i < n_b

(Zhai et al. 2022, section III-B). Packing gathers rows word_idx of the padded batch; unpacking puts them back among
zeros. Sequences without tokens are allowed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from jaxtyping import Bool, Int, Shaped
from torch import Tensor


@dataclass(frozen=True)
class Packing:
    """A batch's index arrays; built and checked by `packing` or `packing_of_mask`.

    Attributes:
        lengths: n_b, tokens of each sequence.
        longest: L, positions of the padded batch.
        batch_idx: int32 [batch + 1], the first row of each sequence and T at the end (cu_seqlens elsewhere).
        word_idx: int64 [token], where each row lies in the padded batch's B·L rows.
    """

    lengths: tuple[int, ...]
    longest: int
    batch_idx: Int[Tensor, " batch_and_one"]
    word_idx: Int[Tensor, " token"]

    @property
    def tokens(self) -> int:
        """T, the rows of the packed batch."""
        return self.word_idx.shape[0]

    @property
    def fill(self) -> float:
        """α = T/(B·L), the share of the padded batch that is not padding; 1 for an empty one."""
        rows = len(self.lengths) * self.longest
        return self.tokens / rows if rows else 1.0

    @property
    def positions(self) -> Int[Tensor, " token"]:
        """Where each row stands in its own sequence."""
        return self.word_idx % max(1, self.longest)

    def pack(self, x: Shaped[Tensor, "batch pos ..."]) -> Shaped[Tensor, "token ..."]:
        """The rows of the valid tokens.

        Raises ValueError unless x is [batch, pos, …] of this packing.
        """
        if tuple(x.shape[:2]) != (len(self.lengths), self.longest):
            raise ValueError(
                f"a batch to pack must be [batch, pos, …] = {(len(self.lengths), self.longest)}, got {tuple(x.shape)}"
            )
        return x.flatten(0, 1).index_select(0, self.word_idx)

    def unpack(self, rows: Shaped[Tensor, "token ..."]) -> Shaped[Tensor, "batch pos ..."]:
        """The rows at their places in the padded batch, 0 elsewhere.

        Raises ValueError unless there are T rows.
        """
        if rows.ndim == 0 or rows.shape[0] != self.tokens:
            raise ValueError(f"rows to unpack must be [token, …] with {self.tokens} tokens, got {tuple(rows.shape)}")
        features = rows.shape[1:]
        padded = rows.new_zeros(len(self.lengths) * self.longest, *features)
        return padded.index_copy(0, self.word_idx, rows).unflatten(0, (len(self.lengths), self.longest))


def packing(lengths: Sequence[int], longest: int | None = None, device: torch.device | str = "cpu") -> Packing:
    """The index arrays of sequences of `lengths` tokens, padded to `longest` or to the longest of them.

    Raises ValueError for a negative length or one above `longest`.
    """
    lengths = tuple(int(n) for n in lengths)
    longest = max(lengths, default=0) if longest is None else longest
    if any(not 0 <= n <= longest for n in lengths):
        raise ValueError(
            f"lengths must lie between 0 and the batch's {longest} positions, got {min(lengths)} to {max(lengths)}"
        )
    batch_idx = torch.tensor([0, *accumulate(lengths)], dtype=torch.int32, device=device)
    first = torch.arange(len(lengths), device=device) * longest - batch_idx[:-1]
    counts = torch.tensor(lengths, dtype=torch.int64, device=device)
    word_idx = torch.arange(sum(lengths), device=device) + first.repeat_interleave(counts)
    return Packing(lengths, longest, batch_idx, word_idx)


def packing_of_mask(mask: Bool[Tensor, "batch pos"]) -> Packing:
    """The index arrays of a batch whose mask is True at real tokens, which come first in each row.

    Raises ValueError if a token follows padding: lengths alone could not say where it lies.
    """
    lengths = mask.sum(1)
    prefix = torch.arange(mask.shape[1], device=mask.device) < lengths[:, None]
    if not torch.equal(mask, prefix):
        bad = int((mask != prefix).any(1).nonzero()[0, 0])
        raise ValueError(f"the mask of sequence {bad} is True after a False; real tokens must come first")
    return packing(lengths.tolist(), mask.shape[1], mask.device)
