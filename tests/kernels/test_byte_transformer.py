"""ByteTransformer's kernel: packing, the visitor, tiled softmax, and attention on packed rows by every path."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from microtome.kernels import ahead_of_time
from microtome.kernels.byte_transformer import attention, flops, packing, packing_of_mask, reference
from microtome.kernels.byte_transformer import tiled_softmax as tiled
from microtome.kernels.byte_transformer.visitor import LANES, score_tiles, visit

BATCHES = [[5, 2, 6], [0, 0], [1], [7, 7, 7, 0, 1, 7], [63, 100, 0, 1], []]
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 3e-2, torch.float16: 4e-3}
lengths_drawn = st.lists(st.integers(0, 9), max_size=7)


def draw(generator, tokens, heads=2, d_head=16, dtype=torch.float64):
    """Three slices of one product: rows far apart, and not what a contiguous tensor would have."""
    return torch.randn(tokens, 3, heads, d_head, generator=generator).to(dtype).unbind(1)


def close(found, wanted, dtype) -> None:
    torch.testing.assert_close(found.double(), wanted.double(), atol=TOLERANCE[dtype], rtol=TOLERANCE[dtype])


def test_the_published_example_of_index_arrays() -> None:
    packed = packing([5, 2, 6], 6)
    assert packed.batch_idx.tolist() == [0, 5, 7, 13]
    assert packed.word_idx.tolist() == [0, 1, 2, 3, 4, 6, 7, 12, 13, 14, 15, 16, 17]
    assert packed.positions.tolist() == [0, 1, 2, 3, 4, 0, 1, 0, 1, 2, 3, 4, 5]
    assert packed.fill == 13 / 18


@given(lengths_drawn, st.integers(0, 3))
@settings(max_examples=50)
def test_unpacking_undoes_packing_and_leaves_zeros(lengths, more) -> None:
    longest = max(lengths, default=0) + more
    packed = packing(lengths, longest)
    mask = torch.arange(longest) < torch.tensor(lengths, dtype=torch.long)[:, None]
    x = torch.arange(1.0, 1 + len(lengths) * longest * 2).view(len(lengths), longest, 2)
    assert torch.equal(packed.pack(x), x[mask])
    assert torch.equal(packed.unpack(packed.pack(x)), x * mask[..., None])
    assert torch.equal(packed.pack(packed.unpack(x[mask])), x[mask])
    if longest:
        assert torch.equal(packing_of_mask(mask).word_idx, packed.word_idx)


def test_gradients_pass_through_packing(generator) -> None:
    packed = packing([2, 0, 3], 4)
    x = torch.randn(3, 4, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: packed.unpack(packed.pack(x) ** 2), (x,))


@pytest.mark.parametrize("lengths", BATCHES, ids=str)
@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
def test_attention_gives_the_equation(generator, lengths, dtype) -> None:
    packed = packing(lengths)
    q, k, v = draw(generator, packed.tokens, dtype=dtype)
    found = attention(q, k, v, packed)
    assert found.dtype == dtype
    close(found, reference(q.double(), k.double(), v.double(), packed), dtype)
    close(attention(q, k, v, packed, 0.7), reference(q.double(), k.double(), v.double(), packed, 0.7), dtype)


def test_gradients_are_those_of_the_equation(generator) -> None:
    packed = packing([5, 0, 5, 9, 1])
    leaves = [x.clone().requires_grad_() for x in draw(generator, packed.tokens)]
    upstream = torch.randn(packed.tokens, 2, 16, generator=generator, dtype=torch.float64)
    found, wanted = (torch.autograd.grad(f(*leaves, packed), leaves, upstream) for f in (attention, reference))
    for a, b in zip(found, wanted, strict=True):
        close(a, b, torch.float64)


@pytest.mark.parametrize("changed", range(4))
def test_changing_a_sequence_leaves_every_bit_of_the_others(generator, changed) -> None:
    packed = packing([5, 9, 9, 30])
    q, k, v = draw(generator, packed.tokens, dtype=torch.float32)
    mine = slice(int(packed.batch_idx[changed]), int(packed.batch_idx[changed + 1]))
    others = [x.clone() for x in (q, k, v)]
    for x in others:
        x[mine] = 100 * torch.randn(x[mine].shape, generator=generator)
    before, after = attention(q, k, v, packed), attention(*others, packed)
    kept = torch.ones(packed.tokens, dtype=torch.bool)
    kept[mine] = False
    assert torch.equal(before[kept], after[kept])
    assert not torch.equal(before[mine], after[mine])


@given(st.lists(st.integers(0, 5), max_size=80), st.integers(1, 40))
@settings(max_examples=50)
def test_the_visitor_gives_every_tile_once_in_ascending_order(counts, grid) -> None:
    visits = [[tuple(at) for at in visit(cta, grid, counts)] for cta in range(grid)]
    everything = [(problem, tile) for problem, n in enumerate(counts) for tile in range(n)]
    assert sorted(itertools.chain(*visits)) == everything
    assert visits[0] == everything[::grid]


def test_tiles_of_problems() -> None:
    assert score_tiles([1024, 129, 128, 0], heads=2) == [64, 64, 4, 4, 1, 1, 0, 0]
    assert LANES == 32


@given(st.integers(1, 40), st.integers(1, 45), st.integers(0, 2**31))
@settings(max_examples=40)
def test_statistics_of_tiles_merge_to_softmax(columns, width, seed) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = 20 * torch.randn(3, columns, generator=generator, dtype=torch.float64)
    scores[0] = -torch.inf
    scores[1, torch.rand(columns, generator=generator) < 0.5] = -torch.inf
    wanted = scores.softmax(-1).nan_to_num(0.0)
    torch.testing.assert_close(tiled.softmax(scores, width), wanted, atol=1e-14, rtol=0)


def test_operations_of_the_published_case() -> None:
    lengths = [1024, 512, 256, 128]
    assert round(flops.ratio(lengths, 768), 4) == 0.4439
    assert flops.ratio([7, 7], 16) == 1
    assert flops.ratio([10] * 4, 4096, 20) == pytest.approx(0.5, abs=2e-3), "short sequences: α"
    assert flops.ratio([50_000] * 4, 1, 100_000) == pytest.approx(0.25, abs=1e-4), "long ones: Σ n² / (B L²)"


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: packing([3, 7], 6), "between 0 and the batch's 6 positions, got 3 to 7"),
        (lambda: packing([3, -1]), "got -1 to 3"),
        (lambda: packing_of_mask(torch.tensor([[True, True], [False, True]])), "sequence 1 is True after a False"),
        (lambda: packing([1, 2]).pack(torch.zeros(2, 3)), r"must be \[batch, pos, …\] = \(2, 2\), got \(2, 3\)"),
        (lambda: packing([1, 2]).unpack(torch.zeros(4, 1)), r"with 3 tokens, got \(4, 1\)"),
        (
            lambda: attention(*torch.zeros(3, 4, 1, 2), packing([3])),
            "q must be floating-point packed rows .* of 3 tokens",
        ),
        (
            lambda: attention(torch.zeros(3, 1, 2), *torch.zeros(2, 3, 2, 2), packing([3])),
            "q, k and v must have one shape",
        ),
        (lambda: attention(*torch.zeros(3, 3, 1, 2), packing([3]), float("inf")), "scale must be a finite number"),
        (lambda: flops.ratio([], 8), "without tokens has no operations"),
        (lambda: tiled.tile_statistics(torch.zeros(2, 3), 0), "at least 1 column wide, got 0"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(untyped, call, words) -> None:
    with pytest.raises(ValueError, match=words):
        call()


def test_dtypes_must_agree(untyped) -> None:
    q = torch.zeros(3, 1, 2)
    with pytest.raises(TypeError, match="q, k and v must share dtype and device"):
        attention(q, q.half(), q, packing([3]))


@pytest.fixture(scope="module")
def triton_path():
    pytest.importorskip("triton", reason="Triton has no build for this platform")
    from microtome.kernels.byte_transformer import triton_path

    return triton_path


CASES = [
    ([70, 0, 3, 129], 2, 16, torch.float32, 3),
    ([1] * 40 + [0] * 5 + [70, 2], 1, 32, torch.float32, 4),
    ([33], 1, 72, torch.float32, 100),
    ([40, 65], 2, 64, torch.float16, 2),
    ([40, 65], 2, 128, torch.bfloat16, 5),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_gpu_kernel_gives_the_equation(generator, triton_path, case) -> None:
    lengths, heads, d_head, dtype, grid = case
    packed = packing(lengths)
    q, k, v = draw(generator, packed.tokens, heads, d_head, dtype)
    assert triton_path.supports(q)
    found = triton_path.forward(q, k, v, packed, d_head**-0.5, grid)
    assert found.dtype == dtype
    close(found, reference(q.double(), k.double(), v.double(), packed), dtype)


def test_a_batch_without_tokens_starts_no_program(triton_path) -> None:
    q = torch.zeros(0, 2, 16)
    assert triton_path.forward(q, q, q, packing([0, 0]), 1.0, 4).shape == (0, 2, 16)


@pytest.mark.slow
@pytest.mark.parametrize("target", [80, 90])
def test_every_variant_compiles_and_spills_one_word_at_most(triton_path, target) -> None:
    for compiled in ahead_of_time.compile_for(list(triton_path.variants()), target):
        assert compiled.fits, compiled.variant.name
        assert compiled.spilled <= 4, compiled.variant.name
