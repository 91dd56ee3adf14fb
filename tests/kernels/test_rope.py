"""Rotary positions against the plane-by-plane rotation and TransformerLens' native one."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from microtome.kernels import rope


def draw(generator, n, d_head, dtype=torch.float64, batch=2):
    return torch.randn(batch, n, 3, d_head, generator=generator, dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("rotary_dim", [None, 2, 6])
@pytest.mark.parametrize("n", [0, 1, 2, 63, 257])
def test_rotation_is_the_reference(generator, n, rotary_dim, dtype) -> None:
    x = draw(generator, n, 8, dtype)
    positions = torch.randperm(3 * n + 1, generator=generator)[:n]
    found = rope.rotate(x, positions, rotary_dim)
    assert found.dtype == dtype
    tolerance = {torch.float64: 1e-14, torch.float32: 2e-6, torch.bfloat16: 4e-2}[dtype]
    expected = rope.reference(x.double(), positions, rotary_dim)
    torch.testing.assert_close(found.double(), expected, atol=tolerance, rtol=tolerance)
    if rotary_dim is not None:
        assert torch.equal(found[..., rotary_dim:], x[..., rotary_dim:])


def test_gradients(generator) -> None:
    x = draw(generator, 3, 6).requires_grad_()
    positions = torch.tensor([4, 0, 9])
    assert torch.autograd.gradcheck(lambda t: rope.rotate(t, positions, 4), x)
    assert torch.autograd.gradgradcheck(lambda t: rope.rotate(t, positions, 4), x, torch.ones_like(x))


def test_strides_do_not_matter(generator) -> None:
    x, positions = draw(generator, 20, 8), torch.arange(20)
    expected = rope.rotate(x, positions)
    for strided in (
        x.mT.contiguous().mT,
        x.transpose(1, 2).contiguous().transpose(1, 2),
        torch.cat((x, x), -1)[..., 8:],
        torch.nn.functional.pad(x, (1, 0))[..., 1:],
    ):
        assert not strided.is_contiguous()
        assert torch.equal(rope.rotate(strided, positions), expected)


@given(st.integers(-500, 500), st.integers(0, 400), st.integers(0, 400), st.integers(0, 2**32))
@settings(max_examples=40)
def test_scores_depend_on_offsets_only_and_lengths_stay(by, s, t, seed) -> None:
    q, k = torch.randn(2, 1, 1, 1, 16, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)

    def score(s, t):
        return (rope.rotate(q, torch.tensor([s])) * rope.rotate(k, torch.tensor([t]))).sum()

    torch.testing.assert_close(score(s + by, t + by), score(s, t), atol=1e-11, rtol=1e-11)
    torch.testing.assert_close(rope.rotate(q, torch.tensor([s])).norm(), q.norm(), atol=1e-12, rtol=1e-12)


def test_a_position_far_out_keeps_its_angle() -> None:
    x = torch.randn(1, 1, 1, 8, generator=torch.Generator().manual_seed(0))
    far = torch.tensor([1_000_003])
    torch.testing.assert_close(rope.rotate(x, far), rope.rotate(x.double(), far).float(), atol=1e-6, rtol=0.0)


def test_transformer_lens_native_rotation(generator) -> None:
    from transformer_lens.config import TransformerBridgeConfig
    from transformer_lens.model_bridge.sources.native.model import NativeRotary

    for rotary_dim in (8, 4):
        cfg = TransformerBridgeConfig(
            d_model=24, d_head=8, n_layers=1, n_ctx=50, n_heads=3, d_vocab=5, rotary_dim=rotary_dim, rotary_base=500
        )
        q, k = draw(generator, 50, 8, torch.float32), draw(generator, 50, 8, torch.float32)
        native = NativeRotary(cfg).apply_rope(q.transpose(1, 2), k.transpose(1, 2))
        for x, theirs in zip((q, k), native, strict=True):
            ours = rope.rotate(x, torch.arange(50), rotary_dim, base=500.0)
            torch.testing.assert_close(ours.transpose(1, 2), theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("rotary_dim", [0, 3, -2, 10])
def test_rotary_dims_that_make_no_planes_are_refused(rotary_dim) -> None:
    with pytest.raises(ValueError, match=f"rotary_dim must be even, .* at most d_head=8, not {rotary_dim}"):
        rope.rotate(torch.zeros(1, 2, 1, 8), torch.arange(2), rotary_dim)


def test_odd_heads_and_bases_without_a_turn_are_refused() -> None:
    with pytest.raises(ValueError, match="not 7"):
        rope.rotate(torch.zeros(1, 2, 1, 7), torch.arange(2))
    with pytest.raises(ValueError, match="base must be positive, not 0"):
        rope.rotate(torch.zeros(1, 2, 1, 8), torch.arange(2), base=0.0)
