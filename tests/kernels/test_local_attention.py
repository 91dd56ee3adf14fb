"""Attention to nearby keys against softmax with everything else closed."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from microtome.kernels.local_attention import block_attention, in_block, in_window, reference, window_attention


def heads(n, seed=0, batch=2, head=3, width=4, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return tuple(
        torch.randn(batch, head, n, width, generator=generator, dtype=dtype).requires_grad_() for _ in range(3)
    )


def terms(n, seed, masked, biased, batch=2, head=3):
    generator = torch.Generator().manual_seed(seed + 1)
    mask = torch.rand(batch, n, generator=generator) < 0.7 if masked else None
    bias = torch.randn(head, n, n, generator=generator, dtype=torch.float64).requires_grad_() if biased else None
    return {"mask": mask, "bias": bias}


def agree(fast, slow, inputs):
    torch.testing.assert_close(fast, slow, atol=1e-11, rtol=1e-9)
    along = torch.linspace(-1, 1, fast.numel(), dtype=fast.dtype).view_as(fast)
    given = [x for x in inputs if x is not None]
    gradients = [torch.autograd.grad((z * along).sum(), given) for z in (fast, slow)]
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, atol=1e-11, rtol=1e-9)


lengths = st.integers(1, 70)


@settings(max_examples=40)
@given(lengths, st.integers(1, 80), st.booleans(), st.integers(0, 1), st.booleans(), st.booleans(), st.integers(0, 99))
def test_block_attention_is_masked_softmax_with_its_gradients(n, block, causal, previous, masked, biased, seed):
    q, k, v = heads(n, seed)
    given = terms(n, seed, masked, biased)
    fast = block_attention(q, k, v, block, causal=causal, previous=previous, scale=0.7, **given)
    slow = reference(q, k, v, in_block(n, block, causal=causal, previous=previous), scale=0.7, **given)
    agree(fast, slow, (q, k, v, given["bias"]))


@settings(max_examples=40)
@given(lengths, st.integers(0, 80), st.integers(0, 80), st.booleans(), st.booleans(), st.integers(0, 99))
def test_window_attention_is_masked_softmax_with_its_gradients(n, left, right, masked, biased, seed):
    q, k, v = heads(n, seed)
    given = terms(n, seed, masked, biased)
    fast = window_attention(q, k, v, left, right, **given)
    agree(fast, reference(q, k, v, in_window(n, left, right), **given), (q, k, v, given["bias"]))


@pytest.mark.parametrize("causal", [True, False])
def test_one_block_or_a_whole_window_is_softmax_attention(causal):
    q, k, v = heads(37)
    whole = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal)
    torch.testing.assert_close(block_attention(q, k, v, 37, causal=causal), whole)
    torch.testing.assert_close(window_attention(q, k, v, 37, 0 if causal else 37), whole)


def test_blocks_of_one_and_windows_of_nothing_are_the_values():
    q, k, v = heads(9)
    torch.testing.assert_close(block_attention(q, k, v, 1), v)
    torch.testing.assert_close(window_attention(q, k, v, 0, 0), v)


def test_rows_that_may_see_nothing_give_zero_and_finite_gradients():
    q, k, v = heads(10)
    mask = torch.ones(2, 10, dtype=torch.bool)
    mask[0, 4:8] = False
    for z in (block_attention(q, k, v, 4, mask=mask), window_attention(q, k, v, 1, 1, mask=mask)):
        assert (z[0, :, 5:7] == 0).all()
        for gradient in torch.autograd.grad(z.sum(), (q, k, v)):
            assert torch.isfinite(gradient).all()


def test_an_empty_input_gives_an_empty_output():
    q, k, v = heads(0)
    assert block_attention(q, k, v, 5).shape == window_attention(q, k, v, 2, 2).shape == (2, 3, 0, 4)


def test_no_tensor_of_n_by_n_is_made():
    """At n = 4,096 the largest tensor of the forward pass has n·(tile + reach) numbers a head or fewer."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Largest(TorchDispatchMode):
        size = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            out = function(*args, **(kwargs or {}))
            for x in out if isinstance(out, tuple | list) else [out]:
                if isinstance(x, torch.Tensor):
                    self.size = max(self.size, x.numel())
            return out

    n = 4096
    q, k, v = (x.detach() for x in heads(n, batch=1, head=1))
    mask = torch.ones(1, n, dtype=torch.bool)
    with Largest() as seen:
        block_attention(q, k, v, 50, previous=1, mask=mask)
        window_attention(q, k, v, 32, 32, mask=mask)
    assert seen.size <= n * 150


def test_half_precision_stays_half():
    q, k, v = (x.detach() for x in heads(33, dtype=torch.bfloat16))
    assert block_attention(q, k, v, 8, previous=1).dtype == torch.bfloat16
    wide = window_attention(q.float(), k.float(), v.float(), 4, 4)
    torch.testing.assert_close(window_attention(q, k, v, 4, 4).float(), wide, atol=0.03, rtol=0.03)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda q, k, v: block_attention(q, k, v, 0), "block must be at least 1"),
        (lambda q, k, v: block_attention(q, k, v, 4, previous=2), "previous 0 or 1"),
        (lambda q, k, v: window_attention(q, k, v, -1, 0), "left and right must be at least 0"),
        (lambda q, k, v: block_attention(q, k[:, :, :5], v, 4), "must have one shape"),
        (lambda q, k, v: block_attention(q, k, v, 4, mask=torch.ones(2, 5, dtype=torch.bool)), "mask must be"),
        (lambda q, k, v: window_attention(q, k, v, 1, 1, bias=q.new_zeros(2, 8, 8)), "bias must be"),
    ],
)
def test_what_does_not_fit_is_refused_by_one_sentence(call, sentence, untyped):
    with pytest.raises(ValueError, match=sentence):
        call(*heads(8))
