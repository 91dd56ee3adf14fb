"""EcoFormer (Liu et al. 2022): its checks on the zoo's own mixer, its published sizes, and its claim."""

from collections import Counter

import pytest
import torch
import torch.nn.functional as F

from microtome.kernels import binary_hash
from microtome.kernels.binary_hash import energy
from microtome.lab import zoo
from microtome.lab.zoo.mixers import _hashing
from microtome.lab.zoo.mixers.ecoformer import learn_hashes
from microtome.lab.zoo.vision.ecoformer import binarised
from microtome.lab.zoo.vision.pvt_v2 import B0, PyramidModel
from microtome.theory import claims
from microtome.theory.statements.ecoformer_numeric import clustered

SIZES = {"d_vocab": 11, "position": "none", "d_model": 16, "n_heads": 2, "n_layers": 1, "n_ctx": 80}


def model(causal=False, **options):
    return zoo.sequence(mixer={"name": "ecoformer", **options}, causal=causal, **SIZES).double()


@pytest.fixture
def tokens(generator):
    return torch.randint(11, (2, 70), generator=generator)


def read(built, tokens):
    """Codes [batch head pos bit], values and z of the first layer."""
    cache = built.run_with_cache(tokens)[1]
    return (cache[f"blocks.0.attn.hook_{name}"].transpose(1, 2) for name in ("code", "v", "z"))


def test_inner_products_of_codes_count_differing_bits(tokens):
    h, _, _ = read(model(), tokens)
    assert set(h.unique().tolist()) == {-1.0, 1.0}
    packed = binary_hash.pack(h)
    differ = binary_hash.hamming(packed[..., :, None, :], packed[..., None, :, :])
    assert torch.equal(h @ h.mT, 16.0 - 2 * differ)
    assert ((h @ h.mT).diagonal(dim1=-2, dim2=-1) == 16).all()


@pytest.mark.parametrize("causal", [True, False])
def test_the_linear_form_is_the_quadratic_one_with_positive_weights(tokens, causal):
    built = model(causal)
    h, v, z = read(built, tokens)
    scores = h @ h.mT + 17
    if causal:
        scores = scores.tril()
    torch.testing.assert_close(z, scores / scores.sum(-1, keepdim=True) @ v, atol=1e-9, rtol=1e-9)
    (effective,) = built.effective_attention(tokens)
    torch.testing.assert_close(effective.matrix.sum(-1), torch.ones(2, 2, 70, dtype=torch.float64))
    seen = torch.ones(70, 70, dtype=torch.bool).tril() if causal else torch.ones(70, 70, dtype=torch.bool)
    assert (effective.matrix[..., seen] > 0).all()


def test_the_released_bias_gives_rows_that_do_not_sum_to_one(tokens):
    built = model(released_bias=True)
    h, v, z = read(built, tokens)
    total = (h @ h.mT + 17).sum(-1, keepdim=True)
    torch.testing.assert_close(z, (h @ (h.mT @ v) + 17 * v) / total)
    (effective,) = built.effective_attention(tokens)
    assert (effective.matrix.sum(-1) - 1).abs().max() > 0.1


def test_the_loss_never_rises_at_a_bit_s_update():
    """These draws hold a bit whose fitted weights alone would raise the loss with hard signs."""
    drawn = torch.Generator().manual_seed(0)
    x, _ = clustered(4, drawn)
    _, losses = _hashing.learn(x.double(), 16, 25, drawn)
    assert len(losses) == 16
    assert all((loss.kept <= loss.before).all() for loss in losses)
    assert any((loss.kept < loss.before).any() for loss in losses)
    assert any((loss.proposed > loss.before).any() for loss in losses)


def test_tokens_with_one_code_get_one_output(tokens):
    """Few bits, so that different tokens share codes."""
    built = model(bits=3, anchors=4)
    h, _, z = read(built, tokens)
    for batch in range(2):
        for head in range(2):
            _, code = h[batch, head].unique(dim=0, return_inverse=True)
            shared = [c for c, count in Counter(code.tolist()).items() if count > 1]
            assert shared
            for c in shared:
                rows = z[batch, head, code == c]
                torch.testing.assert_close(rows, rows[:1].expand_as(rows), atol=1e-12, rtol=0)


def test_no_gradient_passes_where_the_projection_is_large(tokens, generator):
    built = model(bits=2, anchors=6)
    attn = built.blocks[0].attn
    x = torch.randn(1, 2, 60, 8, generator=generator, dtype=torch.float64, requires_grad=True)
    context = built._context(60, None, torch.device("cpu"))
    projected = attn.projections(x, context)
    h = binary_hash.signs(projected)
    along = torch.randn(h.shape, generator=generator, dtype=torch.float64)
    (through,) = torch.autograd.grad((h * along).sum(), projected, retain_graph=True)
    inside = projected.abs() < 1
    assert (through[~inside] == 0).all()
    assert torch.equal(through[inside], along[inside])
    assert inside.any()
    with torch.no_grad():
        attn.weights *= 1e6  # every projection is large
    far = attn.projections(x, context)
    assert (far.abs() >= 1).all()
    (nothing,) = torch.autograd.grad(binary_hash.signs(far).sum(), x)
    assert (nothing == 0).all()


def test_the_op_counter_gives_the_formulas():
    n, d, m, b = 3136, 32, 25, 16
    hashed = energy.hashed(n, d, m, b)
    assert hashed.multiplies == 2 * n * m + n * m * b + n * b + n + n * d
    assert hashed.adds == 2 * n * m * d + n * m * b + 2 * n * b + 2 * n * b * d + n * d
    softmax = energy.softmax(n, d)
    assert softmax == energy.Operations(2 * n * n * d + n * n, 2 * n * n * d)
    assert hashed.picojoules == pytest.approx(3.7 * hashed.multiplies + 0.9 * hashed.adds)
    with pytest.raises(ValueError, match="n must be at least 1, not 0"):
        energy.hashed(0, d)


