"""The linear recurrence by doubling against its definition, step by step."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from microtome.kernels.linear_recurrence import decay_matrix, linear_recurrence, reference


@settings(max_examples=40)
@given(
    sizes=st.tuples(st.integers(0, 3), st.sampled_from([1, 2, 3, 63, 64, 65, 130, 200]), st.integers(0, 4)),
    seed=st.integers(0, 2**31),
)
def test_doubling_is_the_recurrence_and_so_are_its_gradients(sizes, seed):
    generator = torch.Generator().manual_seed(seed)
    a, b, weight = (torch.randn(sizes, generator=generator, dtype=torch.float64) for _ in range(3))
    a = (a.tanh() * (a.abs() > 0.1)).requires_grad_()  # zeros among them: no step may divide by a
    b.requires_grad_()
    fast, slow = linear_recurrence(a, b), reference(a, b)
    torch.testing.assert_close(fast, slow, rtol=1e-12, atol=1e-12)
    if a.numel():
        # With one position a is never used, and its gradient zero.
        ours = torch.autograd.grad((fast * weight).sum(), (a, b), materialize_grads=True)
        theirs = torch.autograd.grad((slow * weight).sum(), (a, b), materialize_grads=True)
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


def test_empty_inputs_stay_empty():
    nothing = torch.zeros(2, 0, 3)
    assert linear_recurrence(nothing, nothing).shape == reference(nothing, nothing).shape == (2, 0, 3)


def test_decay_matrix_times_what_is_added_is_the_state(generator):
    a, b = torch.rand(2, 9, 3, generator=generator).double(), torch.randn(2, 9, 3, generator=generator).double()
    a[:, 4] = 0
    h = (decay_matrix(a) @ b.mT[..., None]).squeeze(-1).mT
    torch.testing.assert_close(h, reference(a, b))


@pytest.mark.usefixtures("untyped")
def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r"one shape \[batch pos channel\], not \[1, 2, 3\] and \[1, 2, 4\]"):
        linear_recurrence(torch.zeros(1, 2, 3), torch.zeros(1, 2, 4))
