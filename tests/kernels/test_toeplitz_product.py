"""Toeplitz products by transform against the matrix written out, against SciPy, and inside linear attention."""

import pytest
import scipy.linalg
import torch

from microtome.kernels import toeplitz_product as kernel
from microtome.kernels.toeplitz import toeplitz
from microtome.kernels.toeplitz_product import relative_linear_attention, relative_linear_pattern, toeplitz_product


def normal(generator, *shape, dtype=torch.float64):
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("n", [1, 2, 63, 100, 257])
def test_the_product_is_that_of_the_matrix_and_scipy_s(generator, n) -> None:
    table, x = normal(generator, 2, 2 * n - 1), normal(generator, 3, 2, n, 4)
    y = toeplitz_product(table, x)
    torch.testing.assert_close(y, kernel.reference(table, x), atol=1e-11, rtol=1e-11)
    torch.testing.assert_close(kernel.reference(table, x), toeplitz(table) @ x)
    for h in range(2):
        row, column = table[h, n - 1 :].numpy(), table[h, :n].flip(0).numpy()
        peer = scipy.linalg.matmul_toeplitz((column, row), x[1, h].numpy())
        torch.testing.assert_close(y[1, h], torch.from_numpy(peer), atol=1e-11, rtol=1e-11)


def test_offsets_are_key_minus_query(generator) -> None:
    """t_{−1} = 1 alone reads the row before; a length-n circle would give row 0 the last one."""
    x = normal(generator, 1, 1, 6, 2)
    table = torch.zeros(1, 11, dtype=torch.float64)
    table[0, 4] = 1.0
    y = toeplitz_product(table, x)
    torch.testing.assert_close(y[0, 0, 1:], x[0, 0, :-1])
    torch.testing.assert_close(y[0, 0, 0], torch.zeros(2, dtype=torch.float64), atol=1e-14, rtol=0)


@pytest.mark.parametrize("shape", [(1, 1), (5, 7), (4, 1)], ids=str)
def test_grids_of_positions_have_two_offsets(generator, shape) -> None:
    height, width = shape
    table = normal(generator, 2, 2 * height - 1, 2 * width - 1)
    x = normal(generator, 2, 2, height * width, 3)
    y = torch.zeros_like(x)
    for i in range(height * width):
        for j in range(height * width):
            down, right = j // width - i // width, j % width - i % width
            y[:, :, i] += table[:, down + height - 1, right + width - 1, None] * x[:, :, j]
    torch.testing.assert_close(toeplitz_product(table, x), y, atol=1e-12, rtol=0)
    torch.testing.assert_close(kernel.reference(table, x), y, atol=1e-12, rtol=0)


def test_the_causal_product_ignores_later_rows_and_is_differentiable(generator) -> None:
    table, x = normal(generator, 1, 13).requires_grad_(), normal(generator, 1, 1, 7, 2).requires_grad_()
    lower = toeplitz(table)[0].tril()
    torch.testing.assert_close(toeplitz_product(table, x, causal=True)[0, 0], lower @ x[0, 0])
    assert torch.autograd.gradcheck(lambda t, x: toeplitz_product(t, x, causal=True), (table, x))
    assert torch.autograd.gradcheck(toeplitz_product, (table, x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_narrow_inputs_are_transformed_in_float32(generator, dtype) -> None:
    table, x = normal(generator, 2, 399, dtype=dtype), normal(generator, 1, 2, 200, 3, dtype=dtype)
    y = toeplitz_product(table, x)
    assert y.dtype == dtype
    exact = kernel.reference(table.double(), x.double())
    # A transform of length L errs by ε log₂ L of the two norms (Higham 2002, theorem 24.2); then comes one rounding.
    norms = table.double().norm(dim=-1).max() * x.double().norm(dim=2).max()
    bound = 9 * torch.finfo(torch.float32).eps * norms + torch.finfo(dtype).eps * exact.abs().max()
    assert (y.double() - exact).abs().max() <= bound


def features(generator, n, causal_heads=2, m=6, d=3, dtype=torch.float64):
    phi = normal(generator, 2, 2, causal_heads, n, m).exp().to(dtype)
    return phi[0], phi[1], normal(generator, 2, causal_heads, n, d, dtype=dtype)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("n", [1, 63, 100])
@pytest.mark.parametrize("held", [1 << 22, 1500], ids=["at once", "in parts"])
def test_linear_attention_by_transform_is_the_dense_one_with_its_gradients(
    generator, monkeypatch, causal, n, held
) -> None:
    monkeypatch.setattr(kernel, "HELD", held)
    phi_q, phi_k, v = features(generator, n)
    b = normal(generator, 2, 2 * n - 1)
    upstream = torch.randn(v.shape, generator=generator, dtype=torch.float64)
    found = []
    for attend in (
        lambda q, k, v, b: relative_linear_attention(q, k, v, b, causal=causal),
        lambda q, k, v, b: relative_linear_pattern(q, k, b, causal=causal) @ v,
    ):
        leaves = [t.clone().requires_grad_() for t in (phi_q, phi_k, v, b)]
        z = attend(*leaves)
        found.append((z, *torch.autograd.grad(z, leaves, upstream)))
    for fast, plain in zip(*found, strict=True):
        torch.testing.assert_close(fast, plain, atol=1e-10, rtol=1e-8)


@pytest.mark.parametrize("scale", [1.0, 3.0, 10.0])
@pytest.mark.parametrize("causal", [False, True])
def test_large_log_weights_cost_no_accuracy(generator, scale, causal) -> None:
    """Alone in float32, b ~ 10·N(0, 1) would lose four digits of the rows that see small weights only."""
    phi_q, phi_k, v = features(generator, 257, dtype=torch.float32)
    b = scale * normal(generator, 2, 513, dtype=torch.float32)
    exact = relative_linear_pattern(phi_q.double(), phi_k.double(), b.double(), causal=causal) @ v.double()
    found = relative_linear_attention(phi_q, phi_k, v, b, causal=causal)
    assert found.dtype == torch.float32
    assert (found - exact).abs().max() < 2e-5


def test_rows_that_see_no_key_are_zero(generator) -> None:
    phi_q, phi_k, v = features(generator, 80)
    b = normal(generator, 2, 159)
    phi_k[:, :, :5] = 0.0
    z = relative_linear_attention(phi_q, phi_k, v, b, causal=True)
    assert (z[:, :, :5] == 0).all()
    torch.testing.assert_close(z, relative_linear_pattern(phi_q, phi_k, b, causal=True) @ v, atol=1e-10, rtol=1e-8)
    assert (relative_linear_attention(phi_q, 0 * phi_k, v, b) == 0).all()


def test_a_grid_in_linear_attention(generator) -> None:
    phi_q, phi_k, v = features(generator, 12)
    b = normal(generator, 2, 5, 7)
    pattern = relative_linear_pattern(phi_q, phi_k, b)
    torch.testing.assert_close(pattern.sum(-1), torch.ones_like(pattern[..., 0]))
    torch.testing.assert_close(relative_linear_attention(phi_q, phi_k, v, b), pattern @ v)


def test_bad_tables_are_refused() -> None:
    x = torch.zeros(1, 1, 6, 2)
    for offsets in [(12,), (13,), (5, 4), (5, 5)]:
        with pytest.raises(ValueError, match="does not belong to 6 positions: an axis of n positions has 2n − 1"):
            toeplitz_product(torch.zeros(1, *offsets), x)
    with pytest.raises(ValueError, match="no order to be causal in"):
        toeplitz_product(torch.zeros(1, 3, 5), x, causal=True)
