"""What is read off at the end of the stream, and how it stands for the program's value."""

from bisect import bisect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from microtome.lab.rasp.compiler.facts import Facts
from microtome.lab.rasp.compiler.operations import Form
from microtome.lab.rasp.language import SOp
from microtome.lab.rasp.values import Value, key

if TYPE_CHECKING:
    from microtome.lab.rasp.compiler.lower import Lowering


@dataclass(frozen=True, eq=False)
class Readout:
    """The outputs of a compiled model.

    Attributes:
        forms: one an output.
        values: what each output stands for, the largest being the answer; None where the first output is the number
            itself, and each further one says that it is one of `strays`.
        strays: values that are no numbers.
        levels: the numbers that there can be, ascending, where they are listed.
        error: bound on the error of a number that is read off; 0 where values are told apart.
        margin: by how much the right output is above every other where all directions are exact; infinite where the
            first output is a number.
    """

    forms: tuple[Form, ...]
    values: tuple[Value, ...] | None
    strays: tuple[Value, ...] = ()
    levels: tuple[Value, ...] = ()
    error: float = 0.0
    margin: float = np.inf

    def decode(self, rows: Sequence[Sequence[float]]) -> list[Value]:
        """The value at each position, from the outputs there."""
        if self.values is not None:
            return [self.values[max(range(len(self.values)), key=row.__getitem__)] for row in rows]
        read = self._number_reader()
        return [read(row[0], row[1 : 1 + len(self.strays)]) for row in rows]

    def _number_reader(self) -> Callable[[float, Sequence[float]], Value]:
        midpoints = [(a + b) / 2 for a, b in pairwise(self.levels)]

        def read(number: float, flags: Sequence[float]) -> Value:
            for value, flag in zip(self.strays, flags, strict=True):
                if flag > 0.5:
                    return value
            return self.levels[bisect(midpoints, number)] if self.levels else number

        return read


def readout(lowering: "Lowering", program: SOp) -> Readout:
    """Asks for what the outputs need.

    An average is one number. Whole numbers v are read off one direction x by 2·v·x − v², which is largest for the v
    that is nearest to x; other values by one direction each.
    """
    facts = lowering.facts(program)
    if facts.averaged or facts.values is None:
        flags = tuple(lowering.flag(program, v) for v in facts.strays)
        levels = _levels(facts)
        forms = (lowering.number(program), *flags)
        return Readout(forms, None, facts.strays, levels, 0.0 if levels else facts.error)
    numbers = facts.numbers
    plain_numbers = np.array([key(v) not in facts.is_stray for v in facts.values])
    whole = bool((numbers == np.round(numbers)).all()) and facts.reach < 2**10
    told_apart = len(np.unique(numbers[plain_numbers])) == plain_numbers.sum()
    if lowering.plain or not (whole and told_apart and plain_numbers.sum() > 2):
        return Readout(tuple(lowering.flag(program, v) for v in facts.values), facts.values, margin=1.0)
    number = lowering.number(program, exact=True)
    forms = []
    for value, x, is_number in zip(facts.values, numbers, plain_numbers, strict=True):
        if is_number:
            forms.append(number.times(2.0 * x) + Form({}, -(x**2)))
        else:
            forms.append(lowering.flag(program, value) + Form({}, -0.5))
    # Of neighbours v and w, the nearer wins by (v − w)²; of a number and what is none, by at least a half.
    nearest = float(np.diff(np.sort(numbers[plain_numbers])).min()) ** 2
    return Readout(tuple(forms), facts.values, margin=nearest if plain_numbers.all() else min(nearest, 0.5))


def _levels(facts: Facts) -> tuple[Value, ...]:
    """The numbers that an average can be, if float32 tells them apart."""
    if facts.values is None:
        return ()
    numbers = [v for v in facts.values if key(v) not in facts.is_stray]
    gap = min((float(b) - float(a) for a, b in pairwise(numbers)), default=np.inf)
    return tuple(numbers) if gap >= 4 * facts.error else ()
