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
STEEPER = 64
"""How many times flatter than the steepest step another may be."""
PART = 1024
"""About how many combinations of values are looked at first."""


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

    @property
    def values(self) -> np.ndarray:
        """The scalar for each combination of values."""
        total = np.zeros(())
        for c, level in zip(self.coefficients, self.levels, strict=True):
            total = np.add.outer(total, c * level.numbers)
        return total


@dataclass(frozen=True)
class Ramp:
    """One neuron: relu(slope·s + bias), times `weights` of each function."""

    slope: float
    bias: float
    weights: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Rows:
    """Functions f of one scalar by neurons n: `constants[f] + Σ weights[n, f]·relu(slopes[n]·s + biases[n])`."""

    slopes: np.ndarray
    biases: np.ndarray
    weights: np.ndarray
    constants: tuple[float, ...]

    @property
    def n_neurons(self) -> int:
        return len(self.slopes)

    @property
    def ramps(self) -> tuple[Ramp, ...]:
        """The neurons one by one."""
        columns = self.slopes.tolist(), self.biases.tolist(), map(tuple, self.weights.tolist())
        return tuple(Ramp(*parts) for parts in zip(*columns, strict=True))

    @property
    def heaviest(self) -> np.ndarray:
        """[neuron] the largest of its weights, without their signs."""
        return np.abs(self.weights).max(axis=1)

    def ends(self, low: float, high: float) -> np.ndarray:
        """[2, neuron] slope·s + bias at either end of the range of s."""
        return self.slopes * np.array([[low], [high]]) + self.biases


