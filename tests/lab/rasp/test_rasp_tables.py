"""Neurons for tables, evaluated in float32 with their sums in any order: exact, or refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microtome.lab.rasp.compiler.slices import sliced
from microtome.lab.rasp.compiler.tables import Level, Rows, Scalar, _steps, candidates, rows_of, sums_exactly


def number(n: int) -> Level:
    return Level(np.arange(n, dtype=float), True, 0.0, "number")


def in_float32(rows: Rows, s: float, order: np.ndarray, constants: np.ndarray | None = None) -> np.ndarray:
    """Each function at s, as a processor that adds the terms one by one in this order has it."""
    constants = np.array([rows.constants]) if constants is None else constants
    before = np.float32(rows.slopes) * np.float32(s) + np.float32(rows.biases)
    terms = np.maximum(before, np.float32(0))[:, None] * np.float32(rows.weights)
    terms = np.concatenate([terms, np.float32(constants)])
    return np.cumsum(terms[order], axis=0, dtype=np.float32)[-1]


def assert_exact(rows: Rows, scalar: Scalar, functions: list[np.ndarray], draw: np.random.Generator, base=None) -> None:
    """With `base`, the constants are those of another slice and the jump from there."""
    constants = np.array([rows.constants] if base is None else [base, np.subtract(rows.constants, base)])
    order = draw.permutation(rows.n_neurons + len(constants))
    for place in np.ndindex(functions[0].shape):
        found = in_float32(rows, scalar.values[place], order, constants)
        wanted = np.array([f[place] for f in functions])
        known = ~np.isnan(wanted)
        assert np.array_equal(found[known], np.float32(wanted[known])), place


@settings(max_examples=60)
@given(
    sizes=st.tuples(st.integers(2, 24), st.integers(2, 24)),
    size=st.sampled_from([2, 10, 1_000, 100_000, 10_000_000]),
    smooth=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_whole_tables_over_two_ranges_are_exact_in_any_order_or_not_made(sizes, size, smooth, seed):
    draw = np.random.default_rng(seed)
    table = draw.integers(-size, size, sizes).astype(float)
    if smooth:
        table = np.add.outer(np.arange(sizes[0]), np.arange(sizes[1])) % 7.0 * draw.integers(1, size)
    table[draw.random(sizes) < 0.1] = np.nan
    levels = [[number(n)] for n in sizes]
    for scalar in candidates(levels):
        rows = rows_of(scalar, [table])
        if rows is not None:
            assert_exact(rows, scalar, [table], draw)
    found = sliced(levels, [table])
    for i, rows in enumerate(() if found is None else found.rows):
        if rows is not None:
            assert_exact(rows, found.scalar, [np.moveaxis(table, found.axis, 0)[i]], draw, found.base)


def test_what_one_sum_cannot_carry_slices_do():
    i, n = np.indices((256, 256))
    table = (i + 37) % (n + 1.0)
    levels = [[number(256)], [number(256)]]
    assert all(rows_of(scalar, [table]) is None for scalar in candidates(levels))
    assert sliced(levels, [table]) is not None


def test_slices_that_are_too_far_apart_are_refused():
    """Both rows are exact alone; the jump from one to the other is no number of float32."""
    table = np.array([[10_066_330.0, 10_066_331.0], [-10_066_331.0, -10_066_333.0]])
    levels = [[number(2)], [number(2)]]
    assert all(rows_of(Scalar((number(2),), (1.0,)), [row]) is not None for row in table)
    assert sliced(levels, [table]) is None
    assert sliced(levels, [table[[0, 0]] - [[0], [1]]]) is not None


@pytest.mark.parametrize("weight", [1.0, 2.0**12, 2.0**20])
def test_steps_far_from_zero_are_walked_from_the_middle(weight):
    scalar = Scalar((number(300),), (1.0,))
    table = weight * (np.arange(300) // 3 % 2.0)
    rows = rows_of(scalar, [table])
    if rows is not None:
        assert_exact(rows, scalar, [table], np.random.default_rng(0))
    assert (rows is None) == (weight == 2.0**20)


@settings(max_examples=60)
@given(
    shares=st.sets(st.integers(1, 80), min_size=2, max_size=60),
    pivot=st.sampled_from([None, 0, 3, 30, 60]),
    seed=st.integers(0, 2**31),
)
def test_steps_read_a_rounded_number_exactly_wherever_they_are_walked_from(shares, pivot, seed):
    draw = np.random.default_rng(seed)
    s = np.sort(1.0 / np.array(sorted(shares)))
    grid = 2.0 ** np.floor(np.log2(np.diff(s).min() / 16))
    scalar = Scalar((Level(s, False, grid, "mean", grid),), (1.0,))
    table = draw.integers(-5, 60, len(s)).astype(float)
    rows = _steps(s, table[None], scalar.error, grid, pivot)
    if rows is None or not sums_exactly(scalar, rows):
        return
    order = draw.permutation(rows.n_neurons + 1)
    for value, wanted in zip(s + draw.uniform(-0.9, 0.9, len(s)) * grid, table, strict=True):
        assert in_float32(rows, np.round(value / grid) * grid, order)[0] == wanted
