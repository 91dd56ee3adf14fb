"""Which of a class's features a function uses: all, those of one list among several, or a set drawn afresh.

The multitask classes of Panwar, Ahuja & Goyal (2024, "In-context learning through the Bayesian prism", slug
`icl_bayesian_prism`) train on K fixed subsets of the terms and are tested on subsets that were held out.
"""

import functools
import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from microtome.lab.tasks.draw import Draw
from microtome.lab.tasks.protocol import check_sizes


@dataclass(frozen=True)
class Families:
    """A finite list of function families, each as likely: w_f ~ N(0, s²) for the features of the family, else 0.

    Attributes:
        active: the features of each family.
        std: s of each family.
    """

    active: Bool[Tensor, "family feature"]
    std: Float[Tensor, " family"]


@dataclass(frozen=True)
class Subsets:
    """A law of subsets of a class's terms.

    Attributes:
        size: terms in a subset.
        count: K different subsets, drawn once by `seed`, each as likely; None draws a subset of its own for every
            prompt.
        held_out: every prompt has a subset of its own that is none of the K, which are at most half of all.
        seed: of the K subsets.

    Raises:
        ValueError: if an attribute is out of range, or subsets are to be held out of no list.
    """

    size: int
    count: int | None = 1
    held_out: bool = False
    seed: int = 0

    def __post_init__(self):
        check_sizes(size=self.size)
        if self.count is not None:
            check_sizes(count=self.count)
        elif self.held_out:
            raise ValueError("held_out needs a count of subsets that are held out.")

    @property
    def finite(self) -> bool:
        """Whether the subsets are those of the list."""
        return self.count is not None and not self.held_out

    def check(self, among: int) -> None:
        """Raises ValueError if `among` terms have no such subsets, or too few of them."""
        if self.size > among:
            raise ValueError(f"size must be at most the {among} terms there are, not {self.size}.")
        every = math.comb(among, self.size)
        most = every // 2 if self.held_out else every  # else it takes long to draw one that is not held out
        if self.count is not None and self.count > most:
            raise ValueError(
                f"there are {every} subsets of {self.size} of {among} terms, of which at most {most} can be "
                f"{'held out' if self.held_out else 'listed'}, not {self.count}."
            )

    def listed(self, among: int) -> Bool[Tensor, "count among"]:
        """The K subsets, all different."""
        return _listed(self, among)

    def sample(self, batch: int, among: int, draw: Draw) -> Bool[Tensor, "batch among"]:
        """One subset a prompt."""
        if self.finite:
            listed = self.listed(among).to(draw.generator.device)
            return listed[draw.integers(len(listed), batch)]
        drawn = draw.subsets(batch, among, self.size)
        if self.held_out:
            return _redrawn(drawn, self.listed(among).to(drawn.device), draw)
        return drawn


@functools.lru_cache(maxsize=8)  # drawing without repetition takes longer than a batch
def _listed(law: Subsets, among: int) -> Tensor:
    law.check(among)
    own = Draw(torch.Generator().manual_seed(law.seed), torch.float32)  # on the CPU: the same on every device
    found = own.subsets(0, among, law.size)
    while len(found) < law.count:
        fresh = _redrawn(own.subsets(1, among, law.size), found, own)
        found = torch.cat([found, fresh])
    return found


def _redrawn(drawn: Tensor, forbidden: Tensor, draw: Draw) -> Tensor:
    """The subsets [batch among], those that are forbidden drawn again until none is: uniform on the others."""
    size = int(drawn[0].sum())
    while True:
        # Two subsets of one size are equal if and only if they share as many places.
        hit = ((drawn.float() @ forbidden.float().T) == size).any(1)
        if not hit.any():
            return drawn
        drawn = drawn.clone()
        drawn[hit] = draw.subsets(int(hit.sum()), drawn.shape[1], size)
