"""The Legendre memory against its recurrence and against the window that it is to hold."""

import numpy as np
import pytest
import torch
from scipy.signal import cont2discrete, lsim

from microtome.kernels import legendre_memory as kernel


def noise(generator, batch, n, dtype=torch.float64):
    return torch.randn(batch, n, generator=generator, dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("convolve", [kernel.by_product, kernel.by_transform, kernel.legendre_memory])
@pytest.mark.parametrize("n", [1, 63, 100, 257])
@pytest.mark.parametrize(("d", "theta"), [(1, 1.0), (8, 64.0), (256, 128.0)])
def test_convolution_is_the_recurrence_with_its_gradient(convolve, n, d, theta, generator):
    a_bar, b_bar = kernel.system(d, theta)
    u = noise(generator, 2, n).requires_grad_()
    wanted, found = kernel.reference(u, a_bar, b_bar), convolve(u, kernel.impulse_response(a_bar, b_bar, n))
    torch.testing.assert_close(found, wanted, atol=1e-11, rtol=0)
    upstream = noise(generator, 2, n * d).view_as(found)
    (slope,) = torch.autograd.grad(found, u, upstream)
    (expected,) = torch.autograd.grad(wanted, u, upstream)
    torch.testing.assert_close(slope, expected, atol=1e-10, rtol=0)


@pytest.mark.parametrize(("n", "path"), [(300, "by_product"), (513, "by_transform")])
def test_single_precision_stays_within_1e_5_on_either_path(n, path, generator):
    a_bar, b_bar = kernel.system(256, 128.0)
    u = noise(generator, 2, n)
    wanted = kernel.reference(u, a_bar, b_bar)
    response = kernel.impulse_response(a_bar, b_bar, n).float()
    for found in (getattr(kernel, path)(u.float(), response), kernel.legendre_memory(u.float(), response)):
        torch.testing.assert_close(found.double(), wanted, atol=1e-5, rtol=0)


def test_the_transform_does_not_wrap_around(generator):
    a_bar, b_bar = kernel.system(4, 600.0)
    u = torch.zeros(1, 512, dtype=torch.float64)
    u[0, -1] = 1.0
    memory = kernel.by_transform(u, kernel.impulse_response(a_bar, b_bar, 512))
    assert memory[0, :-1].abs().max() < 1e-14
    torch.testing.assert_close(memory[0, -1], b_bar, atol=1e-14, rtol=0)


@pytest.mark.parametrize(("d", "theta"), [(1, 2.0), (8, 64.0), (256, 128.0), (512, 128.0), (468, 784.0)])
def test_the_system_is_stable(d, theta):
    assert torch.linalg.eigvals(kernel.system(d, theta)[0]).abs().max() < 1


def test_the_hold_is_the_continuous_system_under_a_staircase(generator):
    """ẋ = Ax + Bu integrated by SciPy over an input that is constant on each unit of time."""
    d, theta, n = 6, 20.0, 15
    a_bar, b_bar = kernel.system(d, theta)
    i, j = np.indices((d, d))
    a = (2 * i + 1) / theta * np.where(i < j, -1.0, (-1.0) ** (i - j + 1))
    b = ((2 * np.arange(d) + 1) / theta * (-1.0) ** np.arange(d))[:, None]
    u = noise(generator, 1, n)
    fine = 200
    times = np.arange(n * fine + 1) / fine
    held = np.append(np.repeat(u[0].numpy(), fine), u[0, -1].item())
    _, _, states = lsim((a, b, np.eye(d), np.zeros((d, 1))), held, times, interp=False)
    found = kernel.reference(u, a_bar, b_bar)[0].numpy()
    np.testing.assert_allclose(states[fine::fine], found, atol=1e-9)
    bilinear = cont2discrete((a, b, np.eye(d), np.zeros((d, 1))), 1.0, method="bilinear")[0]
    assert np.abs(bilinear - a_bar.numpy()).max() > 1e-4, "another rule of discretisation would be seen"


def test_the_read_out_gives_back_the_window(generator):
    """A slow sinusoid, of which the window holds two thirds of a period."""
    d, theta = 8, 64.0
    t = torch.arange(400, dtype=torch.float64)
    u = torch.sin(2 * torch.pi * t / 90)[None]
    memory = kernel.reference(u, *kernel.system(d, theta))
    delays = torch.tensor([0.0, 16.0, 32.0, 64.0])
    read = memory[0] @ kernel.read_out(d, theta, delays).T
    for column, delay in enumerate(delays.int().tolist()):
        # Zero-order hold delays the input by half a step.
        wanted = torch.sin(2 * torch.pi * (t - delay + 0.5) / 90)
        assert (read[200:, column] - wanted[200:]).abs().max() < 0.05


def test_bad_sizes_are_refused():
    for d, theta in ((0, 4.0), (3, 0.0), (3, float("inf")), (3, float("nan"))):
        with pytest.raises(ValueError, match="d >= 1 states and a window"):
            kernel.system(d, theta)
    response = kernel.impulse_response(*kernel.system(2, 4.0), 5)
    for n in (0, 6):
        with pytest.raises(ValueError, match=f"the input has {n} positions"):
            kernel.legendre_memory(torch.zeros(1, n, dtype=torch.float64), response)
    with pytest.raises(ValueError, match="delays must lie in the window"):
        kernel.read_out(4, 8.0, torch.tensor([9.0]))
