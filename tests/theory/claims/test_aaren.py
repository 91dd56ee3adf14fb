"""Aaren (Feng et al. 2024): its checks on the zoo's own models, and its claim."""

import math

import pytest
import torch
import torch.nn.functional as F

from microtome.kernels.scan import prefix_softmax
from microtome.lab import zoo
from microtome.lab.zoo import aaren as system
from microtome.lab.zoo.streaming import Stream
from microtome.theory import claims
from microtome.theory.claims import aaren
from microtome.theory.statements import aaren_numeric


def keys_and_values(generator, n=20):
    scores = 1000 * torch.rand(n, generator=generator, dtype=torch.float64) - 500
    return scores, torch.randn(n, 3, generator=generator, dtype=torch.float64)


def test_1_the_operator_is_associative_at_scores_of_500(generator):
    x, y, z = (prefix_softmax.reduce(*keys_and_values(generator)) for _ in range(3))
    combine = prefix_softmax.combine
    for a, b in zip(combine(combine(x, y), z), combine(x, combine(y, z)), strict=True):
        torch.testing.assert_close(a, b, atol=1e-12, rtol=1e-12)


def test_2_the_identity_from_the_left_from_the_right_and_twice(generator):
    x = prefix_softmax.reduce(*keys_and_values(generator))
    none = prefix_softmax.identity(x.w)
    for a, b in ((prefix_softmax.combine(none, x), x), (prefix_softmax.combine(x, none), x)):
        assert all(torch.equal(mine, theirs) for mine, theirs in zip(a, b, strict=True))
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(prefix_softmax.combine(none, none), none, strict=True))


def test_3_the_last_output_is_cross_attention_of_the_token_over_all_inputs(generator):
    model = zoo.build("aaren", "small", dim=4).double()
    mixing = model.blocks[0].mixing
    kept = {}
    handle = mixing.register_forward_pre_hook(lambda _, args: kept.update(x=args[0]))
    xs = torch.randn(2, 20, 4, generator=generator, dtype=torch.float64)
    _, cache = model.run_with_cache(xs)
    handle.remove()
    heads = (4, 8)
    q = mixing.q(mixing.token).unflatten(0, heads)[None, :, None].expand(2, -1, -1, -1)
    k, v = (linear(kept["x"]).unflatten(-1, heads).transpose(1, 2) for linear in (mixing.k, mixing.v))
    wanted = F.scaled_dot_product_attention(q, k, v)[:, :, 0]
    torch.testing.assert_close(cache["z", 0][:, -1], wanted, atol=1e-10, rtol=1e-8)


def test_4_the_published_example():
    scores = torch.tensor([0.5, -1.0, 2.0])
    outputs = prefix_softmax.prefix_attention(scores, torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, -1.0]]))
    torch.testing.assert_close(outputs[1:], torch.tensor([[0.8176, 0.1824], [1.7465, -0.7465]]), atol=5e-5, rtol=0)


def test_5_no_gradient_comes_from_later_inputs(generator):
    model = zoo.build("aaren", "small", dim=4)
    xs = torch.randn(1, 20, 4, generator=generator).requires_grad_()
    for k in (0, 9, 18):
        (gradient,) = torch.autograd.grad(model(xs)[0, k].sum(), xs)
        assert (gradient[0, k + 1 :] == 0).all()
        assert (gradient[0, : k + 1].abs().sum(-1) > 0).all()


@pytest.mark.parametrize("n", [1, 2, 31, 32, 33])
def test_6_the_scan_is_as_deep_as_the_logarithm(n, generator):
    leaves = prefix_softmax.leaves(*keys_and_values(generator, n))
    assert prefix_softmax.hillis_steele(leaves)[1] == math.ceil(math.log2(n))


def test_one_layer_has_the_published_size_and_512_more_than_torch_s_encoder_layer():
    count = {
        mixer: sum(p.numel() for p in zoo.build("aaren", "layer", mixer=mixer).blocks[0].parameters())
        for mixer in ("aaren", "softmax")
    }
    with torch.device("meta"):
        torchs = torch.nn.TransformerEncoderLayer(512, 8, 2048)
    assert count == {"aaren": 3_152_896, "softmax": 3_152_384}
    assert sum(p.numel() for p in torchs.parameters()) == 3_152_384


def test_the_order_of_the_past_is_invisible_without_positions(generator):
    model = system.learner(1, 32, 4, dim=4).double()
    xs = torch.randn(1, 12, 4, generator=generator, dtype=torch.float64)
    shuffled = torch.cat([xs[:, torch.randperm(11, generator=generator)], xs[:, 11:]], 1)
    torch.testing.assert_close(model(xs)[:, -1], model(shuffled)[:, -1], atol=1e-12, rtol=1e-10)
    placed = system.learner(1, 32, 4, dim=4, position="sinusoidal").double()
    assert (placed(xs)[:, -1] - placed(shuffled)[:, -1]).abs().max() > 1e-4


def test_a_stream_of_tokens_is_the_whole(generator):
    model = zoo.build("aaren", "small", d_vocab=7).double()
    tokens = torch.randint(7, (2, 30), generator=generator)
    stream = Stream(model, 2)
    assert stream.floats == 2 * 4 * (8 + 2), "two layers of four heads: d_v + 2 each"
    streamed = torch.stack([stream.push(token) for token in tokens.unbind(1)], 1)
    torch.testing.assert_close(streamed, model(tokens), atol=1e-10, rtol=1e-8)


def test_multiplications_are_counted_right():
    a, b = torch.ones(2, 3, 4), torch.ones(2, 4, 5)
    with aaren_numeric.Multiplications() as count:
        a @ b
        a[0] @ b[0] * 2
        F.linear(a[0], torch.ones(6, 4), torch.ones(6))
    assert count.products == 2 * 3 * 4 * 5
    assert count.all == 2 * 3 * 4 * 5 + 3 * 4 * 5 + 3 * 5 + 3 * 4 * 6


def test_a_restarted_model_knows_its_window_only(generator):
    restarted = aaren.Restarted(aaren.learner("aaren", 0))
    xs = torch.randn(1, aaren.LENGTH, aaren.DIM, generator=generator)
    changed = xs.clone()
    changed[:, 15] += 1
    moved = (restarted(xs) - restarted(changed)).abs().amax(-1)[0] > 1e-6
    assert moved.nonzero().flatten().tolist() == [15]
    changed[:, 10] += 1
    moved = (restarted(xs) - restarted(changed)).abs().amax(-1)[0] > 1e-6
    assert moved.nonzero().flatten().tolist() == list(range(10, 16))


def test_the_targets_are_functions_of_the_prefix():
    xs = torch.tensor([[[1.0], [3.0], [2.0]]])
    assert aaren.prefix_mean(xs).flatten().tolist() == [1.0, 2.0, 2.0]
    assert aaren.running_maximum(xs).flatten().tolist() == [1.0, 3.0, 3.0]


def test_the_claim_at_the_quick_budget():
    evidence = claims.load("aaren").run(budget="quick", seed=0)
    assert evidence.verdict in ("holds", "inconclusive"), evidence.to_json()
    assert [part.verdict for part in evidence.parts[:2]] == ["holds", "holds"]


@pytest.mark.slow
def test_the_claim_holds_at_the_full_budget():
    evidence = claims.load("aaren").run(budget="full", seed=0)
    assert evidence.verdict == "holds", evidence.to_json()
