"""Functions of several variables where one of them only switches neurons on and off.

What one sum over all arguments cannot carry in float32, because its neurons are all active at its far end, is cut into
one function of the others for each value of an argument. The neurons of a slice read that argument's code too and are
off wherever it is another value, so that only one slice's sums ever have to be exact. It takes as many neurons as one
for each combination in the worst case, and a direction for each value.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from microtome.lab.rasp.compiler.operations import Direction, Form, Neuron
from microtome.lab.rasp.compiler.tables import Level, Rows, Scalar, candidates, reach, rows_of


@dataclass(frozen=True, eq=False)
class Sliced:
    """Neurons for one slice after the other.

    Attributes:
        axis: the argument that switches.
        scalar: the sum over the others; exact.
        rows: the neurons for each value of the argument; None where it never occurs.
    """

    axis: int
    scalar: Scalar
    rows: tuple[Rows | None, ...]

    @property
    def n_neurons(self) -> int:
        first = self.base
        own = [rows.n_neurons + (rows.constants != first) for rows in self.rows if rows is not None]
        return sum(own)

    @property
    def base(self) -> tuple[float, ...]:
        """The constants of the first slice, which need no neuron."""
        return next(rows.constants for rows in self.rows if rows is not None)


def sliced(levels: Sequence[Sequence[Level]], functions: Sequence[np.ndarray]) -> Sliced | None:
    """The fewest neurons that slices along any argument need; None if there are none that are exact."""
    best = None
    for axis in range(len(levels)):
        rest = [own for i, own in enumerate(levels) if i != axis]
        for scalar in candidates(rest):
            rows = _slices(scalar, [np.moveaxis(f, axis, 0) for f in functions]) if scalar.exact else None
            if rows is None:
                continue
            found = Sliced(axis, scalar, rows)
            if _sums_exactly(found) and (best is None or found.n_neurons < best.n_neurons):
                best = found
    return best


def _slices(scalar: Scalar, functions: Sequence[np.ndarray]) -> tuple[Rows | None, ...] | None:
    rows: list[Rows | None] = []
    for parts in zip(*functions, strict=True):
        if all(np.isnan(part).all() for part in parts):
            rows.append(None)
            continue
        made = rows_of(scalar, parts)
        if made is None:
            return None
        rows.append(made)
    return tuple(rows) if any(made is not None for made in rows) else None


def _sums_exactly(found: Sliced) -> bool:
    """Whether whole numbers stay whole where the neurons of a slice are added to its jump and the first's constants."""
    values = found.scalar.values
    low, high, base = float(values.min()), float(values.max()), np.array(found.base)
    sums = [
        reach(rows, low, high) + np.abs(base) + np.abs(np.array(rows.constants) - base)
        for rows in found.rows
        if rows is not None
    ]
    return bool(np.max(sums) < 2.0**24)


def switched(
    found: Sliced, reads: Form, flags: Sequence[Form], targets: Sequence[Direction]
) -> tuple[list[Neuron], dict[Direction, float]]:
    """The neurons of all slices, and the constants.

    Args:
        found: the slices.
        reads: its scalar, on the stream.
        flags: for each value of the argument that switches, 1 where it is that value, else 0; exact.
        targets: the direction of each function.
    """
    values = found.scalar.values
    low, high = float(values.min()), float(values.max())
    made, base = [], found.base
    for rows, flag in zip(found.rows, flags, strict=True):
        if rows is None:
            continue
        jump = {t: c - b for t, c, b in zip(targets, rows.constants, base, strict=True) if c != b}
        if jump:
            made.append(Neuron(flag, jump))
        largest = rows.ends(low, high).max(axis=0).clip(0.0)
        for ramp, most in zip(rows.ramps, largest.tolist(), strict=True):
            form = reads.times(ramp.slope) + flag.times(most) + Form({}, ramp.bias - most)
            made.append(Neuron(form, {t: w for t, w in zip(targets, ramp.weights, strict=True) if w != 0}))
    return made, {t: b for t, b in zip(targets, base, strict=True) if b != 0}
