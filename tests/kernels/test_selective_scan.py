"""The selective scan (S6): segments against the step-by-step recurrence, gradients too, and what it generalises."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from microtome.kernels.scan import selective

NAMES = ("x", "delta", "A", "B", "C")


def draw(seed, batch=2, n=9, channels=3, states=2, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    x, B, C = normal(batch, n, channels), normal(batch, n, states), normal(batch, n, states)
    delta, A = F.softplus(normal(batch, n, channels) - 1), -F.softplus(normal(channels, states)) * 3
    return [each.to(dtype) for each in (x, delta, A, B, C)]


@given(seed=st.integers(0, 2**31))
@settings(max_examples=25)
def test_the_operator_is_associative(seed):
    generator = torch.Generator().manual_seed(seed)
    x, y, z = (tuple(torch.rand(6, generator=generator, dtype=torch.float64) for _ in range(2)) for _ in range(3))
    left = selective.compose(selective.compose(x, y), z)
    right = selective.compose(x, selective.compose(y, z))
    for a, b in zip(left, right, strict=True):
        torch.testing.assert_close(a, b, atol=1e-15, rtol=1e-14)


@given(n=st.integers(0, 90), segment=st.integers(1, 40), seed=st.integers(0, 2**31))
@settings(max_examples=40)
def test_segments_of_any_length_give_the_recurrence(n, segment, seed):
    inputs = draw(seed, n=n)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(selective, "SHORTEST_SEGMENT", segment)
        patch.setattr(selective, "SEGMENT_ELEMENTS", 1)
        found = selective.selective_scan(*inputs)
    torch.testing.assert_close(found, selective.reference(*inputs), atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("n", [1, 2, 17, 64])
@pytest.mark.parametrize("segment", [1, 5, 16])
def test_gradients_are_those_of_the_recurrence(n, segment, monkeypatch):
    monkeypatch.setattr(selective, "SHORTEST_SEGMENT", segment)
    monkeypatch.setattr(selective, "SEGMENT_ELEMENTS", 1)
    inputs = [each.requires_grad_() for each in draw(n, n=n)]
    along = draw(n + 1, n=n)[0]
    mine = torch.autograd.grad((selective.selective_scan(*inputs) * along).sum(), inputs)
    plain = torch.autograd.grad((selective.reference(*inputs) * along).sum(), inputs, materialize_grads=True)
    for name, a, b in zip(NAMES, mine, plain, strict=True):
        torch.testing.assert_close(a, b, atol=1e-11, rtol=1e-10, msg=lambda text, name=name: f"d{name}: {text}")


def test_gradients_by_finite_differences():
    inputs = tuple(each.requires_grad_() for each in draw(3, batch=1, n=5, channels=2))
    assert torch.autograd.gradcheck(selective.selective_scan, inputs)


@pytest.mark.parametrize("n", [1, 12])
def test_the_matrix_of_every_channel_is_the_scan(n):
    x, *rest = draw(4, n=n)
    matrix = selective.effective_matrix(*rest)
    y = torch.einsum("bcqk,bkc->bqc", matrix, x)
    torch.testing.assert_close(y, selective.reference(x, *rest), atol=1e-12, rtol=1e-12)
    assert (matrix.triu(1) == 0).all()


def test_off_diagonal_blocks_of_the_matrix_have_at_most_the_rank_of_the_state():
    _, *rest = draw(5, batch=1, n=24, states=3)
    for cut in (4, 12, 20):
        block = selective.effective_matrix(*rest)[0, :, cut:, :cut]
        assert torch.linalg.matrix_rank(block, rtol=1e-10).max() <= 3


def test_constant_steps_and_maps_make_it_a_convolution_by_fft():
    x, _, A, B, C = draw(6, n=50)
    delta = torch.full_like(x, 0.3)
    B, C = B[:, :1].expand(-1, 50, -1), C[:, :1].expand(-1, 50, -1)
    kernel = torch.einsum("bn,bn,lcn->blc", B[:, 0], C[:, 0], (0.3 * A * torch.arange(50)[:, None, None]).exp()) * 0.3
    spectrum = torch.fft.rfft(kernel, n=100, dim=1) * torch.fft.rfft(x, n=100, dim=1)
    convolved = torch.fft.irfft(spectrum, n=100, dim=1)[:, :50]
    torch.testing.assert_close(selective.selective_scan(x, delta, A, B, C), convolved, atol=1e-12, rtol=1e-10)


def test_a_step_of_zero_leaves_the_state_as_it_is():
    x, delta, A, B, C = draw(7, n=20)
    keep = torch.ones(20, dtype=torch.bool)
    keep[[3, 4, 11]] = False
    held = selective.selective_scan(x, delta * keep[:, None], A, B, C)
    short = selective.selective_scan(x[:, keep], delta[:, keep], A, B[:, keep], C[:, keep])
    torch.testing.assert_close(held[:, keep], short, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_narrow_types_keep_their_type_and_sum_in_float32(dtype):
    inputs = draw(8, n=200, dtype=dtype)
    found = selective.selective_scan(*inputs)
    assert found.dtype == dtype
    wanted = selective.reference(*(each.double() for each in inputs))
    scale = wanted.abs().max().item()
    torch.testing.assert_close(found.double(), wanted, atol=8 * scale * torch.finfo(dtype).eps, rtol=0)


def test_what_does_not_fit_gets_a_sentence(untyped):
    x, delta, A, B, C = draw(0)
    with pytest.raises(ValueError, match=r"delta must be \[2, 9, 3\] beside x .* not \[2, 8, 3\]"):
        selective.selective_scan(x, delta[:, :8], A, B, C)
    with pytest.raises(ValueError, match=r"B must be \[2, 9, 2\] .* not \[2, 9, 1\]"):
        selective.selective_scan(x, delta, A, B[..., :1], C)
