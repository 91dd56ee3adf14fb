"""Toeplitz matrices against their entries."""

import pytest
import torch

from microtome.kernels import toeplitz as kernel
from microtome.kernels.toeplitz import toeplitz


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("n", [1, 2, 63])
def test_entries(generator, n, dtype) -> None:
    table = torch.randn(2, 2 * n - 1, generator=generator).to(dtype)
    assert torch.equal(toeplitz(table), kernel.reference(table))


def test_long_tables_hold_one_value_on_every_diagonal(generator) -> None:
    n = 257
    table = torch.randn(2, 2 * n - 1, generator=generator)
    matrix = toeplitz(table)
    for offset in (-n + 1, -3, 0, 1, n - 1):
        on = torch.diagonal(matrix, offset, dim1=1, dim2=2)
        assert torch.equal(on, table[:, offset + n - 1, None].expand_as(on))


@pytest.mark.parametrize("queries", [None, [4, 0, 4, 2]], ids=["all", "some"])
def test_the_gradient_sums_along_diagonals(generator, queries) -> None:
    n = 5
    table = torch.randn(2, 2 * n - 1, generator=generator, dtype=torch.float64, requires_grad=True)
    rows = torch.arange(n) if queries is None else torch.tensor(queries)
    chosen = None if queries is None else rows
    upstream = torch.randn(2, len(rows), n, generator=generator, dtype=torch.float64)
    (slope,) = torch.autograd.grad(toeplitz(table, chosen), table, upstream)
    expected = torch.zeros_like(slope)
    for i, row in enumerate(rows.tolist()):
        for j in range(n):
            expected[:, j - row + n - 1] += upstream[:, i, j]
    torch.testing.assert_close(slope, expected, atol=1e-13, rtol=1e-13)
    assert torch.autograd.gradcheck(lambda t: toeplitz(t, chosen), table)


def test_some_rows_are_those_of_the_whole(generator) -> None:
    table = torch.randn(3, 19, generator=generator).repeat_interleave(2, 1)[:, ::2]
    rows = torch.tensor([9, 9, 0, 4])
    assert torch.equal(toeplitz(table, rows), toeplitz(table.contiguous())[:, rows])
    assert toeplitz(table, rows[:0]).shape == (3, 0, 10)
    assert toeplitz(table[:0]).shape == (0, 10, 10)


def test_bad_tables_and_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="an odd number, not 4"):
        toeplitz(torch.zeros(1, 4))
    for rows in ([0, 3], [-1, 2]):
        with pytest.raises(ValueError, match=r"queries must be rows 0 … 2, not"):
            toeplitz(torch.zeros(1, 5), torch.tensor(rows))
