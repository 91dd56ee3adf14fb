"""Attention over a sequence in pieces: the whole's result and gradients, whatever the pieces, and what is moved."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from microtome.kernels.long_sequence_unified import (
    Ring,
    Traffic,
    processes,
    shares,
    simulated_attention,
    tiles,
    words_moved,
)
from microtome.kernels.softmax import attention


def draw(seed, shape=(2, 3, 29, 5), dtype=torch.float64, count=4):
    generator = torch.Generator().manual_seed(seed)
    drawn = [torch.randn(shape, generator=generator, dtype=dtype) for _ in range(count)]
    return [x.requires_grad_() for x in drawn[:3]] + drawn[3:]


def mask_of(seed, shape=(2, 29)):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) > 0.3


def with_gradients(z, inputs, dz):
    return z, *torch.autograd.grad(z, inputs, dz)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("sizes", [(29,), (15, 14), (8, 7, 7, 7), (1, 20, 0, 8, 0, 0)], ids=str)
def test_pieces_give_the_whole_s_result_and_gradients(sizes, masked, causal):
    q, k, v, dz = draw(0)
    mask = mask_of(1) if masked else None
    z = simulated_attention(q, k, v, sizes=sizes, causal=causal, mask=mask, tile=4)
    whole = attention(q, k, v, causal=causal, mask=mask)
    for a, b in zip(with_gradients(z, (q, k, v), dz), with_gradients(whole, (q, k, v), dz), strict=True):
        torch.testing.assert_close(a, b, atol=1e-12, rtol=1e-10)


def test_one_worker_equals_scaled_dot_product_attention():
    q, k, v, _ = draw(2, dtype=torch.float32)
    z = simulated_attention(q, k, v, sizes=(29,))
    torch.testing.assert_close(z, F.scaled_dot_product_attention(q, k, v), atol=1e-6, rtol=1e-5)


@given(
    seed=st.integers(0, 10**6),
    sizes=st.lists(st.integers(0, 9), min_size=1, max_size=5).filter(lambda s: sum(s) > 0),
    tile=st.integers(1, 6),
    causal=st.booleans(),
)
@settings(max_examples=25)
def test_any_cut_and_any_tile_give_the_same(seed, sizes, tile, causal):
    q, k, v, dz = draw(seed, (1, 2, sum(sizes), 3))
    cut = simulated_attention(q, k, v, sizes=sizes, tile=tile, causal=causal)
    whole = attention(q, k, v, causal=causal)
    for a, b in zip(with_gradients(cut, (q, k, v), dz), with_gradients(whole, (q, k, v), dz), strict=True):
        torch.testing.assert_close(a, b, atol=1e-11, rtol=1e-9)


@given(seed=st.integers(0, 10**6), order=st.permutations(range(6)))
@settings(max_examples=25)
def test_the_order_of_the_blocks_does_not_matter(seed, order):
    q, k, v = (x.detach() for x in draw(seed, (1, 2, 18, 4))[:3])
    blocks = [tiles.Block(k[:, :, 3 * i : 3 * i + 3], v[:, :, 3 * i : 3 * i + 3], None, 3 * i) for i in range(6)]
    rules = tiles.Rules(0.5, causal=True, tile=2)
    running = tiles.begin(q)
    for i in order:
        tiles.fold(running, q, 0, blocks[i], rules)
    z, lse = tiles.finish(running)
    torch.testing.assert_close(z, attention(q, k, v, scale=0.5, causal=True), atol=1e-12, rtol=1e-10)
    scores = (0.5 * q @ k.mT).masked_fill(torch.ones(18, 18, dtype=torch.bool).triu(1), -torch.inf)
    torch.testing.assert_close(lse, scores.logsumexp(-1), atol=1e-12, rtol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precisions_sum_in_float32(dtype):
    q, k, v, dz = draw(3, dtype=torch.float32)
    halves = [x.detach().to(dtype).requires_grad_() for x in (q, k, v)]
    cut = with_gradients(simulated_attention(*halves, sizes=(8, 7, 7, 7), tile=4), halves, dz.to(dtype))
    wide = [x.detach().float().requires_grad_() for x in halves]
    whole = with_gradients(attention(*wide), wide, dz.to(dtype).float())
    for a, b in zip(cut, whole, strict=True):
        assert a.dtype == dtype
        # Once rounded at the end; the gradient starts from z in float32.
        torch.testing.assert_close(a.float(), b, atol=2 * torch.finfo(dtype).eps, rtol=2 * torch.finfo(dtype).eps)


def test_rows_that_see_no_key_are_zero_and_their_gradients_finite():
    q, k, v, dz = draw(4)
    mask = torch.zeros(2, 29, dtype=torch.bool)
    mask[1, 5] = True
    z, *gradients = with_gradients(simulated_attention(q, k, v, sizes=(15, 14), mask=mask), (q, k, v), dz)
    assert (z[0] == 0).all()
    assert all(torch.isfinite(g).all() for g in gradients)


class LargestScores(TorchDispatchMode):
    """The most entries, in one example and head, of a tensor whose last axis is neither features nor one a row."""

    largest, features = 0, 5

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor) and out.ndim == 4 and out.shape[-1] != self.features:
            self.largest = max(self.largest, out.shape[-1] * out.shape[-2])
        return out


def test_no_more_than_b_times_b_scores_exist_at_a_time():
    q, k, v, dz = draw(5, (1, 2, 96, 5))
    whole, cut = LargestScores(), LargestScores()
    with whole:
        with_gradients((q @ k.mT).softmax(-1) @ v, (q, k, v), dz)
    with cut:
        with_gradients(simulated_attention(q, k, v, sizes=(48, 48), tile=8), (q, k, v), dz)
    assert whole.largest == 96 * 96
    assert cut.largest <= max(8 * 8, 48)


@pytest.mark.parametrize("workers", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("masked", [False, True])
def test_what_is_moved_is_what_the_formula_says(workers, masked):
    q, k, v, dz = draw(6, dtype=torch.float32)
    traffic = Traffic()
    mask = mask_of(6) if masked else None
    z = simulated_attention(q, k, v, sizes=shares(29, workers), mask=mask, traffic=traffic)
    width = 2 * 3 * 5
    assert traffic.forward.words == 2 * (workers - 1) * 29 * width == words_moved(workers, 29, width)
    assert traffic.forward.bytes == 4 * traffic.forward.words + traffic.forward.mask_entries
    assert traffic.forward.mask_entries == masked * (workers - 1) * 29 * 2
    torch.autograd.grad(z, (q, k, v), dz)
    assert traffic.backward.words == 4 * (workers - 1) * 29 * width
    assert traffic.backward.words == words_moved(workers, 29, width, backward=True)


UNEVEN = {"causal": True, "mask": mask_of(7), "tile": 4}


def check_processes(workers, dtype, options):
    q, k, v, dz = draw(7, dtype=dtype)
    cut = {**options, "sizes": shares(29, workers)}
    results = processes.run(workers, processes.attention_with_gradients, q, k, v, dz, cut)
    options = {name: value for name, value in options.items() if name != "tile"}
    for i, expected in enumerate(with_gradients(attention(q, k, v, **options), (q, k, v), dz)):
        found = torch.cat([tensors[i] for tensors, _ in results], dim=2)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    for backward in (False, True):
        sent = [traffic.backward if backward else traffic.forward for _, traffic in results]
        assert sum(s.words for s in sent) == words_moved(workers, 29, 30, backward=backward)
        assert sum(s.bytes - s.mask_entries for s in sent) == dtype.itemsize * sum(s.words for s in sent)


def test_two_processes_give_the_whole_s_result_and_gradients():
    check_processes(2, torch.float64, UNEVEN)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize(("dtype", "options"), [(torch.float64, UNEVEN), (torch.float32, {})], ids=["uneven", "plain"])
def test_more_processes_give_the_whole_s_result_and_gradients(workers, dtype, options):
    check_processes(workers, dtype, options)


def test_shares_differ_by_one_row_at_most():
    assert shares(10, 4) == (3, 3, 2, 2)
    assert shares(2, 4) == (1, 1, 0, 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sizes": (10, 10)}, r"sizes must add up to the sequence's 29 rows, none negative, not \[10, 10\]"),
        ({"sizes": (30, -1)}, "sizes must add up"),
        ({"tile": 0}, "tile must be at least 1, not 0"),
        ({"scale": float("nan")}, "scale must be a finite number"),
        ({"mask": torch.ones(2, 28, dtype=torch.bool)}, r"mask must be boolean \[batch pos\] = \[2, 29\]"),
        ({"k": torch.zeros(2, 3, 28, 5, dtype=torch.float64)}, "q, k and v must have one shape"),
        ({"v": torch.zeros(2, 3, 29, 5)}, "q, k and v must have one dtype"),
    ],
)
def test_what_does_not_fit_is_refused(change, message, untyped):
    q, k, v, _ = draw(8)
    arguments = {"q": q, "k": k, "v": v, "sizes": (29,), **change}
    with pytest.raises(ValueError, match=message):
        simulated_attention(**arguments)


def test_bad_shares_and_workers_are_refused():
    with pytest.raises(ValueError, match="at least 1 worker, not 5 rows to 0"):
        shares(5, 0)
    with pytest.raises(ValueError, match="at least 1 worker, not 0"):
        processes.run(0, print)


def test_a_ring_needs_a_process_group():
    with pytest.raises(RuntimeError, match="init_process_group first"):
        Ring()
