"""Version spaces of conjunctions as signed sums of cubes, for many prompts at once; see `version_space`."""

from dataclasses import dataclass
from functools import cache
from math import comb

import numpy as np
from jaxtyping import Bool, Int, UInt64

from microtome.lab.bayes.boolean.literals import Literals

MAX_LITERALS = 64


@dataclass(frozen=True)
class Cubes:
    """Signed cubes of every prompt, in one flat list.

    Attributes:
        owner: the prompt that each cube belongs to, ascending.
        members: the literals of each cube, a bit each: x_1 … x_n, then ¬x_1 … ¬x_n unless monotone.
        signs: how often each cube counts; negative ones are subtracted.
        literals: the law of w.
        batch: how many prompts there are.
    """

    owner: Int[np.ndarray, " cube"]
    members: UInt64[np.ndarray, " cube"]
    signs: Int[np.ndarray, " cube"]
    literals: Literals
    batch: int

    @classmethod
    def all(cls, literals: Literals, batch: int) -> "Cubes":
        """Every conjunction, for each prompt."""
        full = np.full(batch, (1 << literals.dim * literals.signs) - 1, dtype=np.uint64)
        return cls(np.arange(batch), full, np.ones(batch, dtype=np.int64), literals, batch)

    def satisfied(self, xs: Bool[np.ndarray, "batch dim"]) -> "Cubes":
        """The conjunctions that one x of each prompt satisfies."""
        true = xs if self.literals.monotone else np.concatenate([xs, ~xs], axis=1)
        bits = (true * (np.uint64(1) << np.arange(true.shape[1], dtype=np.uint64))).sum(1, dtype=np.uint64)
        return self._merged(self.owner, self.members & bits[self.owner], self.signs)

    def after(self, satisfied: "Cubes", ys: Bool[np.ndarray, " batch"]) -> "Cubes":
        """What is left when each prompt tells the value at its x, of which `satisfied` are the cubes."""
        kept = ~ys[self.owner]
        sign = np.where(ys[satisfied.owner], 1, -1)
        return self._merged(
            np.concatenate([self.owner[kept], satisfied.owner]),
            np.concatenate([self.members[kept], satisfied.members]),
            np.concatenate([self.signs[kept], sign * satisfied.signs]),
        )

    def sizes(self) -> Int[np.ndarray, "batch size"]:
        """How many conjunctions of 0, 1, …, n literals there are, exactly.

        Raises:
            OverflowError: if the counts leave the range of 64 bits, which takes prompts far longer than n.
        """
        table = _choices(self.literals)
        by_width = np.zeros((self.batch, len(table)), dtype=np.int64)
        np.add.at(by_width, (self.owner, np.bitwise_count(self.members).astype(int)), self.signs)
        if np.abs(by_width).astype(float).sum(1).max() * float(table.max()) >= 2**62:
            raise OverflowError("the numbers of conjunctions left exceed 64 bits; use shorter prompts.")
        return by_width @ table

    def _merged(self, owner: np.ndarray, members: np.ndarray, signs: np.ndarray) -> "Cubes":
        order = np.lexsort((members, owner))
        owner, members, signs = owner[order], members[order], signs[order]
        new = np.ones(len(owner), dtype=bool)
        new[1:] = (owner[1:] != owner[:-1]) | (members[1:] != members[:-1])
        sums = np.add.reduceat(signs, np.flatnonzero(new)) if len(owner) else signs
        kept = sums != 0
        return Cubes(owner[new][kept], members[new][kept], sums[kept], self.literals, self.batch)


@cache
def _choices(literals: Literals) -> Int[np.ndarray, "width size"]:
    """Conjunctions of each size in a cube of each width: one of all literals, or of at most one a coordinate."""
    dim, most = literals.dim, literals.dim * literals.signs
    table = [[comb(width, size) if width <= dim else 0 for size in range(dim + 1)] for width in range(most + 1)]
    table[most] = [comb(dim, size) * literals.signs**size for size in range(dim + 1)]
    return np.array(table)
