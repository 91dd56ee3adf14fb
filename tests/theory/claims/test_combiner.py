"""Combiner (Ren et al. 2021): its checks on the zoo's own layer against region-by-region sums, and its claim."""

import math

import pytest
import torch
import torch.nn.functional as F

from microtome.lab import zoo
from microtome.lab.tasks.label_recall import LabelRecall
from microtome.lab.zoo.mixers import _combiner
from microtome.theory import claims

PATTERNS = ("fixed", "logsparse", "axial", "mixture")
SIZES = {"d_vocab": 11, "d_model": 16, "n_heads": 2, "n_layers": 1, "n_ctx": 64, "position": "none"}


def model(pattern="fixed", causal=True, segment=8, **options):
    mixer = {"name": "combiner", "pattern": pattern, "segment": segment, **options}
    return zoo.sequence(mixer=mixer, causal=causal, **SIZES).double()


def draw(n, generator, batch=2):
    return torch.randint(11, (batch, n), generator=generator)


def given(n, generator, causal=True, pool="max"):
    q, k, v = (torch.randn(1, 1, n, 4, generator=generator, dtype=torch.float64) for _ in range(3))
    return _combiner.Input(q, k, v, torch.ones(1, n, dtype=torch.bool), causal, pool)


def by_regions(x, direct, regions, pool="max"):
    """z of one head from explicit lists: `direct(i)` and `regions(i)` are places, and lists of places."""
    q, k, v = (each[0, 0] for each in x[:3])
    pooled = (lambda t: t.amax(0)) if pool == "max" else (lambda t: t.mean(0))
    rows = []
    for i in range(len(q)):
        places, parts = direct(i), regions(i)
        logits = [q[i] @ k[j] for j in places] + [q[i] @ pooled(k[part]) for part in parts]
        values = [v[j] for j in places] + [(k[part] @ pooled(q[part])).softmax(0) @ v[part] for part in parts]
        rows.append(torch.stack(logits).softmax(0) @ torch.stack(values))
    return torch.stack(rows)[None, None]


