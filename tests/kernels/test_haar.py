"""Orthogonal matrices drawn uniformly: orthonormal columns, and the law of their entries."""

import pytest
import torch
from scipy.stats import beta, kstest

from microtome.kernels.haar import haar

DIM = 5


@pytest.mark.parametrize("columns", [DIM, 4])
def test_columns_are_uniform(columns: int, generator: torch.Generator) -> None:
    """A coordinate of a uniform unit vector has square Beta(1/2, (d − 1)/2); Kolmogorov–Smirnov at 1e-6.

    2,000 draws see a shift of 6 % in the distribution function. The signs of R must be moved into Q for it to hold:
    without them the first coordinate of the first axis is always of one sign.
    """
    q = haar(2000, DIM, columns, generator)
    for row, column in ((0, 0), (2, 0), (0, 3), (4, columns - 1)):
        assert kstest(q[:, row, column].square(), beta(0.5, (DIM - 1) / 2).cdf).pvalue > 1e-6
        # A binomial count of 2,000 fair signs leaves 1000 ± 110 once in a million times.
        assert 890 <= int((q[:, row, column] > 0).sum()) <= 1110


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (4, 4), (6, 2)])
def test_columns_are_orthonormal_and_the_seed_decides(rows: int, columns: int) -> None:
    first, again, other = (haar(3, rows, columns, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    torch.testing.assert_close(first.mT @ first, torch.eye(columns, dtype=torch.float64).expand(3, -1, -1))
    assert torch.equal(first, again)
    assert rows == 1 or not torch.equal(first, other)


def test_more_columns_than_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="3 columns of 2 numbers cannot be orthonormal"):
        haar(1, 2, 3, torch.Generator())
