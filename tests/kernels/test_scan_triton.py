"""The scans' Triton kernels, run by Triton's interpreter, against the plain paths."""

import pytest
import torch
import torch.nn.functional as F

from microtome.kernels.scan import prefix_softmax, selective, ssd

triton = pytest.importorskip("triton", reason="Triton has no build for this platform")

pytestmark = pytest.mark.skipif(
    not triton.knobs.runtime.interpret, reason="TRITON_INTERPRET=1 was not set before Triton was imported"
)

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 3e-2, torch.float16: 4e-3}
every_dtype = pytest.mark.parametrize("dtype", TOLERANCE, ids=lambda dtype: str(dtype)[6:])


def relative(found, wanted) -> float:
    return ((found.double() - wanted).abs().max() / wanted.abs().max().clamp(min=1.0)).item()


def prefix_inputs(generator, n, d_v, dtype):
    scores = (30 * torch.randn(2, n, 2, generator=generator)).transpose(1, 2).to(dtype)
    return scores, torch.randn(2, 2, d_v, n, generator=generator).mT.to(dtype)


@pytest.mark.parametrize(("n", "d_v"), [(1, 1), (2, 16), (33, 5), (64, 40), (130, 16)])
def test_prefix_softmax_in_two_passes(n, d_v, generator):
    from microtome.kernels.scan import triton_prefix_softmax as kernel

    scores, values = prefix_inputs(generator, n, d_v, torch.float32)
    if n > 40:
        scores[0, 0, :35] = -torch.inf
    outputs, lse = kernel.forward(scores, values)
    assert relative(outputs, prefix_softmax.reference(scores.double(), values.double())) < 1e-5
    torch.testing.assert_close(lse, prefix_softmax.chunked(scores, values)[1], atol=1e-4, rtol=1e-5)


@every_dtype
def test_prefix_softmax_in_every_dtype(dtype, generator):
    from microtome.kernels.scan import triton_prefix_softmax as kernel

    scores, values = prefix_inputs(generator, 70, 24, dtype)
    outputs, _ = kernel.forward(scores, values)
    assert relative(outputs, prefix_softmax.reference(scores.double(), values.double())) < TOLERANCE[dtype]


def selective_inputs(generator, n, channels, states, dtype):
    def normal(*shape):
        return torch.randn(*shape, generator=generator)

    x, delta = normal(2, channels, n).mT, F.softplus(normal(2, n, channels))
    A = -4 * torch.rand(states, channels, generator=generator).T
    return selective.Inputs(*(t.to(dtype) for t in (x, delta, A, normal(2, n, states), normal(2, n, states))))


@pytest.mark.parametrize(
    ("n", "channels", "states", "dtype"),
    [
        (1, 1, 1, torch.float32),
        (16, 5, 3, torch.float32),
        (37, 9, 16, torch.float32),
        (20, 3, 64, torch.float32),
        (18, 4, 16, torch.bfloat16),
        (18, 4, 16, torch.float16),
    ],
)
def test_selective_scan_forwards_and_backwards(n, channels, states, dtype, generator):
    from microtome.kernels.scan import triton_selective as kernel

    inputs = selective_inputs(generator, n, channels, states, dtype)
    along = torch.randn(2, n, channels, generator=generator).to(dtype)
    wide = [each.double().requires_grad_() for each in inputs]
    wanted = selective.reference(*wide)
    y, starts = kernel.forward(inputs)
    assert starts.shape == (2, -(-n // kernel.CHUNK), channels, states)
    assert relative(y, wanted.detach()) < TOLERANCE[dtype]
    found = kernel.backward(inputs, starts, along)
    plain = torch.autograd.grad((wanted * along).sum(), wide, materialize_grads=True)
    for name, a, b in zip(inputs._fields, found, plain, strict=True):
        assert relative(a, b) < TOLERANCE[dtype], name


@pytest.mark.parametrize(("n", "states", "d_v"), [(1, 1, 1), (33, 4, 5), (70, 40, 16), (130, 16, 70)])
def test_ssd_with_shared_keys_and_strides(n, states, d_v, generator):
    from microtome.kernels.scan import triton_ssd as kernel

    q, k = (torch.randn(2, 1, n, states, generator=generator).expand(2, 3, n, states) for _ in range(2))
    v = torch.randn(2, n, 3, d_v, generator=generator).transpose(1, 2)
    log_decay = -torch.rand(2, n, 3, generator=generator).transpose(1, 2)
    if n > 40:
        log_decay[:, :, 35] = -torch.inf
    wanted = ssd.reference(*(each.double() for each in (q, k, v, log_decay)))
    assert relative(kernel.forward(q, k, v, log_decay), wanted) < 1e-5


@every_dtype
def test_ssd_in_every_dtype(dtype, generator):
    from microtome.kernels.scan import triton_ssd as kernel

    q, k, v = (torch.randn(1, 2, 90, 20, generator=generator).to(dtype) for _ in range(3))
    log_decay = -torch.rand(1, 2, 90, generator=generator)
    found = kernel.forward(q, k, v, log_decay)
    assert found.dtype == dtype
    assert relative(found, ssd.reference(*(each.double() for each in (q, k, v, log_decay)))) < TOLERANCE[dtype]


def test_what_the_kernels_take():
    from microtome.kernels.scan import triton_prefix_softmax, triton_selective, triton_ssd

    single, double = torch.zeros(1, 1, 2, 3), torch.zeros(1, 1, 2, 3, dtype=torch.float64)
    assert triton_prefix_softmax.supports(single)
    assert not triton_prefix_softmax.supports(double)
    assert triton_ssd.supports(single, single)
    assert not triton_ssd.supports(single, double)
    assert triton_selective.supports(single[0], torch.zeros(3, 128))
    assert not triton_selective.supports(single[0], torch.zeros(3, 129))