@pytest.mark.parametrize("pool", ["max", "mean"])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("n", [16, 19])
def test_fixed_segments_are_their_regions_one_by_one(n, causal, pool, generator):
    x = given(n, generator, causal, pool)
    own = [list(range(s, min(s + 4, n))) for s in range(0, n, 4)]
    wanted = by_regions(
        x,
        lambda i: [j for j in own[i // 4] if j <= i or not causal],
        lambda i: [part for s, part in enumerate(own) if s < i // 4 or (not causal and s != i // 4)],
        pool,
    )
    torch.testing.assert_close(_combiner.fixed(x, 4), wanted, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("n", [1, 17, 33])
def test_logsparse_cuts_the_past_by_the_binary_digits(n, generator):
    x = given(n, generator)

    def regions(i):
        digits = [level for level in range(n.bit_length()) if i >> level & 1]
        return [list(range(((i >> level) - 1) << level, (i >> level) << level)) for level in digits]

    assert all(sorted(j for part in regions(i) for j in part) == list(range(i)) for i in range(n))
    torch.testing.assert_close(_combiner.logsparse(x), by_regions(x, lambda i: [i], regions), atol=1e-12, rtol=1e-12)


def test_mixture_is_rows_columns_and_what_lies_beside(generator):
    n, w = 18, 4
    x = given(n, generator)

    def direct(i):
        row, column = divmod(i, w)
        return [row * w + c for c in range(column + 1)] + [r * w + column for r in range(row)]

    def regions(i):
        row, column = divmod(i, w)
        columns = [[r * w + c for r in range(row)] for c in range(w) if c != column]
        left = [[r * w + c for c in range(column)] for r in range(row)]
        right = [[r * w + c for c in range(column + 1, w)] for r in range(row)]
        return [part for part in (*columns, *left, *right) if part]

    torch.testing.assert_close(_combiner.mixture(x, w), by_regions(x, direct, regions), atol=1e-12, rtol=1e-12)


def test_axial_rows_are_summed_up_at_every_place(generator):
    n, w = 12, 4
    x = given(n, generator)
    keys = torch.randn(1, 1, n, 4, generator=generator, dtype=torch.float64)
    q, k, v = (each[0, 0] for each in x[:3])
    rows = [slice(r, r + w) for r in range(0, n, w)]
    summary = torch.cat([(q[row] @ k[row].T).softmax(-1) @ v[row] for row in rows])
    wanted = []
    for i in range(n):
        own, above = range(i // w * w, i + 1), range(i % w, i // w * w, w)
        logits = torch.stack([q[i] @ k[j] for j in own] + [q[i] @ keys[0, 0, j] for j in above])
        wanted.append(logits.softmax(0) @ torch.stack([v[j] for j in own] + [summary[j] for j in above]))
    torch.testing.assert_close(_combiner.axial(x, w, keys)[0, 0], torch.stack(wanted), atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("n", [1, 17, 33, 64])
def test_weights_are_positive_exactly_where_full_attention_looks_and_sum_to_one(pattern, causal, n, generator):
    built, tokens = model(pattern, causal), draw(n, generator)
    effective = built.effective_attention(tokens)[0]
    past = torch.ones(n, n, dtype=torch.bool)
    past = past.tril() if causal else past
    assert torch.equal(effective.matrix > 0, past.expand_as(effective.matrix))
    torch.testing.assert_close(effective.matrix.sum(-1), torch.ones(2, 2, n).double(), atol=1e-12, rtol=0)
    z = built.run_with_cache(tokens)[1]["z", 0]
    torch.testing.assert_close(effective.matrix @ effective.values, z.transpose(1, 2), atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("segment", [1, 64])
def test_segments_of_one_and_of_everything_are_full_causal_attention(segment, generator):
    built, tokens = model(segment=segment), draw(64, generator)
    cache = built.run_with_cache(tokens)[1]
    q, k, v = (cache[name, 0].transpose(1, 2) for name in "qkv")
    wanted = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    torch.testing.assert_close(cache["z", 0].transpose(1, 2), wanted, atol=1e-12, rtol=1e-12)


def test_logsparse_with_zero_logits_splits_evenly(generator):
    x = given(40, generator)
    zero = torch.zeros_like(x.q)
    unit = torch.eye(40, dtype=torch.float64)[None, None]
    weights = _combiner.logsparse(x._replace(q=zero, k=zero, v=unit))[0, 0]
    wanted = torch.tensor([1 / (1 + i.bit_count()) for i in range(40)], dtype=torch.float64)
    torch.testing.assert_close(weights.diagonal(), wanted)


def test_equal_keys_give_a_segment_less_than_full_attention_does(generator):
    """Region logits carry no log of the region's size: one of 1 + 8 logits, where full attention has 8 of 16."""
    x = given(16, generator)
    ones = torch.ones_like(x.q)
    unit = torch.eye(16, dtype=torch.float64)[None, None]
    weights = _combiner.fixed(x._replace(q=ones, k=ones, v=unit), 8)[0, 0]
    assert weights[15, :8].sum().item() == pytest.approx(1 / 9)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_no_gradient_comes_from_the_future(pattern, generator):
    built, tokens = model(pattern), draw(30, generator)
    kept = {}
    hook = lambda t, hook: kept.update(x=t)  # noqa: E731
    out = built.run_with_hooks(tokens, fwd_hooks=[("blocks.0.hook_resid_pre", hook)])
    (gradient,) = torch.autograd.grad(out[:, 13].square().sum(), kept["x"])
    assert (gradient[:, 14:] == 0).all()
    assert (gradient[:, :14].abs().sum(-1) > 0).all()


def test_published_parameters_of_the_language_model():
    """12 layers of width 768, 12 heads, segments of 128, feed-forward 3,072; embeddings and the last norm left out."""
    with torch.device("meta"):
        for pattern in ("fixed", "mixture"):
            built = zoo.sequence(
                d_vocab=2,
                mixer={"name": "combiner", "pattern": pattern, "segment": 128},
                position="none",
                d_model=768,
                n_layers=12,
                n_heads=12,
                n_ctx=2048,
            )
            assert sum(p.numel() for p in built.blocks.parameters()) == 85_054_464
        width = 768
        axial = zoo.sequence(
            d_vocab=2, mixer={"name": "combiner", "pattern": "axial"}, d_model=width, n_layers=1, n_heads=12
        )
        plain = zoo.sequence(d_vocab=2, mixer="combiner", d_model=width, n_layers=1, n_heads=12)
    added = sum(p.numel() for p in axial.parameters()) - sum(p.numel() for p in plain.parameters())
    assert added == 2 * (width**2 + width) + 2 * width


def test_the_segment_is_the_root_of_the_length_unless_given():
    assert zoo.sequence(mixer="combiner", **SIZES).blocks[0].attn.w == math.isqrt(64)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"pattern": "diagonal"}, "pattern is one of fixed, logsparse, axial, mixture, not 'diagonal'"),
        ({"pool": "sum"}, "pool is one of max, mean, not 'sum'"),
        ({"segment": 0}, "a segment has at least 1 position, not 0"),
    ],
)
def test_impossible_options_get_a_sentence(untyped, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        zoo.sequence(mixer={"name": "combiner", **options}, **SIZES)


def test_the_label_stands_in_an_early_segment_and_never_ends_it(generator):
    task = LabelRecall(labels=10, length=20, segment=8)
    batch = task.sample(500, generator)
    labels = batch.tokens < 10
    assert (labels.sum(1) == 1).all()
    places = labels.int().argmax(1)
    assert set(places.tolist()) == {*range(7), *range(8, 15)}
    assert torch.equal(batch.tokens[labels], batch.targets[:, -1])
    assert torch.equal(batch.weights.sum(0).nonzero()[:, 0], torch.tensor([19]))
    with pytest.raises(ValueError, match="at least two segments, not 8 and 9"):
        LabelRecall(length=9)


def test_the_claim_holds():
    evidence = claims.load("combiner").run(budget="quick", seed=0)
    assert evidence.verdict == "holds", evidence.to_json()
    evidence.figure()
