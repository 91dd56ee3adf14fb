"""Softmax attention over all prefixes: the operator's laws, and every way of computing it against the plain one."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from microtome.kernels.scan import prefix_softmax as scan
from microtome.kernels.scan.prefix_softmax import Triple

SCAN = {"chunked": scan.prefix_attention, "Hillis-Steele": lambda s, v: scan.hillis_steele(scan.leaves(s, v))[0].output}
every_scan = pytest.mark.parametrize("compute", SCAN.values(), ids=SCAN)


def draw(seed, *shape, d_v=3, spread=1.0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    scores = spread * torch.randn(*shape, generator=generator, dtype=torch.float64)
    return scores.to(dtype), torch.randn(*shape, d_v, generator=generator, dtype=torch.float64).to(dtype)


def sums(seed, sets=4):
    """Triples of random sets of keys with scores over ±500."""
    generator = torch.Generator().manual_seed(seed)
    scores = 1000 * torch.rand(sets, 5, generator=generator, dtype=torch.float64) - 500
    return scan.reduce(scores, torch.randn(sets, 5, 3, generator=generator, dtype=torch.float64))


def assert_same(a: Triple, b: Triple, atol=1e-12):
    for mine, theirs in zip(a, b, strict=True):
        torch.testing.assert_close(mine, theirs, atol=atol, rtol=1e-12)


def by_recurrence(scores, values):
    state, outputs = scan.identity(values[..., 0, :]), []
    for t in range(scores.shape[-1]):
        output, state = scan.step(state, scores[..., t], values[..., t, :])
        outputs.append(output)
    return torch.stack(outputs, -2)


@given(seed=st.integers(0, 2**31))
@settings(max_examples=50)
def test_the_operator_is_associative_and_commutative_at_scores_of_500(seed):
    x, y, z = sums(seed), sums(seed + 1), sums(seed + 2)
    assert_same(scan.combine(scan.combine(x, y), z), scan.combine(x, scan.combine(y, z)))
    assert_same(scan.combine(x, y), scan.combine(y, x))


def test_the_identity_is_one_from_both_sides_and_twice():
    x = sums(0)
    none = scan.identity(x.w)
    for combined, wanted in ((scan.combine(none, x), x), (scan.combine(x, none), x), (scan.combine(none, none), none)):
        for mine, theirs in zip(combined, wanted, strict=True):
            assert torch.equal(mine, theirs)
    assert torch.equal(none.output, torch.zeros(4, 3, dtype=torch.float64))


def test_the_published_example():
    scores = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)
    values = torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, -1.0]], dtype=torch.float64)
    outputs = scan.prefix_attention(scores, values)
    torch.testing.assert_close(outputs[1], torch.tensor([0.8176, 0.1824]).double(), atol=5e-5, rtol=0)
    torch.testing.assert_close(outputs[2], torch.tensor([1.7465, -0.7465]).double(), atol=5e-5, rtol=0)


@every_scan
@pytest.mark.parametrize("n", [0, 1, 2, 7, 127, 128, 129, 300])
def test_every_way_is_the_softmax_of_each_prefix(compute, n):
    scores, values = draw(n, 2, 3, n, spread=50.0)
    torch.testing.assert_close(compute(scores, values), scan.reference(scores, values), atol=1e-12, rtol=1e-12)


def test_the_recurrence_is_the_scan():
    scores, values = draw(1, 2, 40, spread=50.0)
    torch.testing.assert_close(by_recurrence(scores, values), scan.reference(scores, values), atol=1e-12, rtol=1e-12)


@given(cuts=st.lists(st.integers(1, 29), max_size=4, unique=True), seed=st.integers(0, 2**31))
@settings(max_examples=25)
def test_blocks_of_any_sizes_read_one_after_the_other_give_the_whole(cuts, seed):
    scores, values = draw(seed, 2, 30, spread=30.0)
    state = scan.identity(values[:, 0])
    for start, stop in zip([0, *sorted(cuts)], [*sorted(cuts), 30], strict=True):
        state = scan.combine(state, scan.reduce(scores[:, start:stop], values[:, start:stop]))
        torch.testing.assert_close(state.output, scan.reference(scores, values)[:, stop - 1], atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("n", [1, 2, 3, 8, 9, 64, 65, 100])
def test_the_scan_takes_as_many_rounds_as_the_logarithm(n):
    assert scan.hillis_steele(scan.leaves(*draw(0, n)))[1] == math.ceil(math.log2(n))


@every_scan
def test_keys_of_minus_infinity_weigh_nothing_and_pass_no_nan(compute):
    scores, values = draw(3, 2, 150)
    scores[0, :140] = -torch.inf
    scores[1, 5:9] = -torch.inf
    scores.requires_grad_()
    values.requires_grad_()
    outputs = compute(scores, values)
    torch.testing.assert_close(outputs, scan.reference(scores, values), atol=1e-12, rtol=1e-12)
    assert (outputs[0, :140] == 0).all()
    for gradient in torch.autograd.grad(outputs.sum(), (scores, values)):
        assert torch.isfinite(gradient).all()
        assert (gradient[0, :140] == 0).all()


@every_scan
@pytest.mark.parametrize("n", [1, 5, 131])
def test_gradients_are_those_of_the_softmaxes(compute, n):
    scores, values = (each.requires_grad_() for each in draw(4, 2, n, spread=5.0))
    along = draw(5, 2, n)[1]
    mine = torch.autograd.grad((compute(scores, values) * along).sum(), (scores, values))
    plain = torch.autograd.grad((scan.reference(scores, values) * along).sum(), (scores, values))
    for a, b in zip(mine, plain, strict=True):
        torch.testing.assert_close(a, b, atol=1e-11, rtol=1e-10)


def test_gradients_by_finite_differences(monkeypatch):
    monkeypatch.setattr(scan, "CHUNK", 3)
    inputs = tuple(each.requires_grad_() for each in draw(6, 2, 7, d_v=2))
    assert torch.autograd.gradcheck(scan.prefix_attention, inputs)


def test_a_prefix_s_gradient_to_later_keys_is_exactly_zero():
    scores, values = (each.requires_grad_() for each in draw(7, 20))
    for k in (0, 7, 19):
        for gradient in torch.autograd.grad(scan.prefix_attention(scores, values)[k].sum(), (scores, values)):
            assert (gradient[k + 1 :] == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_narrow_types_keep_their_type_and_sum_in_float32(dtype):
    scores, values = draw(8, 2, 400, spread=10.0, dtype=dtype)
    outputs = scan.prefix_attention(scores, values)
    assert outputs.dtype == dtype
    wanted = scan.reference(scores.double(), values.double())
    torch.testing.assert_close(
        outputs.double(), wanted, atol=4 * torch.finfo(dtype).eps, rtol=4 * torch.finfo(dtype).eps
    )


def test_plain_sums_overflow_where_the_triples_do_not():
    scores, values = draw(9, 64, dtype=torch.float32)
    scores = scores + 100
    plain = (scores.exp()[:, None] * values).cumsum(0) / scores.exp().cumsum(0)[:, None]
    assert not torch.isfinite(plain).all()
    wanted = scan.reference(scores.double(), values.double()).float()
    torch.testing.assert_close(scan.prefix_attention(scores, values), wanted, atol=1e-5, rtol=1e-5)


def test_what_does_not_fit_gets_a_sentence(untyped):
    scores, values = draw(0, 2, 5)
    with pytest.raises(ValueError, match=r"scores must have the shape of values without d_v, \[2, 5\], not \[2, 4\]"):
        scan.prefix_attention(scores[:, :4], values)
    with pytest.raises(TypeError, match=r"must share a dtype, not torch\.float32 and torch\.float64"):
        scan.prefix_attention(scores.float(), values)
