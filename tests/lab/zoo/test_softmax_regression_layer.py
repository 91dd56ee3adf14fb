"""The self-attention layer of softmax regression (Li et al. 2023, icl_softmax_regression) against its equation."""

import math

import pytest
import torch

from microtome.lab import zoo
from microtome.lab.bayes import Predictor
from microtome.lab.tasks.softmax_regression import SoftmaxRegression


@pytest.fixture
def prompt(generator):
    return SoftmaxRegression(2).sample(4, 9, generator)


def test_the_layer_is_the_equation(prompt):
    model = zoo.build("icl_softmax_regression", seed=3)
    W_Q, W_K, W_V = (getattr(model.blocks[0].attn, name)[0] for name in ("W_Q", "W_K", "W_V"))
    P = model.blocks[0].attn.W_O[0]
    tokens = torch.cat([prompt.xs, prompt.ys[..., None]], -1)
    tokens[:, -1, -1] = 0
    _, cache = model.run_with_cache(prompt.xs, prompt.ys)
    for b in range(4):
        e = tokens[b]
        written = torch.softmax(e @ W_Q @ (e @ W_K).T, dim=-1) @ e @ W_V @ P
        torch.testing.assert_close(cache["resid_post", 0][b], e + written, atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(model(prompt.xs, prompt.ys)[b], -(e + written)[-1, -1], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("variant", "dim", "size"), [("layer", 2, 36), ("biased", 2, 48), ("layer", 5, 144)])
def test_sizes(variant, dim, size):
    """Four (d + 1)² matrices, and four vectors where there are biases."""
    model = zoo.build("icl_softmax_regression", variant, dim=dim)
    assert sum(parameter.numel() for parameter in model.parameters()) == size


def test_training_mode_computes_the_query_alone_and_the_same(prompt):
    model = zoo.build("icl_softmax_regression")
    evaluated = model(prompt.xs, prompt.ys)
    torch.testing.assert_close(model.train()(prompt.xs, prompt.ys), evaluated)


def test_the_answer_and_the_order_of_pairs_are_not_read(prompt):
    model = zoo.build("icl_softmax_regression", "biased")
    said = model(prompt.xs, prompt.ys)
    hidden = prompt.ys.clone()
    hidden[:, -1] = math.nan
    assert torch.equal(model(prompt.xs, hidden), said)
    order = [3, 1, 0, 2, 7, 6, 5, 4, 8]
    torch.testing.assert_close(model(prompt.xs[:, order], prompt.ys[:, order]), said)


def test_as_a_predictor_every_point_is_a_query_behind_the_pairs_before(prompt):
    model = zoo.build("icl_softmax_regression")
    assert isinstance(model, Predictor)
    said = model.predict(prompt.xs, prompt.ys).mean
    assert said.shape == (4, 9)
    torch.testing.assert_close(said[:, 4], model(prompt.xs[:, :5], prompt.ys[:, :5]).detach())


def test_with_biases_weights_exist_that_say_one_minus_the_sum(prompt):
    """Even attention over n + 1 tokens, W_V of the labels, P times n + 1, and the constant 1."""
    model = zoo.build("icl_softmax_regression", "biased")
    attn = model.blocks[0].attn
    with torch.no_grad():
        for parameter in attn.parameters():
            parameter.zero_()
        attn.v.weight[-1, -1] = 1.0
        attn.o.weight[-1, -1] = 9.0
        attn.o.bias[-1] = -1.0
    torch.testing.assert_close(model(prompt.xs, prompt.ys), prompt.ys[:, -1], atol=1e-6, rtol=0)


def test_hook_points_are_transformer_lens_s(prompt):
    model = zoo.build("icl_softmax_regression")
    _, cache = model.run_with_cache(prompt.xs, prompt.ys)
    assert cache["pattern", 0].shape == (4, 1, 9, 9)
    torch.testing.assert_close(cache["resid_post", 0], cache["resid_pre", 0] + cache["attn_out", 0])
    (effective,) = model.effective_attention(prompt.xs, prompt.ys)
    torch.testing.assert_close(effective.matrix, cache["pattern", 0])


@pytest.mark.usefixtures("untyped")
def test_bad_calls_get_a_sentence(prompt):
    model = zoo.build("icl_softmax_regression")
    with pytest.raises(ValueError, match=r"xs \[batch, points, 2\]"):
        model(prompt.xs[..., :1], prompt.ys)
    with pytest.raises(ValueError, match="not finite"):
        model(prompt.xs / 0, prompt.ys)
    with pytest.raises(ValueError, match="dim must be at least 1"):
        zoo.build("icl_softmax_regression", dim=0)