def test_sums_of_codes_take_as_many_additions_as_are_counted(generator):
    """Counted one by one, beginning from zero: signs flip, and nothing is multiplied."""
    n, d, b, additions = 7, 3, 4, 0
    h = binary_hash.signs(torch.randn(n, b, generator=generator))
    v = torch.randn(n, d, generator=generator, dtype=torch.float64)
    state, codes = torch.zeros(b, d, dtype=torch.float64), torch.zeros(b)
    for j in range(n):
        for r in range(b):
            codes[r] += h[j, r]
            additions += 1
            for e in range(d):
                state[r, e] += v[j, e] if h[j, r] > 0 else -v[j, e]
                additions += 1
    torch.testing.assert_close(state, h.double().T @ v)
    assert energy.hashed_stages(n, d, 5, b)["sums of codes and of codes by values"].adds == additions


def test_learning_takes_anchors_from_the_first_example_and_fits_every_layer(generator):
    built = zoo.sequence(mixer="ecoformer", causal=False, **{**SIZES, "n_layers": 2})
    tokens = torch.randint(11, (3, 70), generator=generator)
    before = [mixer.weights.clone() for mixer in built.mixers()]
    losses = learn_hashes(built, tokens, seed=3)
    assert [len(each) for each in losses] == [16, 16]
    cache = built.run_with_cache(tokens)[1]
    for i, mixer in enumerate(built.mixers()):
        assert not torch.equal(mixer.weights, before[i])
        first = F.normalize(cache["q", i][0].transpose(0, 1), dim=-1)
        nearest = torch.cdist(mixer.anchors, first).amin(-1)
        assert nearest.max() < 1e-3
        assert all((loss.kept <= loss.before).all() for loss in losses[i])
    names = {name for name, _ in built.named_parameters()}
    assert not any(name.endswith(("anchors", "mu", "weights")) for name in names)
    again = zoo.sequence(mixer="ecoformer", causal=False, **{**SIZES, "n_layers": 2})
    learn_hashes(again, tokens, seed=3)
    assert torch.equal(again.blocks[1].attn.weights, built.blocks[1].attn.weights)
    with pytest.raises(ValueError, match="no layer of mixer 'ecoformer'"):
        learn_hashes(zoo.sequence(**SIZES), tokens)


def test_similarity_marks_the_ten_most_and_least_similar(generator):
    x = F.normalize(torch.randn(1, 1, 50, 8, generator=generator), dim=-1)
    s = _hashing.similarity(x)
    assert ((s == 1).sum(-1) == 10).all()
    assert ((s == -1).sum(-1) == 10).all()
    cosine = x @ x.mT
    low, high = cosine.masked_fill(s != -1, -2).amax(-1), cosine.masked_fill(s != 1, 2).amin(-1)
    assert (low < high).all()
    assert _hashing.similarity(x[:, :, :1]).abs().sum() == 0


@pytest.mark.parametrize(
    ("variant", "parameters"),
    [("b0", 3_136_328), ("b1", 11_891_368), ("b0_softmax", 3_198_280), ("b1_softmax", 12_138_152)],
)
def test_the_published_sizes(variant, parameters):
    built = zoo.build("ecoformer", variant)
    assert sum(p.numel() for p in built.parameters()) == parameters
    kinds = [type(mixer).__name__ for mixer in built.mixers()]
    below = "SoftmaxMixer" if variant.endswith("softmax") else "HashedAttention"
    assert kinds == [below] * 6 + ["SoftmaxMixer"] * 2


def test_a_softmax_pyramid_is_binarised(generator):
    built = zoo.build("ecoformer", "b0_softmax", image_size=64, n_classes=5)
    images = torch.randn(2, 3, 64, 64, generator=generator)
    hashed = binarised(built, images)
    assert hashed(images).shape == (2, 5)
    assert torch.equal(hashed.blocks[0].attn.q.weight, built.blocks[0].attn.q.weight)
    assert torch.equal(hashed.blocks[7].attn.k.weight, built.blocks[7].attn.k.weight)
    assert torch.equal(hashed.unembed.weight, built.unembed.weight)
    (out, cache) = hashed.run_with_cache(images, names_filter=lambda name: "entropy" in name)
    assert torch.equal(out, hashed(images))
    assert cache["blocks.0.attn.hook_row_entropy"].shape == (2, 1, 256)
    assert cache["blocks.7.attn.hook_row_entropy"].shape == (2, 8, 4)
    with pytest.raises(ValueError, match="only a pyramid with softmax attention"):
        binarised(hashed, images)


def test_images_and_mixers_that_do_not_fit_are_refused(untyped):
    built = zoo.build("ecoformer", "b0", image_size=32, n_classes=5)
    with pytest.raises(ValueError, match=r"images must be \[batch, 3, 32, 32\], not \[1, 3, 64, 64\]"):
        built(torch.zeros(1, 3, 64, 64))
    with pytest.raises(ValueError, match="image_size must be a multiple of 32, not 40"):
        zoo.build("ecoformer", "b0", image_size=40)
    with pytest.raises(ValueError, match="a pyramid of 4 stages needs as many mixers, not 0"):
        PyramidModel(B0, ())
    for options in ({"bits": 0}, {"anchors": 0}, {"c": 16.0}):
        with pytest.raises(ValueError, match="codes need at least 1 bit and 1 anchor, and c above the number of bits"):
            model(**options)


def test_the_claim_holds():
    evidence = claims.load("ecoformer").run(budget="quick", seed=0)
    assert evidence.verdict == "holds", evidence.to_json()
    evidence.figure()
