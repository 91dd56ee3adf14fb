"""LeanAttention: the deal of tiles, the triple, and one result from the equation, the emulator and both paths."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import scaled_dot_product_attention

from microtome.kernels import ahead_of_time
from microtome.kernels.lean_attention import cpu, decode, reference, schedule
from microtome.kernels.lean_attention.emulator import Deadlock, emulate, row_blocks
from microtome.kernels.lean_attention.schedule import Schedule, tile_keys

TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-6, torch.bfloat16: 2e-2, torch.float16: 2e-3}


def draw(generator, batch=2, heads=4, kv_heads=2, keys=300, d_head=16, dtype=torch.float64):
    """q, k, v of which no stride is what it usually is."""
    q = torch.randn(batch, d_head, heads, generator=generator).to(dtype).mT
    k = torch.randn(batch, keys, kv_heads, d_head, generator=generator).to(dtype).transpose(1, 2)
    v = torch.randn(batch, kv_heads, d_head, keys, generator=generator).to(dtype).mT
    return q, k, v


def close(found, wanted, dtype) -> None:
    torch.testing.assert_close(found.double(), wanted.double(), atol=TOLERANCE[dtype], rtol=TOLERANCE[dtype])


tiles_and_grid = given(st.lists(st.integers(0, 9), min_size=1, max_size=12), st.integers(1, 60))


def deal_of(tiles: list[int], grid: int) -> Schedule:
    return Schedule(tuple(tiles), min(grid, sum(tiles)))


@tiles_and_grid
@settings(max_examples=50)
def test_spans_cut_the_line_of_tiles_into_runs_that_differ_by_one_at_most(tiles, grid) -> None:
    deal = deal_of(tiles, grid)
    spans = [deal.span(cta) for cta in range(deal.grid)]
    assert list(itertools.chain(*spans)) == list(range(deal.total))
    loads = [len(span) for span in spans]
    assert max(loads, default=0) == deal.longest
    assert max(loads, default=0) - min(loads, default=0) <= 1


@tiles_and_grid
@settings(max_examples=50)
def test_segments_cover_each_output_once_and_are_at_most_outputs_plus_ctas_less_one(tiles, grid) -> None:
    deal = deal_of(tiles, grid)
    segments = {cta: list(deal.segments(cta)) for cta in range(deal.grid)}
    done = sorted((s.output, tile) for run in segments.values() for s in run for tile in range(s.start, s.stop))
    assert done == [(o, t) for o, tiles in enumerate(deal.tiles) for t in range(tiles)]
    outputs = sum(t > 0 for t in deal.tiles)
    assert sum(map(len, segments.values())) <= max(0, outputs + deal.grid - 1)
    assert all(s.host for run in segments.values() for s in run[1:]), "one scratch slot a CTA is enough"


@pytest.mark.parametrize(
    ("lengths", "heads", "wanted"),
    [([8192], 32, (2048, 216, 10, 104)), ([65536], 8, (4096, 216, 19, 208)), ([384], 1, (3, 2, 2, 1))],
)
def test_the_published_schedules_on_108_multiprocessors(lengths, heads, wanted) -> None:
    deal = schedule(lengths, heads, tile_keys(128), 108)
    assert (deal.total, deal.grid, deal.longest, deal.heavy) == wanted


def test_tiles_of_256_128_and_64_keys() -> None:
    assert [tile_keys(d) for d in (16, 64, 65, 128, 129, 256)] == [256, 256, 128, 128, 64, 64]


@pytest.mark.parametrize("multiprocessors", [1, 3, 50])
@pytest.mark.parametrize("lengths", [[300, 300], [300, 0], [1, 257], [0, 0]], ids=str)
def test_the_emulator_gives_the_equation_in_any_order_of_launch(generator, lengths, multiprocessors) -> None:
    q, k, v = draw(generator)
    n = torch.tensor(lengths)
    deal = schedule(lengths, 2, 16, multiprocessors)
    wanted = reference(q, k, v, n)
    orders = [list(range(deal.grid)), torch.randperm(deal.grid, generator=generator).tolist()]
    for order in orders:
        close(emulate(q, k, v, n, 16, deal, order=order), wanted, torch.float64)
    backwards = orders[0][::-1]
    close(emulate(q, k, v, n, 16, deal, order=backwards, resident=1 if deal.grid else None), wanted, torch.float64)


def test_without_room_for_all_a_forward_launch_hangs_and_a_backward_one_ends(generator) -> None:
    q, k, v = draw(generator, kv_heads=1, heads=1, keys=320)
    n = torch.tensor([320, 320])
    deal, wanted = Schedule((20, 20), 40), reference(q, k, v, n)
    with pytest.raises(Deadlock, match="1 CTAs wait for CTA 1 or later, which has no room"):
        emulate(q, k, v, n, 16, deal, resident=1)
    close(emulate(q, k, v, n, 16, deal, order=range(39, -1, -1), resident=1), wanted, torch.float64)


@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
@pytest.mark.parametrize(("heads", "kv_heads"), [(1, 1), (6, 2), (4, 4)])
def test_the_public_function_gives_the_equation(generator, heads, kv_heads, dtype) -> None:
    q, k, v = draw(generator, 3, heads, kv_heads, dtype=dtype)
    for lengths in (None, torch.tensor([300, 0, 77]), torch.tensor([5, 5, 1])):
        found = decode(q, k, v, lengths)
        assert found.dtype == dtype
        close(found, reference(q.double(), k.double(), v.double(), lengths), dtype)
    close(decode(q, k, v, scale=0.3), reference(q.double(), k.double(), v.double(), scale=0.3), dtype)


@pytest.mark.parametrize("keys", [37, 64, 65])
def test_fewer_heads_than_threads_are_cut_along_the_keys(generator, monkeypatch, keys) -> None:
    monkeypatch.setattr(cpu, "SHORTEST_PART", 16)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    parts = []
    whole = cpu._in_parts
    monkeypatch.setattr(cpu, "_in_parts", lambda *args: parts.append(args[3]) or whole(*args))
    for dtype in (torch.float64, torch.float32):
        q, k, v = draw(generator, 1, 4, 2, keys, dtype=dtype)
        wanted = reference(q.double(), k.double(), v.double())
        close(decode(q, k, v.contiguous()), wanted, dtype)
        close(decode(q, k, v), wanted, dtype)
    assert parts == [keys // 16] * 4, "two heads of two dtypes; values whose features lie apart are not cut"


def test_grouped_heads_are_repeated_keys_and_values(generator) -> None:
    q, k, v = draw(generator, heads=6, kv_heads=2)
    wanted = scaled_dot_product_attention(q[:, :, None], k, v, enable_gqa=True)[:, :, 0]
    close(reference(q, k, v), wanted, torch.float64)
    close(decode(q, k, v), wanted, torch.float64)
    repeated = decode(q, k.repeat_interleave(3, 1), v.repeat_interleave(3, 1))
    close(decode(q, k, v), repeated, torch.float64)


def test_what_lies_past_a_sequence_s_length_is_never_read(generator) -> None:
    q, k, v = draw(generator)
    lengths = torch.tensor([299, 123])
    spoilt = [x.clone() for x in (k, v)]
    for x in spoilt:
        x[0, :, 299:], x[1, :, 123:] = torch.nan, torch.inf
    assert torch.equal(decode(q, k, v, lengths), decode(q, *spoilt, lengths))


def test_rows_of_a_large_group_make_several_output_tiles() -> None:
    assert row_blocks(140, 2) == [(0, slice(0, 64)), (0, slice(64, 70)), (1, slice(70, 134)), (1, slice(134, 140))]


def test_no_sequence_and_no_key_give_nothing_and_zero() -> None:
    assert decode(torch.zeros(0, 2, 4), torch.zeros(0, 2, 3, 4), torch.zeros(0, 2, 3, 4)).shape == (0, 2, 4)
    assert torch.equal(decode(torch.ones(1, 2, 4), *2 * (torch.ones(1, 2, 0, 4),)), torch.zeros(1, 2, 4))


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"q": torch.zeros(2, 4, 1, 16)}, ValueError, r"q must be a floating-point tensor \[batch, head, d_head\]"),
        ({"q": torch.zeros(2, 3, 16)}, ValueError, "q's 3 heads must be a multiple of k's 2"),
        ({"v": torch.zeros(2, 2, 31, 16)}, ValueError, "k and v must both be"),
        ({"k": torch.zeros(2, 2, 32, 16).half()}, TypeError, "must share dtype and device"),
        ({"lengths": torch.tensor([1])}, ValueError, r"lengths must be integers \[batch\] = \(2,\)"),
        ({"lengths": torch.tensor([1, 33])}, ValueError, "between 0 and the cache's 32 keys, got 1 to 33"),
        ({"scale": float("nan")}, ValueError, "scale must be a finite number, got nan"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(untyped, change, error, words) -> None:
    good = {"q": torch.zeros(2, 4, 16), "k": torch.zeros(2, 2, 32, 16), "v": torch.zeros(2, 2, 32, 16)}
    with pytest.raises(error, match=words):
        decode(**(good | change))


def test_impossible_deals_are_refused() -> None:
    with pytest.raises(ValueError, match="grid must lie between 1 and the 3 LeanTiles there are, got 4"):
        Schedule((1, 2), 4)
    with pytest.raises(ValueError, match="an output tile has -1 LeanTiles"):
        Schedule((1, -1), 1)
    with pytest.raises(ValueError, match="tile must be at least 1, got 0"):
        schedule([3], 1, 0)
    with pytest.raises(ValueError, match="lengths must be 0 or more, got -3"):
        schedule([-3], 1, 16)


@pytest.fixture(scope="module")
def triton_path():
    pytest.importorskip("triton", reason="Triton has no build for this platform")
    from microtome.kernels.lean_attention import triton_path

    return triton_path


CASES = [
    (2, 4, 2, [700, 300], 16, torch.float32, 5),
    (3, 2, 2, [700, 0, 257], 16, torch.float32, 3),
    (2, 2, 1, [129, 600], 72, torch.float32, 4),
    (1, 70, 1, [600], 64, torch.float32, 3),
    (2, 2, 2, [1, 200], 200, torch.float32, 2),
    (2, 4, 1, [600, 256], 32, torch.float16, 3),
    (2, 4, 4, [90, 333], 64, torch.bfloat16, 50),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_gpu_kernel_gives_the_emulator_s_result(generator, triton_path, case) -> None:
    batch, heads, kv_heads, lengths, d_head, dtype, multiprocessors = case
    q, k, v = draw(generator, batch, heads, kv_heads, max(lengths), d_head, dtype)
    assert triton_path.supports(q)
    found = triton_path.forward(q, k, v, lengths, d_head**-0.5, multiprocessors)
    assert found.dtype == dtype
    deal = schedule(lengths, len(row_blocks(heads, kv_heads)), tile_keys(d_head), multiprocessors)
    assert any(not s.host for cta in range(deal.grid) for s in deal.segments(cta)), "some partial must travel"
    wanted = emulate(q.double(), k.double(), v.double(), torch.tensor(lengths), tile_keys(d_head), deal)
    close(found, wanted, dtype)


def test_a_batch_without_keys_starts_no_program(triton_path) -> None:
    q, k = torch.ones(2, 1, 16), torch.ones(2, 1, 8, 16)
    assert torch.equal(triton_path.forward(q, k, k, [0, 0], 1.0, 4), torch.zeros(2, 1, 16))


def test_what_the_gpu_kernel_does_not_take(triton_path) -> None:
    assert not triton_path.supports(torch.zeros(1, 1, 4, dtype=torch.float64))
    assert not triton_path.supports(torch.zeros(1, 1, 257))


@pytest.mark.slow
@pytest.mark.parametrize("target", [80, 90])
def test_every_variant_compiles_and_spills_at_the_widest_heads_only(triton_path, target) -> None:
    for compiled in ahead_of_time.compile_for(list(triton_path.variants()), target):
        assert compiled.fits, compiled.variant.name
        assert compiled.spilled <= (112 if compiled.variant.head_dim == 256 else 0), compiled.variant.name
