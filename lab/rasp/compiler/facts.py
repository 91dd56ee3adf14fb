"""What is known of an s-op on every input that a program is compiled for."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from microtome.lab.rasp.language import Expression, SOp
from microtome.lab.rasp.values import Value, is_numeric, key, unique

LARGEST = 2.0**100
"""Largest number that is averaged: float32 must not overflow."""
FLOAT_UNIT = 2.0**-24
"""Largest relative error of one rounding in float32."""


@dataclass(frozen=True)
class Setting:
    """For which inputs a program is compiled."""

    vocab: tuple[Value, ...]
    max_len: int
    causal: bool

    @cached_property
    def places(self) -> np.ndarray:
        """Every (length of the input, index in it), [place, 2]."""
        lengths = np.repeat(np.arange(1, self.max_len + 1), np.arange(1, self.max_len + 1))
        indices = np.concatenate([np.arange(n) for n in range(1, self.max_len + 1)])
        return np.stack([lengths, indices], axis=1)


@dataclass(frozen=True, eq=False)
class Facts:
    """What holds of an s-op on every input.

    Attributes:
        values: all values that it can take, or None where they are too many to list (averages only).
        strays: the values that an average does not hold as a number, None included.
        reach: the largest absolute value among its numbers.
        averaged: it is an average, which a head writes as one number.
        error: bound on the float32 error of that number.
        exact: what the stream holds of it is an exact copy, not the rounded mean of equal values.
        distinct: no two positions of one input share a value.
        uniform: all positions of one input share the value.
        ranks: an s-op of which this is a strict ranking, so that equal ranks mean equal values.
        at: for an s-op that depends on nothing but length and index, the number of its value at each of
            `Setting.places`, −1 where it is undefined; else None.
        linear: where `values` is None and it is no average, the averages that it is a weighted sum of.
        bias: what is added to that sum.
    """

    values: tuple[Value, ...] | None
    strays: tuple[Value, ...] = ()
    reach: float = 0.0
    averaged: bool = False
    error: float = 0.0
    exact: bool = True
    distinct: bool = False
    uniform: bool = False
    ranks: SOp | None = None
    at: np.ndarray | None = None
    linear: tuple[tuple[float, SOp], ...] = ()
    bias: float = 0.0

    @cached_property
    def number_of(self) -> Mapping[Hashable, int]:
        """Where each value stands in `values`, by `values.key`."""
        return {key(value): i for i, value in enumerate(self.values)}

    @cached_property
    def is_stray(self) -> frozenset[Hashable]:
        return frozenset(key(v) for v in self.strays)

    @cached_property
    def numbers(self) -> np.ndarray:
        """The values as floats, 0 for those that are no numbers."""
        return np.array([float(v) if is_numeric(v) and key(v) not in self.is_stray else 0.0 for v in self.values])

    @cached_property
    def all_numeric(self) -> bool:
        """Whether its numbers tell its values apart."""
        return not self.is_stray and len(np.unique(self.numbers)) == len(self.values)

    @cached_property
    def whole(self) -> bool:
        """Whether the values are whole numbers (or booleans) that float32 holds exactly, each a different one."""
        return self.all_numeric and bool(np.all(self.numbers == np.round(self.numbers))) and self.reach < 2**20


FactsOf = Mapping[SOp, Facts]


def same(some: Sequence[Expression], others: Sequence[Expression]) -> bool:
    """Whether these are the same expressions in the same order; `==` between s-ops makes an s-op instead."""
    return len(some) == len(others) and all(a is b for a, b in zip(some, others, strict=True))


def listed(values: Iterable[Value], **more) -> Facts:
    """The facts of an s-op with these values."""
    found = unique(values)
    numbers = [abs(v) for v in found if is_numeric(v)]
    strays = tuple(v for v in found if not is_numeric(v))
    return Facts(found, strays=strays, reach=float(max(numbers, default=0)), **more)


@dataclass
class Inference:
    """What is known of a program, as it is found.

    Attributes:
        setting: the inputs for which it holds.
        facts: of each s-op.
        truths: the truth of each selector.
        images: of each `Map` and `SequenceMap`, the number of its value for each combination of its arguments' values,
            one axis an argument; −1 where its function is undefined.
        assumptions: sentences on which exactness rests; inputs that break one are not covered.
    """

    setting: Setting
    facts: dict[SOp, Facts] = field(default_factory=dict)
    truths: dict = field(default_factory=dict)
    images: dict[SOp, np.ndarray] = field(default_factory=dict)
    assumptions: dict[str, None] = field(default_factory=dict)

    def assume(self, sentence: str) -> None:
        self.assumptions[sentence] = None
