"""The prior of one conjunction of literals, and the law of inputs that are forced to satisfy it.

w ∈ {0, +1, −1}ⁿ names the literals: +1 for x_j, −1 for ¬x_j; a conjunction is true where all of them hold, so the empty
one everywhere. With probability φ ("force") the literals of an otherwise uniform x are set to hold, hence

    p(x | w) = 2⁻ⁿ (1 − φ + φ·2^|w|)  if x satisfies w,   2⁻ⁿ (1 − φ)  if not.

Source: Bhattamishra et al. (2024, icl_boolean), the appendix on distributions over functions.
"""

import itertools
import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int8

from microtome.lab.bayes.boolean.signs import check_share


@dataclass(frozen=True)
class Literals:
    """The law of w.

    Attributes:
        dim: n, at least 1.
        relevant: probability that a coordinate has a literal, +1 and −1 alike.
        monotone: whether all literals are positive.
        size: how many literals there are, every choice alike; None leaves it to `relevant`.

    Raises:
        ValueError: if an attribute is out of range.
    """

    dim: int
    relevant: float = 0.3
    monotone: bool = False
    size: int | None = None

    def __post_init__(self):
        if self.dim < 1:
            raise ValueError(f"dim must be at least 1, not {self.dim}.")
        check_share(relevant=self.relevant)
        if self.size is not None and not 0 <= self.size <= self.dim:
            raise ValueError(f"size must lie between 0 and dim = {self.dim}, or be None, not {self.size}.")

    @property
    def signs(self) -> int:
        """Literals that one coordinate can have."""
        return 1 if self.monotone else 2

    @property
    def count(self) -> int:
        """How many w there are."""
        if self.size is None:
            return (1 + self.signs) ** self.dim
        return math.comb(self.dim, self.size) * self.signs**self.size

    def log_prior(self) -> Float[np.ndarray, " size"]:
        """log p(w) of a single w with 0, 1, …, n literals; −∞ where there is none."""
        sizes = np.arange(self.dim + 1)
        if self.size is not None:
            return np.where(sizes == self.size, -math.log(self.count), -np.inf)
        with np.errstate(divide="ignore", invalid="ignore"):
            one, none = np.log(self.relevant / self.signs), np.log1p(-self.relevant)
            # 0·(−∞) is a probability 0⁰ = 1.
            return np.where(sizes > 0, sizes * one, 0.0) + np.where(sizes < self.dim, (self.dim - sizes) * none, 0.0)

    def enumerate(self) -> Int8[np.ndarray, "hypothesis dim"]:
        """Every w of positive probability, by number of literals."""
        if self.size is not None:
            return self._of_size(self.size)
        digits = np.indices((1 + self.signs,) * self.dim, dtype=np.int8).reshape(self.dim, -1).T
        w = np.array([0, 1, -1], dtype=np.int8)[digits]
        sizes = np.count_nonzero(w, axis=1)
        order = np.argsort(sizes, kind="stable")
        return w[order][np.isfinite(self.log_prior()[sizes[order]])]

    def _of_size(self, size: int) -> Int8[np.ndarray, "hypothesis dim"]:
        places = np.array(list(itertools.combinations(range(self.dim), size)), dtype=int)
        values = (1,) if self.monotone else (1, -1)
        signs = np.array(list(itertools.product(values, repeat=size)), dtype=np.int8)
        w = np.zeros((len(places), len(signs), self.dim), dtype=np.int8)
        np.put_along_axis(w, np.broadcast_to(places[:, None], (len(places), len(signs), size)), signs[None], axis=2)
        return w.reshape(-1, self.dim)


def log_forced(sizes: np.ndarray, force: float) -> tuple[np.ndarray, np.ndarray]:
    """log of 2ⁿ·p(x | w) for x that does not and that does satisfy a conjunction with so many literals."""
    with np.errstate(divide="ignore"):
        return np.full(len(sizes), np.log1p(-force)), np.log(1 - force + force * 2.0**sizes)
