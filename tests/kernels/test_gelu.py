"""The sigmoid form of GELU against the printed one and torch's."""

import pytest
import torch
import torch.nn.functional as F

from microtome.kernels import gelu as kernel
from microtome.kernels.gelu import gelu

SHAPES = ((), (1,), (7,), (3, 0, 4), (63, 100), (2, 3, 5, 7))


def both(f, x):
    """Value and gradient of the sum."""
    x = x.detach().clone().requires_grad_()
    y = f(x)
    return y.detach(), torch.autograd.grad(y.sum(), x)[0]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_value_and_gradient_are_those_of_the_printed_form(generator, shape, dtype) -> None:
    x = 3 * torch.randn(shape, generator=generator, dtype=dtype)
    # The float32 gradient sums terms of size 3, so it is good to some ulp of those.
    atol = {torch.float64: (1e-14, 1e-13), torch.float32: (1e-6, 4e-6)}[dtype]
    found, expected = both(gelu, x), both(kernel.reference, x.double())
    for got, want, tolerance in zip(found, expected, atol, strict=True):
        assert got.dtype == dtype
        assert got.shape == x.shape
        torch.testing.assert_close(got.double(), want, atol=tolerance, rtol=0.0)
    with torch.no_grad():
        torch.testing.assert_close(gelu(x), found[0], atol=1e-6, rtol=0.0)


def test_parity_with_torch_in_float32() -> None:
    x = torch.linspace(-12, 12, 100_001)
    found, expected = both(gelu, x), both(lambda x: F.gelu(x, approximate="tanh"), x)
    torch.testing.assert_close(found[0], expected[0], atol=1e-6, rtol=0.0)
    torch.testing.assert_close(found[1], expected[1], atol=4e-6, rtol=0.0)


def test_tails() -> None:
    x = torch.tensor([-1e6, -100.0, 0.0, 100.0, 1e6, float("nan")])
    y, slope = both(gelu, x)
    assert torch.equal(y[:5], torch.tensor([0.0, 0.0, 0.0, 100.0, 1e6]))
    assert torch.equal(slope[:5], torch.tensor([0.0, 0.0, 0.5, 1.0, 1.0]))
    assert y[5].isnan()
    assert slope[5].isnan()


def test_derivatives_of_any_order(generator) -> None:
    x = torch.randn(5, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(gelu, x)
    assert torch.autograd.gradgradcheck(gelu, x, torch.ones(5, dtype=torch.float64))
    third = torch.func.grad(torch.func.grad(torch.func.grad(lambda t: gelu(t))))
    expected = torch.func.grad(torch.func.grad(torch.func.grad(kernel.reference)))
    torch.testing.assert_close(third(x[0].detach()), expected(x[0].detach()), atol=1e-12, rtol=1e-12)


def test_function_transforms(generator) -> None:
    x = torch.randn(4, 3, generator=generator, dtype=torch.float64)
    for transform in (torch.func.hessian, torch.func.jacrev, torch.func.jacfwd, torch.func.grad):
        want = torch.func.vmap(transform(lambda t: kernel.reference(t).sum()))(x)
        torch.testing.assert_close(torch.func.vmap(transform(lambda t: gelu(t).sum()))(x), want, atol=1e-12, rtol=1e-12)


def test_inputs_are_left_alone_and_strides_do_not_matter(generator) -> None:
    x = torch.randn(20, 30, generator=generator).mT
    kept = x.clone()
    y, slope = both(gelu, x)
    assert torch.equal(x, kept)
    again = both(gelu, x.contiguous())
    # Vector lanes and their scalar rest round the last bit each in their own way.
    torch.testing.assert_close(y, again[0], atol=1e-6, rtol=0.0)
    torch.testing.assert_close(slope, again[1], atol=4e-6, rtol=0.0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_and_the_exact_form_are_torchs(generator, dtype) -> None:
    x = torch.randn(50, generator=generator)
    assert torch.equal(gelu(x.to(dtype)), F.gelu(x.to(dtype), approximate="tanh"))
    assert torch.equal(gelu(x, approximate="none"), F.gelu(x))


def test_another_approximation_is_refused() -> None:
    with pytest.raises(ValueError, match=r"approximate must be 'tanh' or 'none', not 'quick'") as raised:
        # Below the shape checker, which would refuse the word first.
        gelu.__wrapped__(torch.zeros(2), approximate="quick")
    assert "\n" not in str(raised.value)
