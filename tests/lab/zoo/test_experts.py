"""A mixture of experts against its sum over all experts; capacity; the balance loss."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from microtome.lab import zoo
from microtome.lab.zoo.feedforward import experts
from microtome.lab.zoo.parts import Shape
from microtome.lab.zoo.streaming import Stream

SHAPE = Shape(d_model=8, n_layers=1, n_heads=2, n_ctx=16, causal=True)


def build(**options):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return experts.Part(**options).build(SHAPE).double()


def draw(generator, *shape):
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("k", [1, 2, 4])
def test_it_is_the_weighted_sum_of_the_likeliest_experts(k, generator):
    layer, x = build(k=k), draw(generator, 3, 10, 8)
    p = layer.router(x).softmax(-1)
    cut = p.topk(k).values[..., -1:]
    each = torch.stack([F.gelu(x @ w_in) @ w_out for w_in, w_out in zip(layer.w_in, layer.w_out, strict=True)], dim=-1)
    wanted = (each * torch.where(p >= cut, p, 0.0)[:, :, None]).sum(-1)
    torch.testing.assert_close(layer(x), wanted, atol=1e-12, rtol=1e-10)


def test_an_expert_takes_no_more_than_its_capacity_and_early_positions_first(generator):
    layer, free = build(k=1, capacity=1.0), build(k=1)
    x = draw(generator, 1, 1, 8).expand(2, 12, 8)  # one token everywhere, so that all go to one expert
    out = layer(x)
    torch.testing.assert_close(out[:, :3], free(x)[:, :3], atol=1e-12, rtol=0)  # ⌈1·1·12/4⌉ = 3
    assert (out[:, 3:] == 0).all()
    assert (layer(draw(generator, 1, 12, 8)) != 0).any()


def test_a_capacity_of_all_drops_nothing(generator):
    x = draw(generator, 2, 12, 8)
    assert torch.equal(build(capacity=4.0)(x), build()(x))


@given(seed=st.integers(0, 10**6), k=st.integers(1, 4), sharp=st.floats(0.1, 20))
@settings(max_examples=30)
def test_the_balance_loss_lies_between_zero_and_the_number_of_experts(seed, k, sharp):
    logits = sharp * draw(torch.Generator().manual_seed(seed), 2, 30, 4)
    assert 0 < experts.balance(logits.softmax(-1), k) <= 4


def test_the_balance_loss_is_one_where_balanced_and_large_where_one_expert_has_all():
    even = torch.eye(4, dtype=torch.float64)[None]
    assert experts.balance(even, 1).item() == pytest.approx(1.0)
    alone = torch.tensor([1.0, 0.0, 0.0, 0.0]).expand(1, 9, 4)
    assert experts.balance(alone, 1).item() == pytest.approx(4.0)


def test_the_balance_loss_reaches_the_router_through_the_probabilities_alone(generator):
    p = draw(generator, 2, 7, 4).softmax(-1).requires_grad_()
    (gradient,) = torch.autograd.grad(experts.balance(p, 1), p)
    f = F.one_hot(p.argmax(-1), 4).double().mean((0, 1))
    torch.testing.assert_close(gradient, (4 * f / 14).expand_as(p), atol=1e-12, rtol=0)


def test_the_router_is_read_by_name_and_only_a_free_one_has_a_step(generator):
    sizes = {"d_vocab": 7, "d_model": 8, "n_layers": 2, "n_heads": 2, "n_ctx": 16}
    model = zoo.sequence(feedforward="experts", **sizes)
    tokens = torch.randint(7, (2, 9), generator=generator)
    _, cache = model.run_with_cache(tokens)
    assert cache["blocks.1.mlp.hook_router"].shape == (2, 9, 4)
    stream = Stream(model, 2)
    logits = torch.stack([stream.push(token) for token in tokens.unbind(1)], dim=1)
    torch.testing.assert_close(logits, model(tokens), atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="no step"):
        Stream(zoo.sequence(feedforward={"name": "experts", "capacity": 1.0}, **sizes))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 5}, "k must lie between 1 and n_experts=4, not 5"),
        ({"k": 0}, "k must lie between 1"),
        ({"capacity": 0.0}, "capacity must be positive and finite, or None, not 0.0"),
        ({"d_mlp": 0}, "d_mlp must be at least 1"),
    ],
)
def test_bad_sizes_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)