def profile(scalar: Scalar, functions: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray] | None:
    """The different values of the scalar, ascending, and each function there; None if it does not tell them apart.

    NaN in a function stands for combinations that never occur.
    """
    stacked = np.stack(functions)
    s = scalar.values.ravel()
    flat = stacked.reshape(len(functions), -1)
    known = ~np.isnan(flat).all(0)
    if not known.all():
        s, flat = s[known], flat[:, known]
    tolerance = 0.0 if scalar.exact else max(1e-12 * float(np.abs(s).max(initial=1.0)), 4 * scalar.error)
    # Most scalars that confuse some combinations confuse some of a few.
    part = slice(None, None, s.size // PART | 1)
    if s.size > 4 * PART and _grouped(s[part], flat[:, part], tolerance) is None:
        return None
    found = _grouped(s, flat, tolerance)
    return None if found is None else (found[0], _filled(found[1]))


def _grouped(s: np.ndarray, flat: np.ndarray, tolerance: float) -> tuple[np.ndarray, np.ndarray] | None:
    """As `profile`, with NaN where a function is not known."""
    order = np.argsort(s, kind="stable")
    s, flat = s[order], flat[:, order]
    starts = np.flatnonzero(np.concatenate([[True], np.diff(s) > tolerance]))
    with np.errstate(invalid="ignore"):
        low = np.fmin.reduceat(flat, starts, axis=1)
        high = np.fmax.reduceat(flat, starts, axis=1)
    if (high - low > 1e-9).any():
        return None
    return s[starts], low


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
        made = min((_kinks(s, values, side) for side in (1, -1)), key=lambda rows: rows.n_neurons)
        if _summable(made, s):
            return made
        if not _whole(values):
            return _steps(s, values, 0.0, 0.0)  # the error is bounded where these are put together
        made = _from_pivot(s, values)
        return made if sums_exactly(scalar, made) else None
    rough = scalar.levels[-1] if len(scalar.levels) == 1 else next(v for v in scalar.levels if not v.exact)
    if len(scalar.levels) > 1 and np.abs(s).max() >= rough.grid * OFFSET:
        return None  # what is added to the rounded number would round it once more
    must = len(scalar.levels) > 1 or _whole(values)  # whoever reads whole numbers relies on them being exact
    for pivot in (None, len(s), len(s) // 2):
        rows = _steps(s, values, scalar.error, rough.grid, pivot)
        if rows is None or not must or sums_exactly(scalar, rows):
            return rows
    return None


def sums_exactly(scalar: Scalar, rows: Rows) -> bool:
    """Whether float32 makes every sum of the neurons exactly, in whatever order they are added.

    A partial sum lies between that of the negative terms and that of the positive ones, which are largest at an end.
    """
    if not rows.n_neurons:
        return True
    if not (_whole(rows.weights) and _whole(np.array(rows.constants))):
        return False
    grids = [level.grid if not level.exact else 1.0 for level in scalar.levels]
    unit = min(grids) * float(np.abs(rows.slopes).min())
    if unit == 0:
        return False
    unit = min(unit, 1.0 / GRID) if not scalar.exact else 1.0
    s, off = scalar.values, scalar.error
    most = reach(rows, float(s.min()) - off, float(s.max()) + off) + np.abs(rows.constants).max()
    return bool(most / unit < 2.0**24)


def reach(rows: Rows, low: float, high: float) -> float:
    """Bound on a partial sum, over all functions."""
    active = rows.ends(low, high).clip(0.0)
    sides = []
    for at_end, chosen in zip(active, (rows.slopes < 0, rows.slopes > 0), strict=True):
        terms = at_end[chosen, None] * rows.weights[chosen]
        sides.append(np.maximum(terms.clip(0.0).sum(0), -terms.clip(max=0.0).sum(0)).max(initial=0.0))
    starts = -rows.biases / rows.slopes
    apart = starts[rows.slopes < 0].max(initial=-np.inf) <= starts[rows.slopes > 0].min(initial=np.inf)
    return float(max(sides) if apart else sum(sides))


def _whole(numbers: np.ndarray) -> bool:
    return bool(np.array_equal(numbers, np.round(numbers)))


def _kinks(s: np.ndarray, values: np.ndarray, side: int) -> Rows:
    """Piecewise linear between the points, from the left (side 1) or from the right (side −1)."""
    s, values = (s, values) if side == 1 else (-s[::-1], values[:, ::-1])
    if len(s) == 1:
        return Rows(np.zeros(0), np.zeros(0), np.zeros((0, len(values))), tuple(values[:, 0].tolist()))
    slopes = np.diff(values, axis=1) / np.diff(s)
    change = np.diff(slopes, axis=1, prepend=0.0)
    change[np.abs(change) < 1e-12 * np.abs(slopes).max(initial=1.0)] = 0.0
    used = np.flatnonzero(change.any(0))
    return Rows(np.full(len(used), float(side)), -s[used], change[:, used].T, tuple(values[:, 0].tolist()))


def _summable(rows: Rows, s: np.ndarray) -> bool:
    """Whether every sum of the neurons is one of whole numbers that float32 holds exactly, in any order."""
    most = float((np.abs(rows.ends(s[0], s[-1])).max(axis=0) * rows.heaviest).sum())
    return _whole(rows.weights) and _whole(np.array(rows.constants)) and most < EXACT


def _from_pivot(s: np.ndarray, values: np.ndarray) -> Rows:
    """Steps of width one between whole numbers, walked from the middle in both directions so that what is summed stays
    small; where steps follow one another their neurons are one."""
    change = np.diff(values, axis=1)
    heavy = np.abs(change).max(axis=0).cumsum()
    pivot = int(np.searchsorted(heavy, heavy[-1] / 2))
    weights: dict[tuple[int, float], np.ndarray] = {}
    for i in np.flatnonzero(change.any(0)):
        side = 1 if i >= pivot else -1
        edge, step = (s[i], change[:, i]) if side == 1 else (s[i + 1], -change[:, i])
        for place, sign in ((edge, 1.0), (edge + side, -1.0)):
            weights[side, place] = weights.get((side, place), 0.0) + sign * step
    used = [(side, place, w) for (side, place), w in sorted(weights.items(), key=lambda item: item[0]) if w.any()]
    return Rows(
        np.array([float(side) for side, _, _ in used]),
        np.array([-side * place for side, place, _ in used]) + 0.0,  # never −0
        np.array([w for _, _, w in used]).reshape(-1, len(values)),
        tuple(values[:, pivot].tolist()),
    )


def _steps(s: np.ndarray, values: np.ndarray, error: float, grid: float, pivot: int | None = None) -> Rows | None:
    """Two neurons for each change of value, walked in both directions from zero, or from the value at `pivot`."""
    change = np.diff(values, axis=1)
    used = np.flatnonzero(change.any(0))
    below, above, steps = s[used], s[used + 1], change[:, used].T
    gaps = above - below
    if ((gaps < 4 * (error - grid)) | (gaps < 2.0**-20 * np.maximum(np.abs(below), np.abs(above)))).any():
        return None
    slopes = np.array([2.0 ** math.ceil(math.log2(2 / gap)) for gap in gaps.tolist()])
    # Steps that are much flatter than others would be sums of much finer numbers.
    slopes = np.maximum(slopes, slopes.max(initial=0.0) / STEEPER)
    units = np.maximum(1 / GRID, 2 * slopes * grid)
    edges = np.round((slopes * (below + above) / 2 - 0.5) / units) * units + 0.0  # never −0
    # Below the pivot it is walked down from the upper value, which is what is then constant.
    down = edges < -0.5 if pivot is None else used < pivot
    constants = np.cumsum(np.column_stack([values[:, 0], steps[down].T]), axis=1)[:, -1]
    signs = np.where(down, -1.0, 1.0)
    edges = np.where(down, -edges - 1.0, edges)
    if pivot is None:
        edges = np.maximum(edges, 0.0)
    steps = signs[:, None] * steps
    return Rows(
        np.repeat(signs * slopes, 2),
        np.column_stack([-edges, -edges - 1.0]).ravel() + 0.0,
        np.stack([steps, -steps], axis=1).reshape(-1, len(values)),
        tuple(constants.tolist()),
    )


def candidates(levels: Sequence[Sequence[Level]]) -> list[Scalar]:
    """Scalars worth trying for arguments that can be seen in these ways: sums, differences, and mixed radix."""
    found: list[Scalar] = []
    numeric = [[v for v in own if v.exact and v.source in ("class", "number")] for own in levels]
    if len(levels) == 1:
        return [Scalar((level,), (1.0,)) for level in levels[0]]
    if all(numeric) and len(levels) <= 5:
        for chosen in dict.fromkeys((tuple(own[0] for own in numeric), tuple(own[-1] for own in numeric))):
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
