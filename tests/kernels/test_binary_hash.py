"""Binary codes: bits, the two forms of attention, straight-through gradients, and the Triton path."""

import pytest
import torch

from microtome.kernels import binary_hash
from microtome.kernels.binary_hash import triton_path


def codes(generator, *shape):
    return torch.randint(2, shape, generator=generator).double() * 2 - 1


@pytest.mark.parametrize("bits", [1, 16, 31, 32, 33, 70])
def test_inner_products_are_bits_minus_twice_the_hamming_distance(generator, bits) -> None:
    h, other = codes(generator, 3, 9, bits), codes(generator, 3, 5, bits)
    packed, packed_other = binary_hash.pack(h), binary_hash.pack(other)
    assert packed.shape[-1] == -(-bits // 32)
    assert torch.equal(binary_hash.unpack(packed, bits).double(), h)
    inner = binary_hash.inner_products(packed, packed_other, bits)
    assert torch.equal(inner.double(), h @ other.mT)
    differ = binary_hash.hamming(packed[:, :5], packed_other)
    assert torch.equal(differ, (h[:, :5] != other).sum(-1))
    assert torch.equal(inner[:, :5].diagonal(dim1=1, dim2=2), bits - 2 * differ)


def test_zero_has_a_side_and_gradients_pass_near_it_only() -> None:
    x = torch.tensor([-2.0, -0.5, 0.0, 0.999, 1.0, 3.0], requires_grad=True)
    h = binary_hash.signs(x)
    assert h.tolist() == [-1, -1, 1, 1, 1, 1]
    h.backward(torch.arange(1.0, 7.0))
    assert x.grad.tolist() == [0, 2, 3, 4, 0, 0]


@pytest.mark.parametrize("n", [1, 63, 100, 257])
@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
def test_the_linear_form_is_the_quadratic_one(generator, n, masked) -> None:
    h, v = codes(generator, 2, 3, n, 16), torch.randn(2, 3, n, 5, generator=generator, dtype=torch.float64)
    visible = (torch.rand(2, n, generator=generator) < 0.7).double() if masked else None
    for causal in (False, True):
        for released in (False, True):
            options = {"visible": visible, "causal": causal, "released_bias": released}
            pattern = binary_hash.hashed_pattern(h, 17.0, **options)
            z = binary_hash.hashed_attention(h, v, 17.0, **options)
            torch.testing.assert_close(z, pattern @ v, atol=1e-9, rtol=1e-9)
    flips = binary_hash.reference(h, v, 17.0, visible=visible)
    torch.testing.assert_close(binary_hash.hashed_attention(h, v, 17.0, visible=visible), flips, atol=1e-9, rtol=1e-9)


def test_weights_are_positive_and_sum_to_one_unless_the_bias_is_the_released_one(generator) -> None:
    h = codes(generator, 1, 2, 40, 16)
    weights = binary_hash.hashed_pattern(h, 16.5)
    assert (weights > 0).all()
    torch.testing.assert_close(weights.sum(-1), torch.ones(1, 2, 40, dtype=torch.float64))
    scores = h @ h.mT + 16.5
    assert torch.equal(scores, scores.mT)
    assert (scores.diagonal(dim1=-2, dim2=-1) == 16 + 16.5).all()
    released = binary_hash.hashed_pattern(h, 16.5, released_bias=True)
    assert (released.sum(-1) - 1).abs().max() > 0.5


def test_gradients_reach_codes_and_values(generator) -> None:
    h, v = codes(generator, 1, 1, 6, 4).requires_grad_(), torch.randn(1, 1, 6, 2, generator=generator).double()
    v.requires_grad_()
    for causal in (False, True):
        attend = lambda h, v, causal=causal: binary_hash.hashed_attention(h, v, 9.0, causal=causal)  # noqa: E731
        assert torch.autograd.gradcheck(attend, (h, v))


def test_bad_input_is_refused(generator, untyped) -> None:
    h = codes(generator, 1, 1, 3, 16)
    with pytest.raises(ValueError, match="c must exceed the 16 bits of a code, so that weights are positive; got 16"):
        binary_hash.hashed_attention(h, h, 16.0)
    with pytest.raises(ValueError, match="must agree about heads and anchors"):
        binary_hash.hash_words(torch.zeros(1, 2, 3, 25), torch.zeros(2, 16, 24))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    ("n", "bits", "d_head", "masked"),
    [(1, 16, 16, False), (63, 16, 32, True), (100, 5, 20, False), (130, 32, 48, True)],
)
def test_the_triton_path(generator, dtype, n, bits, d_head, masked) -> None:
    kappa = torch.randn(2, 2, 25, n, generator=generator, dtype=torch.float64).to(dtype).mT
    a = torch.randn(2, bits, 25, generator=generator, dtype=torch.float64).to(dtype)
    v = torch.randn(2, n, 2, d_head, generator=generator, dtype=torch.float64).to(dtype).transpose(1, 2)
    visible = (torch.rand(2, n, generator=generator) < 0.7).float() if masked else None
    word = triton_path.words(kappa, a)
    logits = kappa.double() @ a.double().mT
    h = binary_hash.unpack(word.long()[..., None] & 0xFFFFFFFF, bits).double()
    sure = logits.abs() > 1e-4
    assert sure.double().mean() > 0.99
    assert torch.equal(h[sure], binary_hash.signs(logits)[sure])
    z = triton_path.attention(word, v, bits + 1.0, bits, visible)
    assert z.dtype == dtype
    exact = binary_hash.reference(h, v.double(), bits + 1.0, visible=None if visible is None else visible.double())
    torch.testing.assert_close(z.double(), exact, atol=8 * torch.finfo(dtype).eps, rtol=8 * torch.finfo(dtype).eps)


def test_runs_of_positions_add_up(generator, monkeypatch) -> None:
    monkeypatch.setattr(triton_path, "RUN", 64)
    h, v = codes(generator, 1, 1, 200, 16), torch.randn(1, 1, 200, 16, generator=generator)
    word = binary_hash.pack(h)[..., 0].int()
    z = triton_path.attention(word, v, 17.0, 16, None)
    torch.testing.assert_close(z.double(), binary_hash.reference(h, v.double(), 17.0), atol=1e-5, rtol=1e-5)
