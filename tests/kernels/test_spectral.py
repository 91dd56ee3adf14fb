"""Power iteration and the norm of a thin product against a full decomposition."""

import pytest
import torch

from microtome.kernels import spectral


def sigma(weight, u, v):
    return v @ weight @ u


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (5, 1), (20, 30), (30, 20)], ids=str)
def test_power_steps_converge_to_the_largest_singular_value(generator, shape) -> None:
    weight = torch.randn(shape, generator=generator, dtype=torch.float64)
    u = torch.nn.functional.normalize(torch.randn(shape[1], generator=generator, dtype=torch.float64), dim=0)
    previous = 0.0
    for _ in range(600):
        u, v = spectral.power_step(weight, u)
        estimate = float(sigma(weight, u, v))
        # vᵀWu = ‖Wᵀv‖ never falls from one step to the next, and never passes the norm.
        assert previous - 1e-12 <= estimate <= float(spectral.reference(weight)) + 1e-12
        previous = estimate
    for vector in (u, v):
        torch.testing.assert_close(vector.norm(), torch.ones((), dtype=torch.float64))
    assert estimate == pytest.approx(float(spectral.reference(weight)), rel=1e-6)


def test_one_step_from_the_top_singular_vector_stays_there(generator) -> None:
    weight = torch.randn(12, 9, generator=generator, dtype=torch.float64)
    left, norms, right = torch.linalg.svd(weight)
    u, v = spectral.power_step(weight, right[0])
    torch.testing.assert_close(u, right[0], atol=1e-12, rtol=0.0)
    torch.testing.assert_close(v, left[:, 0], atol=1e-12, rtol=0.0)
    torch.testing.assert_close(sigma(weight, u, v), norms[0], atol=1e-12, rtol=0.0)


def test_the_slope_of_the_estimate_is_the_outer_product(generator) -> None:
    weight = torch.randn(6, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    u, v = spectral.power_step(weight.detach(), torch.ones(4, dtype=torch.float64) / 2)
    (slope,) = torch.autograd.grad(sigma(weight, u, v), weight)
    torch.testing.assert_close(slope, torch.outer(v, u), atol=1e-14, rtol=0.0)


def test_a_zero_weight_has_norm_zero_and_no_nan() -> None:
    u, v = spectral.power_step(torch.zeros(3, 4), torch.ones(4) / 2)
    assert torch.equal(u, torch.zeros(4))
    assert torch.equal(v, torch.zeros(3))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", [(0, 8, 3), (1, 1, 1), (3, 8, 3), (2, 64, 16), (2, 3, 8)], ids=str)
def test_norm_of_a_thin_product(generator, shape, dtype) -> None:
    left, right = (torch.randn(shape, generator=generator).to(dtype) for _ in range(2))
    expected = torch.linalg.matrix_norm(left.double() @ right.double().mT, 2)
    found = spectral.product_norm(left, right)
    assert found.dtype == dtype
    tolerance = {torch.float64: 1e-12, torch.float32: 2e-6, torch.bfloat16: 4e-3}[dtype]
    torch.testing.assert_close(found.double(), expected, atol=0.0, rtol=tolerance)


def test_rank_deficient_and_strided_factors(generator) -> None:
    left = torch.randn(2, 4, 10, generator=generator, dtype=torch.float64).mT
    left[..., 1] = left[..., 0]
    right = torch.zeros(2, 10, 4, dtype=torch.float64)
    right[0, 3, 2] = 5.0
    expected = torch.linalg.matrix_norm(left @ right.mT, 2)
    torch.testing.assert_close(spectral.product_norm(left, right), expected, atol=1e-14, rtol=1e-12)
