"""SLAB (Guo et al. 2024): its checks on the zoo's own parts, its published sizes, and its claim."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.fusion import fuse_linear_bn_eval

from microtome.lab import zoo
from microtome.lab.zoo.compression.slab import into_following, into_preceding, merge
from microtome.lab.zoo.mixers import slab as sla
from microtome.lab.zoo.norms import prepbn, repbn
from microtome.lab.zoo.parts import Context, Position
from microtome.theory import claims
from microtome.theory.statements.slab_numeric import NORMS, settled_model

ETA, GAMMA, BETA, MU, VAR = 0.3, [1.5, 0.5], [0.1, -0.2], [2.0, -1.0], [4.0, 0.25]


@pytest.fixture
def norm(generator):
    """A RepBN of eight channels with random statistics and parameters, in evaluation mode."""
    built = repbn.Part().build(8).double().eval()
    with torch.no_grad():
        for value in (built.weight, built.bias, built.eta, built.bn.running_mean):
            value.copy_(torch.randn(value.shape, generator=generator))
        built.bn.running_var.uniform_(0.2, 3.0, generator=generator)
    return built


def draw(generator, *shape):
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def started(module, generator):
    """The module in float64 with standard normal parameters."""
    module = module.double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(generator=generator)
    return module


def test_repbn_is_the_batch_norm_with_other_gain_and_bias(norm, generator):
    sigma = (norm.bn.running_var + 1e-5).sqrt()
    plain = nn.BatchNorm1d(8).double().eval()
    plain.load_state_dict(
        {
            **{name: norm.bn.state_dict()[name] for name in ("running_mean", "running_var", "num_batches_tracked")},
            "weight": norm.weight + norm.eta * sigma,
            "bias": norm.bias + norm.eta * norm.bn.running_mean,
        }
    )
    x = draw(generator, 3, 5, 8)
    torch.testing.assert_close(norm(x), plain(x.mT).mT, atol=1e-12, rtol=0)


@pytest.mark.parametrize("bias", [True, False])
def test_a_merged_linear_map_is_norm_and_linear(norm, bias, generator):
    linear, x = started(nn.utils.skip_init(nn.Linear, 8, 6, bias=bias), generator), draw(generator, 3, 5, 8)
    state = {"map.weight": linear.weight, "map.bias": linear.bias if bias else torch.zeros(6, dtype=torch.float64)}
    into_following(state, "map", *norm.affine())
    torch.testing.assert_close(F.linear(x, state["map.weight"], state["map.bias"]), linear(norm(x)), atol=1e-12, rtol=0)


def test_with_eta_zero_a_map_before_the_norm_folds_as_torch_folds_batch_norm(norm, generator):
    linear = started(nn.utils.skip_init(nn.Linear, 4, 8), generator).eval()
    with torch.no_grad():
        norm.eta.zero_()
    plain = nn.BatchNorm1d(8).double().eval()
    plain.load_state_dict({**norm.bn.state_dict(), "weight": norm.weight, "bias": norm.bias})
    theirs = fuse_linear_bn_eval(linear, plain)
    weight, bias = into_preceding(linear.weight, linear.bias, *norm.affine())
    torch.testing.assert_close(weight, theirs.weight, atol=1e-12, rtol=0)
    torch.testing.assert_close(bias, theirs.bias, atol=1e-12, rtol=0)


def test_a_merged_convolution_keeps_what_the_published_merge_forgets(norm, generator):
    """A merge that leaves η·d out of the bias is wrong by exactly that."""
    patches, images = started(nn.utils.skip_init(nn.Conv2d, 3, 8, 2, stride=2), generator), draw(generator, 2, 3, 6, 6)
    a, b = norm.affine()
    weight, bias = into_preceding(patches.weight, patches.bias, a, b)
    wanted = norm(patches(images).flatten(2).mT)
    found = F.conv2d(images, weight, bias, stride=2).flatten(2).mT
    torch.testing.assert_close(found, wanted, atol=1e-12, rtol=0)
    forgetful = F.conv2d(images, weight, bias - norm.eta * patches.bias, stride=2).flatten(2).mT
    off, forgotten = (forgetful - wanted).abs().max(), (norm.eta * patches.bias).abs().max()
    torch.testing.assert_close(off, forgotten, atol=1e-12, rtol=0)
    assert forgotten > 1e-3


def test_worked_numbers():
    built = repbn.Part(eta=ETA).build(2)
    with torch.no_grad():
        for value, given in ((built.weight, GAMMA), (built.bias, BETA), (built.bn.running_mean, MU)):
            value.copy_(torch.tensor(given))
        built.bn.running_var.copy_(torch.tensor(VAR))
    a, b = built.affine()
    torch.testing.assert_close(a, torch.tensor([1.05, 1.30]), atol=1e-4, rtol=0)
    torch.testing.assert_close(b, torch.tensor([-1.40, 0.80]), atol=1e-4, rtol=0)


def test_the_share_of_layer_norm_falls_by_r0_over_t_a_training_step(generator):
    built = prepbn.Part(steps=8, r0=0.5, warmup=3).build(4)
    x, shares = torch.randn(4, 5, 4, generator=generator), []
    for _ in range(14):
        built(x)
        shares.append(built.share().item())
    assert shares[:3] == [1.0, 1.0, 1.0]
    assert shares[3:] == pytest.approx([0.5 * max(8 - t, 0) / 8 for t in range(1, 12)])
    built.eval()
    built(x)
    assert built.step == 14, "evaluation is no step"
    assert built.state_dict()["step"] == 14


def test_a_share_of_one_is_layer_norm_and_of_zero_is_repbn_exactly(generator):
    x = torch.randn(4, 5, 6, generator=generator)
    first = prepbn.Part(steps=10, warmup=1).build(6)
    assert torch.equal(first(x), first.ln(x))
    last = prepbn.Part(steps=1).build(6)
    rep = copy.deepcopy(last.rep)
    assert torch.equal(last(x), rep(x))
    assert (last(x) - last.ln(x)).abs().max() > 1e-3


def test_evaluation_is_repbn_whatever_the_share_and_its_statistics_track_from_the_first_step(generator):
    built = prepbn.Part(steps=1000, warmup=100).build(6)
    x = 3 + torch.randn(4, 5, 6, generator=generator)
    built(x)
    torch.testing.assert_close(built.rep.bn.running_mean, 0.1 * x.mean((0, 1)), atol=1e-6, rtol=0)
    built.eval()
    assert torch.equal(built(x), built.rep(x))


def test_statistics_are_those_of_real_positions(generator):
    built = repbn.Part().build(6)
    x = torch.randn(3, 7, 6, generator=generator)
    mask = torch.rand(3, 7, generator=generator) > 0.4
    built.bn.mask = mask
    out = built(x)
    mean, var = x[mask].mean(0), x[mask].var(0, unbiased=False)
    wanted = (x - mean) / (var + 1e-5).sqrt() + x
    torch.testing.assert_close(out[mask], wanted[mask], atol=1e-5, rtol=0)
    torch.testing.assert_close(built.bn.running_mean, 0.1 * mean, atol=1e-6, rtol=0)


def test_the_model_tells_its_norms_what_is_padding_and_trains_on_all_rows(generator):
    built = zoo.sequence(d_vocab=9, d_model=8, n_heads=2, n_layers=1, n_ctx=12, norm="repbn").train()
    tokens = torch.randint(9, (2, 12), generator=generator)
    mask = torch.ones(2, 12, dtype=torch.bool)
    mask[0, 7:] = False
    other = torch.where(mask, tokens, (tokens + 1) % 9)
    a, b = (built(t, mask=mask)[mask] for t in (tokens, other))
    torch.testing.assert_close(a, b, atol=1e-6, rtol=0)
    built = zoo.sequence(dim=2, d_model=8, n_heads=2, n_layers=1, n_ctx=12, norm="repbn").train()
    xs, ys = torch.randn(4, 6, 2, generator=generator), torch.randn(4, 6, generator=generator)
    assert torch.equal(built(xs, ys), built.run_with_cache(xs, ys)[0]), "rows were skipped that batch statistics need"


@pytest.mark.usefixtures("untyped")
def test_bad_norms_are_refused():
    with pytest.raises(ValueError, match="at least two real positions to train on, not 1"):
        repbn.Part().build(4)(torch.zeros(1, 1, 4))
    for options in ({"steps": 0}, {"warmup": -1}, {"r0": 1.5}):
        with pytest.raises(ValueError, match="PRepBN needs steps >= 1, warmup >= 0 and 0 <= r0 <= 1"):
            prepbn.Part(**options).build(4)


@pytest.mark.parametrize(("n", "d"), [(9, 4), (4, 9), (5, 5)])
def test_both_orders_of_products_agree_with_their_gradients(n, d, generator):
    inputs = [draw(generator, 2, 3, n, d).abs().requires_grad_() for _ in range(3)]
    upstream = draw(generator, 2, 3, n, d)
    one, two = sla.by_features(*inputs), sla.by_positions(*inputs)
    torch.testing.assert_close(one, two, atol=1e-10, rtol=0)
    gradients = [torch.autograd.grad(out, inputs, upstream) for out in (one, two)]
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=0)


def layer(generator, n_ctx=16):
    built = zoo.sequence(d_vocab=3, mixer="slab", causal=False, d_model=8, n_heads=2, n_layers=1, n_ctx=n_ctx).double()
    mixer = built.blocks[0].mixing
    with torch.no_grad():
        mixer.position.normal_(generator=generator)
    return mixer


def test_rows_of_the_attention_are_a_distribution_and_an_empty_query_leaves_the_convolution(generator):
    mixer, x = layer(generator), draw(generator, 2, 16, 8)
    context = Context(Position(), 16)
    q, k, v = mixer._heads(x, context)
    pattern = mixer._pattern(q, k, context)
    assert (pattern >= 0).all()
    seeing = (q.sum(-1) > 0).double()
    torch.testing.assert_close(pattern.sum(-1), seeing, atol=1e-4, rtol=0)
    assert 0 < seeing.mean() < 1, "some queries here have no feature"
    q = torch.zeros_like(q)
    torch.testing.assert_close(mixer._attend(q, k, v, context), mixer._convolved(v), atol=0, rtol=0)


@pytest.mark.parametrize(("n_ctx", "n", "shape"), [(16, 16, (4, 4)), (16, 10, (3, 4)), (12, 12, (1, 12))])
def test_the_convolution_runs_over_the_grid_row_by_row_the_same_for_all_heads(n_ctx, n, shape, generator):
    mixer, v = layer(generator, n_ctx), draw(generator, 2, 2, n, 4)
    grid = torch.zeros(2, 2, 4, shape[0] * shape[1], dtype=torch.float64)
    grid[..., :n] = v.mT
    wanted = torch.stack([mixer.dwc(head.unflatten(-1, shape)) for head in grid.unbind(1)], 1)
    wanted = wanted.flatten(-2)[..., :n].mT - mixer.dwc.bias
    torch.testing.assert_close(mixer._convolved(v), wanted, atol=1e-12, rtol=0)


def test_sums_are_made_in_single_precision_at_least():
    q = k = torch.full((1, 1, 4096, 4), 3.0, dtype=torch.float16)
    out = sla.simplified_linear_attention(q, k, torch.ones_like(q))
    assert out.dtype == torch.float16
    assert torch.equal(out, torch.ones_like(out)), "the normaliser 147,456 is beyond half precision"


@pytest.mark.parametrize(("variant", "parameters"), [("slab_deit_tiny", 6_198_401), ("repbn_deit_tiny", 5_717_441)])
def test_published_sizes(variant, parameters):
    assert sum(p.numel() for p in zoo.build("slab", variant).parameters()) == parameters


def test_the_class_token_of_the_simplified_model_does_nothing(generator):
    model = settled_model(generator)
    images = torch.randn(2, 3, 16, 16, generator=generator)
    before = model(images)
    with torch.no_grad():
        model.cls.add_(5.0)
    assert torch.equal(model(images), before)


def test_merging_leaves_the_given_model_alone(generator):
    model = settled_model(generator)
    state = copy.deepcopy(model.state_dict())
    merged = merge(model)
    assert not any(isinstance(m, NORMS) for m in merged.modules())
    assert any(isinstance(m, NORMS) for m in model.modules())
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    "parts",
    [
        {
            "mixer": {"name": "softmax", "bias": False},
            "feedforward": "swiglu",
            "stem": {"name": "tokens", "d_vocab": 9},
        },
        {"mixer": {"name": "softmax", "fused_qkv": True}, "feedforward": "relu", "d_vocab": 9},
        {"mixer": "urpe", "feedforward": "none", "position": "relative", "d_vocab": 9},
    ],
    ids=["bias-free", "fused", "attention-only"],
)
def test_language_models_merge_too(parts, generator):
    model = zoo.sequence(norm="repbn", d_model=8, n_heads=2, n_layers=2, n_ctx=12, **parts).train()
    tokens = torch.randint(9, (4, 12), generator=generator)
    for _ in range(3):
        model(tokens)
    model.eval()
    merged = merge(model)
    torch.testing.assert_close(merged(tokens), model(tokens), atol=1e-5, rtol=0)
    assert not any(isinstance(m, NORMS) for m in merged.modules())


def test_what_cannot_be_merged_is_refused():
    sizes = {"d_vocab": 5, "d_model": 8, "n_heads": 2, "n_layers": 2, "n_ctx": 8}
    with pytest.raises(ValueError, match="only RepBN and PRepBN in front of each sub-layer"):
        merge(zoo.sequence(**sizes))
    with pytest.raises(ValueError, match="only RepBN and PRepBN in front of each sub-layer"):
        merge(zoo.sequence(norm={"name": "repbn", "placement": "post"}, **sizes))
    with pytest.raises(ValueError, match="LinearAttention reads its norm by more than linear maps"):
        merge(zoo.sequence(norm="repbn", mixer="linear_attention", **sizes))
    with pytest.raises(ValueError, match="are one tensor, which cannot take in two different norms"):
        merge(zoo.sequence(norm="repbn", depth="shared", **sizes))


def test_the_layer_takes_no_longer_input_and_no_causal_model():
    built = zoo.sequence(mixer="slab", d_vocab=5, causal=False, d_model=8, n_heads=2, n_ctx=9, position="none")
    assert built.longest == 9
    with pytest.raises(ValueError, match="needs causal=False"):
        zoo.sequence(mixer="slab", d_vocab=5)


def test_the_claim_s_untrained_parts_at_the_quick_budget():
    evidence = claims.load("slab").run(budget="quick", seed=0)
    assert [part.verdict for part in evidence.parts] == ["holds", "holds", "inconclusive"], evidence.to_json()


@pytest.mark.slow
def test_the_claim_at_the_full_budget_where_its_trained_part_fails():
    evidence = claims.load("slab").run(budget="full", seed=0)
    assert [part.verdict for part in evidence.parts] == ["holds", "holds", "fails"], evidence.to_json()
