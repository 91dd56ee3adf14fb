"""Kernelised attention with relative positions (Luo et al. 2021): its checks on the zoo's own mixer, and its claim."""

import pytest
import torch
import torch.nn.functional as F

from microtome.kernels.random_features import positive_features
from microtome.lab import zoo
from microtome.lab.tasks.previous_token import PreviousToken
from microtome.lab.zoo.mixers import nprf
from microtome.theory import claims, registry

SIZES = {"d_vocab": 11, "position": "none", "d_model": 16, "n_heads": 2, "n_layers": 1, "n_ctx": 40}


def model(generator, causal=True, **options):
    built = zoo.sequence(mixer={"name": "nprf", "features": 6, **options}, causal=causal, **SIZES).double()
    with torch.no_grad():
        built.blocks[0].attn.b.normal_(generator=generator)
    return built


@pytest.fixture
def tokens(generator):
    return torch.randint(11, (2, 30), generator=generator)


def z(built, tokens):
    return built.run_with_cache(tokens, names_filter="blocks.0.attn.hook_z")[1]["z", 0].transpose(1, 2)


def features(built, tokens):
    cache = built.run_with_cache(tokens)[1]
    q, k, v = (cache[name, 0].transpose(1, 2) for name in "qkv")
    attn = built.blocks[0].attn
    return *(positive_features(F.normalize(x, dim=-1), attn.w) for x in (q, k)), v


@pytest.mark.parametrize("causal", [True, False])
def test_the_transform_is_the_dense_path(generator, tokens, monkeypatch, causal):
    built = model(generator, causal)
    monkeypatch.setattr(nprf, "TRANSFORM_COST", 0)
    phi_q, phi_k, v = features(built, tokens)
    b = built.blocks[0].attn.b
    offsets = torch.arange(30) - torch.arange(30)[:, None]  # key − query
    weights = (phi_q @ phi_k.mT) * b[:, offsets + 39].exp()
    if causal:
        weights = weights.tril()
    torch.testing.assert_close(z(built, tokens), weights / weights.sum(-1, keepdim=True) @ v, atol=1e-10, rtol=1e-10)


def test_without_b_it_is_linear_attention(generator, tokens):
    built = model(generator, causal=False)
    with torch.no_grad():
        built.blocks[0].attn.b.zero_()
    phi_q, phi_k, v = features(built, tokens)
    wanted = phi_q @ (phi_k.mT @ v) / (phi_q @ phi_k.sum(2)[..., None])
    torch.testing.assert_close(z(built, tokens), wanted, atol=1e-12, rtol=0)


@pytest.mark.parametrize("cost", [24, 0], ids=["dense", "transform"])
def test_a_constant_added_to_b_changes_nothing(generator, tokens, monkeypatch, cost):
    monkeypatch.setattr(nprf, "TRANSFORM_COST", cost)
    built = model(generator)
    before = z(built, tokens)
    with torch.no_grad():
        built.blocks[0].attn.b += 3.0
    torch.testing.assert_close(z(built, tokens), before, atol=1e-12, rtol=0)


def test_the_variance_law_holds():
    (law,) = [c for c in registry.listing(slug="nprf") if c.statement.name == "variance of positive features"]
    evidence = law.run(seed=1)
    assert evidence.verdict == "holds", evidence.to_json()


def test_the_length_of_a_query_does_not_matter(generator, tokens):
    built = model(generator)
    before = z(built, tokens)
    factor = 10 ** torch.randn(2, 30, 1, 1, generator=generator, dtype=torch.float64)
    found = {}
    hooks = [
        ("blocks.0.attn.hook_q", lambda q, hook: q * factor),
        ("blocks.0.attn.hook_z", lambda t, hook: found.update(z=t.transpose(1, 2))),
    ]
    built.run_with_hooks(tokens, fwd_hooks=hooks)
    torch.testing.assert_close(found["z"], before, atol=1e-12, rtol=1e-10)


@pytest.mark.parametrize("cost", [24, 0], ids=["dense", "transform"])
def test_no_gradient_comes_from_later_values(generator, tokens, monkeypatch, cost):
    monkeypatch.setattr(nprf, "TRANSFORM_COST", cost)
    built, kept = model(generator), {}

    def keep(name):
        return lambda t, hook: kept.update({name: t})

    built.run_with_hooks(tokens, fwd_hooks=[(f"blocks.0.attn.hook_{name}", keep(name)) for name in "vz"])
    (slope,) = torch.autograd.grad(kept["z"][:, 12].sum(), kept["v"])
    assert slope[:, 13:].abs().max() <= 1e-13
    assert (slope[:, :13].abs().amax((2, 3)) > 1e-6).all()


@pytest.mark.parametrize("cost", [24, 0], ids=["dense", "transform"])
def test_images_have_offsets_down_and_right(generator, monkeypatch, cost):
    monkeypatch.setattr(nprf, "TRANSFORM_COST", cost)
    built = zoo.sequence(
        stem={"name": "grid", "image_size": 12, "patch": 3, "n_classes": 5, "pool": "mean"},
        mixer={"name": "nprf", "features": 6, "grid": (4, 4)},
        position="none",
        d_model=16,
        n_heads=2,
        n_layers=1,
    ).double()
    attn = built.blocks[0].attn
    assert attn.b.shape == (2, 7, 7)
    with torch.no_grad():
        attn.b.normal_(generator=generator)
    images = torch.randn(2, 3, 12, 12, generator=generator, dtype=torch.float64)
    phi_q, phi_k, v = features(built, images)
    weights = phi_q @ phi_k.mT
    for i in range(16):
        for j in range(16):
            weights[:, :, i, j] *= attn.b[:, j // 4 - i // 4 + 3, j % 4 - i % 4 + 3].exp()
    torch.testing.assert_close(z(built, images), weights / weights.sum(-1, keepdim=True) @ v, atol=1e-10, rtol=1e-10)


def test_grids_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="must be a height and a width of at least 1, and needs causal=False"):
        zoo.sequence(mixer={"name": "nprf", "grid": (4, 4)}, **SIZES)
    built = zoo.sequence(mixer={"name": "nprf", "grid": (4, 4)}, causal=False, **SIZES)
    with pytest.raises(ValueError, match="places 4 × 4 positions on a grid, not 9"):
        built(torch.zeros(1, 9, dtype=torch.long))


def test_the_lab_s_sizes():
    built = zoo.build("nprf", "tiny", d_vocab=20, n_ctx=64)
    assert (len(built.blocks), built.cfg.d_model, built.cfg.n_heads) == (2, 64, 2)
    assert built.blocks[0].attn.w.shape == (32, 32)
    assert built.blocks[0].attn.b.shape == (2, 127)
    assert not built.blocks[0].attn.w.requires_grad
    small = zoo.build("nprf", "small", d_vocab=20, n_ctx=64)
    assert (len(small.blocks), small.cfg.d_model, small.cfg.n_heads) == (6, 256, 8)
    assert small.blocks[0].attn.w.shape == (64, 32)


def test_the_task_asks_for_the_token_before(generator):
    batch = PreviousToken(vocab=4, length=9).sample(3, generator)
    assert torch.equal(batch.targets[:, 1:], batch.tokens[:, :-1])
    assert batch.weights[:, 0].eq(0).all()
    assert batch.weights[:, 1:].eq(1).all()
    with pytest.raises(ValueError, match="length must be at least 2"):
        PreviousToken(vocab=4, length=1)


def test_the_claim_holds():
    evidence = claims.load("nprf").run(budget="quick", seed=0)
    assert evidence.verdict == "holds", evidence.to_json()
    evidence.figure()
