"""Finite classes of Boolean functions as bit sets: 64 hypotheses a word.

Hypotheses are ordered by group, and every group starts a new word. Within a group all have the same prior, and the law
of x depends on the function only through its value at x:

    p(x | h) = 2⁻ⁿ · exp(log_inputs(x)[h(x), group of h])

so that without label noise the posterior needs nothing but the number of hypotheses left in each group.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8, UInt64

WORD = 64
MAX_HYPOTHESES = 2**23
"""More are not enumerated: their bit set alone is 1 MB a prompt."""

Points = Bool[np.ndarray, "point dim"]
Words = UInt64[np.ndarray, "point word"]
PerGroup = Float[np.ndarray, "point group"]


@dataclass(frozen=True)
class Layout:
    """Where the hypotheses of each group lie among the words.

    Attributes:
        sizes: hypotheses in each group, each at least 1.
    """

    sizes: Int[np.ndarray, " group"]

    @cached_property
    def words(self) -> Int[np.ndarray, " group"]:
        """Words of each group."""
        return -(-self.sizes // WORD)

    @cached_property
    def starts(self) -> Int[np.ndarray, " group"]:
        """First word of each group."""
        return np.cumsum(self.words) - self.words

    @cached_property
    def slots(self) -> Int[np.ndarray, " hypothesis"]:
        """The bit of each hypothesis, counted from the first bit of the first word."""
        within = np.arange(self.sizes.sum()) - np.repeat(np.cumsum(self.sizes) - self.sizes, self.sizes)
        return np.repeat(self.starts * WORD, self.sizes) + within

    @property
    def n_words(self) -> int:
        return int(self.words.sum())

    def pack(self, flags: Bool[np.ndarray, "*row hypothesis"]) -> UInt64[np.ndarray, "*row word"]:
        """One bit a hypothesis; the bits between groups are zero."""
        spread = np.zeros((*flags.shape[:-1], self.n_words * WORD), dtype=bool)
        spread[..., self.slots] = flags
        return np.packbits(spread, axis=-1, bitorder="little").view(np.uint64)

    def unpack(self, words: Words) -> UInt8[np.ndarray, "point slot"]:
        """Every bit as 0 or 1, those between groups included."""
        return np.unpackbits(words.view(np.uint8), axis=-1, bitorder="little")

    def count(self, words: Words) -> Int[np.ndarray, "point group"]:
        """How many bits are set in each group."""
        return np.add.reduceat(np.bitwise_count(words), self.starts, axis=-1, dtype=np.int64)


@dataclass(frozen=True)
class FiniteClass:
    """A class of functions with its prior and the law of its inputs.

    Attributes:
        dim: n, bits of x.
        layout: of the hypotheses.
        log_prior: log probability of each single hypothesis of a group, [group].
        labels: the values of all hypotheses at points, bits set for +1; bits between groups are of no meaning.
        log_inputs: log of 2ⁿ·p(x | h) by the value at x (0 for −1, 1 for +1) and the group; None for uniform inputs.
    """

    dim: int
    layout: Layout
    log_prior: Float[np.ndarray, " group"]
    labels: Callable[[Points], Words]
    log_inputs: Callable[[Points], Float[np.ndarray, "point value group"]] | None = None

    def inputs(self, xs: Points) -> Float[np.ndarray, "point value group"]:
        """`log_inputs`, zero for uniform inputs."""
        if self.log_inputs is None:
            return np.zeros((len(xs), 2, len(self.log_prior)))
        return self.log_inputs(xs)


def check_count(count: int, what: str, instead: str) -> None:
    """Raises ValueError if there are more hypotheses than are enumerated, with what to use instead."""
    if count > MAX_HYPOTHESES:
        raise ValueError(
            f"{what} are {count:,} hypotheses, more than the {MAX_HYPOTHESES:,} that are enumerated; {instead}."
        )
