"""State-space duality: attention under a decay, chunks and recurrence are one thing, with one set of gradients."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from microtome.kernels.scan import ssd

NAMES = ("q", "k", "v", "log_decay")
FORMS = {"chunked": ssd.ssd, "recurrent": ssd.recurrent}


def draw(seed, n=9, heads=2, states=3, d_v=4, dtype=torch.float64, decay=1.0):
    generator = torch.Generator().manual_seed(seed)
    q, k = (torch.randn(2, heads, n, states, generator=generator, dtype=torch.float64) for _ in range(2))
    v = torch.randn(2, heads, n, d_v, generator=generator, dtype=torch.float64)
    log_decay = -decay * torch.rand(2, heads, n, generator=generator, dtype=torch.float64)
    return [each.to(dtype) for each in (q, k, v, log_decay)]


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("n", [1, 2, 63, 64, 65, 150])
def test_every_form_is_the_quadratic_one_with_its_gradients(form, n):
    inputs = [each.requires_grad_() for each in draw(n, n=n)]
    found, wanted = form(*inputs), ssd.reference(*inputs)
    torch.testing.assert_close(found, wanted, atol=1e-11, rtol=1e-11)
    along = draw(n + 1, n=n)[2]
    pairs = zip(
        NAMES,
        torch.autograd.grad((found * along).sum(), inputs),
        torch.autograd.grad((wanted * along).sum(), inputs),
        strict=True,
    )
    for name, a, b in pairs:
        torch.testing.assert_close(a, b, atol=1e-10, rtol=1e-9, msg=lambda text, name=name: f"d{name}: {text}")


@given(n=st.integers(1, 60), chunk=st.integers(1, 30), seed=st.integers(0, 2**31))
@settings(max_examples=25)
def test_chunks_of_any_length_give_the_whole(n, chunk, seed):
    inputs = draw(seed, n=n, decay=20.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ssd, "CHUNK", chunk)
        torch.testing.assert_close(ssd.ssd(*inputs), ssd.reference(*inputs), atol=1e-11, rtol=1e-11)


def test_an_empty_input_gives_an_empty_output():
    assert ssd.ssd(*draw(0, n=0)).shape == (2, 2, 0, 4)


def test_gradients_by_finite_differences(monkeypatch):
    monkeypatch.setattr(ssd, "CHUNK", 3)
    assert torch.autograd.gradcheck(ssd.ssd, tuple(each.requires_grad_() for each in draw(1, n=5, heads=1, d_v=2)))


def test_no_decay_is_causal_linear_attention_without_normaliser():
    q, k, v, log_decay = draw(2, n=100)
    running = torch.einsum("bhns,bhnd->bhnsd", k, v).cumsum(2)
    linear = torch.einsum("bhns,bhnsd->bhnd", q, running)
    torch.testing.assert_close(ssd.ssd(q, k, v, torch.zeros_like(log_decay)), linear, atol=1e-10, rtol=1e-10)


def test_a_constant_decay_is_retention():
    q, k, v, _ = draw(3, n=80)
    gamma = torch.tensor([0.9, 0.97], dtype=torch.float64)
    lag = torch.arange(80)[:, None] - torch.arange(80)
    decay = (gamma[:, None, None] ** lag.clamp(min=0)).tril()
    wanted = (q @ k.mT * decay) @ v
    found = ssd.ssd(q, k, v, gamma.log()[:, None].expand(2, -1, 80))
    torch.testing.assert_close(found, wanted, atol=1e-11, rtol=1e-11)


def test_a_decay_of_zero_empties_the_state_without_a_nan():
    q, k, v, log_decay = draw(4, n=100)
    log_decay[:, :, 70] = -torch.inf
    inputs = [each.requires_grad_() for each in (q, k, v, log_decay)]
    found = ssd.ssd(*inputs)
    alone = ssd.ssd(*(each[:, :, 70:] for each in inputs))
    torch.testing.assert_close(found[:, :, 70:], alone, atol=1e-12, rtol=1e-12)
    gradients = torch.autograd.grad(found[:, :, 80].sum(), inputs)
    assert all(torch.isfinite(each).all() for each in gradients)
    assert (gradients[2][:, :, :70] == 0).all()


def test_segment_sums_keep_short_ones_after_long_ones():
    """A difference of two long sums in float16 has lost the last step; the masked sum has it exactly."""
    log_decay = torch.full((2000,), -16.0).half()
    log_decay[-1] = -0.125
    assert ssd.segment_sums(log_decay)[-1, -2] == -0.125
    total = log_decay.cumsum(0)
    assert total[-1] - total[-2] != -0.125


def test_off_diagonal_blocks_have_at_most_the_rank_of_the_state():
    q, k, _, log_decay = draw(5, n=30)
    matrix = ssd.matrix(q, k, log_decay)
    for cut in (5, 15, 25):
        assert torch.linalg.matrix_rank(matrix[..., cut:, :cut], rtol=1e-10).max() <= 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_narrow_types_keep_their_type_and_sum_in_float32(dtype):
    inputs = draw(6, n=200, dtype=dtype)
    found = ssd.ssd(*inputs)
    assert found.dtype == dtype
    wanted = ssd.reference(*(each.double() for each in inputs))
    scale = wanted.abs().max().item()
    torch.testing.assert_close(found.double(), wanted, atol=8 * scale * torch.finfo(dtype).eps, rtol=0)


def test_what_does_not_fit_gets_a_sentence(untyped):
    q, k, v, log_decay = draw(0)
    with pytest.raises(ValueError, match=r"q must have the batch, heads and positions of v, \[2, 2, 9\], not"):
        ssd.ssd(q[:, :, :8], k, v, log_decay)
    with pytest.raises(ValueError, match="states of one width, not 2 and 3"):
        ssd.ssd(q[..., :2], k, v, log_decay)
