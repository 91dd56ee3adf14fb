"""Functions of finite values as ReLU neurons over one scalar.

The arguments enter through a weighted sum s of numbers that stand for their values. Any function of s is a row of
neurons: one for each change of slope where s is exact (`kinks`), two for each change of value where it is only known
to within an error (`steps`). A function that depends on x − y alone needs about 2·range neurons by s = x − y; a table
without structure has s = x·|Y| + y and needs up to one neuron a combination; conjunctions of truths need one.

A step from one level of s to the next is relu(a·s − e) − relu(a·s − e − 1) with `a` a power of two of two to four
times the inverse gap, so that it is exactly 0 or 1 while s is off by less than a quarter of the gap. It is walked away
from s = 0 in both directions, which keeps what is subtracted small and the differences free of rounding.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

GRID = 8
"""Edges of steps are multiples of 1/GRID, or of what one unit of a coarser grid of the scalar becomes."""
OFFSET = 2.0**23
"""A number on a grid is held with this many grid units added (see `grid.rounding_offset`)."""
EXACT = 2.0**23
"""Whole numbers up to here, and their sums, are exact in float32 with a bit to spare."""


@dataclass(frozen=True, eq=False)
class Level:
    """One way to see an argument as a number.

    Attributes:
        numbers: one for each value of the argument.
        exact: whether the stream holds these numbers exactly, and they are whole.
        error: bound on the float32 error.
        grid: what an inexact one is rounded to multiples of.
        source: what the lowering needs to know to find it again.
    """

    numbers: np.ndarray
    exact: bool
    error: float
    source: str
    grid: float = 0.0


@dataclass(frozen=True, eq=False)
class Scalar:
    """The sum over arguments of coefficient times level."""

    levels: tuple[Level, ...]
    coefficients: tuple[float, ...]

    @property
    def exact(self) -> bool:
        return all(level.exact for level in self.levels)

    @property
    def error(self) -> float:
        total = sum(abs(c) * level.error for c, level in zip(self.coefficients, self.levels, strict=True))
        largest = sum(
            abs(c) * np.abs(level.numbers).max() for c, level in zip(self.coefficients, self.levels, strict=True)
        )
        return 0.0 if self.exact else float(total + (len(self.levels) + 2) * largest * 2.0**-24)

    def on(self, shape: tuple[int, ...]) -> np.ndarray:
        """The scalar for each combination of values."""
        total = np.zeros(shape)
        for axis, (c, level) in enumerate(zip(self.coefficients, self.levels, strict=True)):
            total = total + c * level.numbers.reshape([-1 if i == axis else 1 for i in range(len(shape))])
        return total


@dataclass(frozen=True)
class Ramp:
    """One neuron: relu(slope·s + bias), times `weights` of each function."""

    slope: float
    bias: float
    weights: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Rows:
    """Functions of one scalar: `constants[f] + Σ weights[f]·relu(slope·s + bias)`."""

    ramps: tuple[Ramp, ...]
    constants: tuple[float, ...]


def profile(scalar: Scalar, functions: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray] | None:
    """The different values of the scalar, ascending, and each function there; None if it does not tell them apart.

    NaN in a function stands for combinations that never occur.
    """
    stacked = np.stack(functions)
    s = scalar.on(stacked.shape[1:]).ravel()
    flat = stacked.reshape(len(functions), -1)
    known = ~np.isnan(flat).all(0)
    s, flat = s[known], flat[:, known]
    order = np.argsort(s, kind="stable")
    s, flat = s[order], flat[:, order]
    tolerance = 0.0 if scalar.exact else max(1e-12 * float(np.abs(s).max(initial=1.0)), 4 * scalar.error)
    starts = np.flatnonzero(np.concatenate([[True], np.diff(s) > tolerance]))
    with np.errstate(invalid="ignore"):
        low = np.fmin.reduceat(flat, starts, axis=1)
        high = np.fmax.reduceat(flat, starts, axis=1)
    if (high - low > 1e-9).any():
        return None
    return s[starts], _filled(low)


def _filled(rows: np.ndarray) -> np.ndarray:
    """Each unknown entry takes the known one before it, or the first known one."""
    rows = rows.copy()
    for row in rows:
        unknown = np.isnan(row)
        if unknown.all():
            row[:] = 0.0
        elif unknown.any():
            places = np.where(~unknown, np.arange(len(row)), -1)
            last = np.maximum.accumulate(places)
            row[:] = row[np.where(last < 0, np.argmax(~unknown), last)]
    return rows


def rows_of(scalar: Scalar, functions: Sequence[np.ndarray]) -> Rows | None:
    """The neurons for all functions, or None if the scalar cannot carry them."""
    found = profile(scalar, functions)
    if found is None:
        return None
    s, values = found
    if scalar.exact:
        made = min((_kinks(s, values, side) for side in (1, -1)), key=lambda rows: len(rows.ramps))
        if _summable(made, s):
            return made
        return _steps(s, values, 0.0, 0.0)
    rough = scalar.levels[-1] if len(scalar.levels) == 1 else next(v for v in scalar.levels if not v.exact)
    if len(scalar.levels) > 1 and np.abs(s).max() >= rough.grid * OFFSET:
        return None  # what is added to the rounded number would round it once more
    rows = _steps(s, values, scalar.error, rough.grid)
    if rows is not None and len(scalar.levels) > 1 and not sums_exactly(scalar, rows):
        return None  # numbers that were cleaned before give exact ones
    return rows


def sums_exactly(scalar: Scalar, rows: Rows) -> bool:
    """Whether float32 makes every sum of the neurons exactly, in whatever order they are added."""
    if not rows.ramps:
        return True
    if any(w != round(w) for r in rows.ramps for w in r.weights) or any(c != round(c) for c in rows.constants):
        return False
    grids = [level.grid if not level.exact else 1.0 for level in scalar.levels]
    unit = min(grids) * min(abs(r.slope) for r in rows.ramps)
    if unit == 0:
        return False
    unit = min(unit, 1.0 / GRID)
    s = scalar.on(tuple(len(level.numbers) for level in scalar.levels))
    low, high = float(s.min()), float(s.max())
    reach = sum(
        max(r.slope * low + r.bias, r.slope * high + r.bias, 0.0) * max(map(abs, r.weights)) for r in rows.ramps
    )
    return reach / unit < 2.0**24


def _kinks(s: np.ndarray, values: np.ndarray, side: int) -> Rows:
    """Piecewise linear between the points, from the left (side 1) or from the right (side −1)."""
    s, values = (s, values) if side == 1 else (-s[::-1], values[:, ::-1])
    if len(s) == 1:
        return Rows((), tuple(values[:, 0].tolist()))
    slopes = np.diff(values, axis=1) / np.diff(s)
    change = np.diff(slopes, axis=1, prepend=0.0)
    change[np.abs(change) < 1e-12 * np.abs(slopes).max(initial=1.0)] = 0.0
    used = np.flatnonzero(change.any(0))
    ramps = tuple(Ramp(float(side), float(-s[j]), tuple(change[:, j].tolist())) for j in used)
    return Rows(ramps, tuple(values[:, 0].tolist()))


def _summable(rows: Rows, s: np.ndarray) -> bool:
    """Whether every sum of the neurons is one of whole numbers that float32 holds exactly, in any order."""
    weights = np.array([ramp.weights for ramp in rows.ramps]).reshape(len(rows.ramps), len(rows.constants))
    whole = bool((weights == np.round(weights)).all()) and all(c == round(c) for c in rows.constants)
    reach = sum(
        max(abs(ramp.slope * s[0] + ramp.bias), abs(ramp.slope * s[-1] + ramp.bias)) * np.abs(ramp.weights).max()
        for ramp in rows.ramps
    )
    return bool(whole and reach < EXACT)


def _steps(s: np.ndarray, values: np.ndarray, error: float, grid: float) -> Rows | None:
    """Two neurons for each change of value."""
    change = np.diff(values, axis=1)
    ramps: list[Ramp] = []
    constants = values[:, 0].copy()
    for j in np.flatnonzero(change.any(0)):
        below, above = float(s[j]), float(s[j + 1])
        gap = above - below
        if gap < 4 * (error - grid) or gap < 2.0**-20 * max(abs(below), abs(above)):
            return None
        slope = 2.0 ** math.ceil(math.log2(2 / gap))
        unit = max(1 / GRID, 2 * slope * grid)
        edge = round((slope * (below + above) / 2 - 0.5) / unit) * unit
        step = change[:, j]
        if edge >= -0.5:
            edge, sign = max(edge, 0.0), 1.0
        else:
            edge, sign, constants, step = max(-edge - 1.0, 0.0), -1.0, constants + step, -step
        ramps.append(Ramp(sign * slope, -edge, tuple(step.tolist())))
        ramps.append(Ramp(sign * slope, -edge - 1.0, tuple((-step).tolist())))
    return Rows(tuple(ramps), tuple(constants.tolist()))


def candidates(levels: Sequence[Sequence[Level]]) -> list[Scalar]:
    """Scalars worth trying for arguments that can be seen in these ways: sums, differences, and mixed radix."""
    found: list[Scalar] = []
    numeric = [[v for v in own if v.exact and v.source in ("class", "number")] for own in levels]
    if len(levels) == 1:
        return [Scalar((level,), (1.0,)) for level in levels[0]]
    if all(numeric) and len(levels) <= 5:
        for chosen in {tuple(own[0] for own in numeric), tuple(own[-1] for own in numeric)}:
            found += [Scalar(chosen, (1.0, *signs)) for signs in itertools.product((1.0, -1.0), repeat=len(levels) - 1)]
    orders = list(itertools.permutations(range(len(levels)))) if len(levels) <= 3 else [tuple(range(len(levels)))]
    for order in orders:
        for chosen in itertools.product(*levels):
            # An inexact number can only be the finest of the radix.
            if all(chosen[i].exact for i in order[:-1]):
                found.append(_radix(chosen, order))
    return found


def _radix(levels: tuple[Level, ...], order: tuple[int, ...]) -> Scalar:
    """Each argument of `order` outweighs all that come after it."""
    coefficients, unit = [1.0] * len(levels), 1.0
    for i in reversed(order):
        coefficients[i] = unit
        spread = float(np.ptp(levels[i].numbers))
        unit *= spread + 1.0 if levels[i].exact else 2.0 ** math.ceil(math.log2(2 * spread + 1e-9))
    return Scalar(levels, tuple(coefficients))
