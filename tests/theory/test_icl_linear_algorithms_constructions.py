"""Learning algorithms in weights (Akyürek et al. 2023): each primitive, the layer, and whole algorithms."""

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from microtome.theory.constructions.icl_linear_algorithms import (
    Construction,
    Layout,
    Raw,
    Scales,
    aff,
    apply,
    compile_layer,
    direct_gradient_step,
    direct_ridge,
    direct_sgd_pass,
    div,
    gradient_step,
    itself,
    mov,
    mul,
    ridge,
    run,
    sgd_pass,
)

SCALES = Scales()
# A LayerNorm over rows with pads of 1e7 rounds them to about 1e-9.
ROUNDING = 1e-8


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def problem(points, dim=3, batch=20, seed=0):
    xs, query, w = (
        normal(batch, points, dim, seed=seed),
        normal(batch, dim, seed=seed + 1),
        normal(batch, dim, seed=seed + 2),
    )
    ys = (xs @ w[..., None])[..., 0] + 0.5 * normal(batch, points, seed=seed + 3)
    return xs, ys, query


LAYOUT = Layout({"y": 1, "x": 3, "a": 9, "b": 9, "c": 3, "scalar": 1, "other": 2}, operands=27, columns=5)
REGISTERS = range(LAYOUT.rows("left")[0])


@pytest.fixture
def stream():
    """Tokens with every register filled, balanced as the layers expect them."""
    tokens = LAYOUT.embed(normal(4, 2, 3), normal(4, 2, seed=1), normal(4, 3, seed=2))
    tokens[..., list(REGISTERS)] = normal(4, 5, len(REGISTERS), seed=3)
    balance = LAYOUT.rows("balance")[0]
    tokens[..., balance] -= tokens.sum(-1)
    return tokens


PRIMITIVES = {
    "mov from the previous column": mov(LAYOUT, "x", "c", {1: (0,), 3: (2,)}),
    "mov sums over its set": mov(LAYOUT, "a", "b", {3: (0, 1, 2), 4: (1, 3, 4)}),
    "mov onto itself": mov(LAYOUT, "x", "x", {4: (1,)}),
    "aff with a constant": aff(LAYOUT, "c", {"x": 2.0, "c": -0.5}, (1, 3), constant=torch.tensor([1.0, -2.0, 0.25])),
    "aff of a constant alone": aff(LAYOUT, "a", {}, (0, 4), constant=torch.arange(9.0)),
    "mul scalar product": mul(LAYOUT, "scalar", "x", "c", (1, 3, 1), (2,)),
    "mul outer product": mul(LAYOUT, "a", "x", "c", (3, 1, 3), (1, 2)),
    "mul matrix times vector": mul(LAYOUT, "c", "a", "x", (3, 3, 1), (0, 4)),
    "mul of matrices in place": mul(LAYOUT, "a", "a", "b", (3, 3, 3), (3,)),
    "div of a matrix": div(LAYOUT, "b", "a", "scalar", (1, 4)),
    "div in place": div(LAYOUT, "a", "a", "scalar", (2,)),
}


def acted_on(primitive):
    return list(primitive.reads) if isinstance(primitive, Raw) else list(primitive.columns)


@pytest.mark.parametrize("primitive", PRIMITIVES.values(), ids=PRIMITIVES)
def test_a_primitive_s_weights_do_what_it_means(stream, primitive):
    # Divisors near zero have no accuracy to offer: the LayerNorm's error grows with their inverse square.
    scalar = LAYOUT.rows("scalar")[0]
    stream[..., scalar] = stream[..., scalar].abs() + 1
    stream[..., LAYOUT.rows("balance")[0]] -= stream.sum(-1)
    wanted = apply(primitive, stream)
    got = run((compile_layer(primitive, LAYOUT, SCALES),), stream)
    torch.testing.assert_close(got[..., REGISTERS], wanted[..., REGISTERS], atol=1e-6, rtol=0)


@pytest.mark.parametrize("primitive", PRIMITIVES.values(), ids=PRIMITIVES)
def test_a_primitive_leaves_unwritten_rows_and_columns_unchanged(stream, primitive):
    layer = compile_layer(primitive, LAYOUT, SCALES)
    for after in (apply(primitive, stream), run((layer,), stream)):
        unwritten = [row for row in REGISTERS if row not in primitive.write]
        assert torch.equal(after[..., unwritten], stream[..., unwritten])
        elsewhere = [column for column in range(5) if column not in acted_on(primitive)]
        torch.testing.assert_close(
            after[:, elsewhere][..., REGISTERS], stream[:, elsewhere][..., REGISTERS], atol=ROUNDING, rtol=0
        )
        assert (after - stream)[:, acted_on(primitive)][..., list(primitive.write)].abs().amax(0).min() > 1e-4


@pytest.mark.parametrize("primitive", PRIMITIVES.values(), ids=PRIMITIVES)
def test_a_layer_s_writes_keep_the_mean_at_zero(stream, primitive):
    """Otherwise the next LayerNorm would shift the payload."""
    layer = compile_layer(primitive, LAYOUT, SCALES)
    for write in (*(head.W_O for head in layer.heads), layer.W_2):
        assert (write.sum(0).abs() <= 1e-12 * (1 + write.abs().sum(0))).all()
    assert run((layer,), stream).sum(-1).abs().max() < ROUNDING


@pytest.mark.parametrize("primitive", PRIMITIVES.values(), ids=PRIMITIVES)
def test_a_primitive_does_not_see_later_columns(stream, primitive):
    layer = compile_layer(primitive, LAYOUT, SCALES)
    changed = stream.clone()
    changed[:, 3:, list(REGISTERS)] += 1.0
    assert torch.equal(run((layer,), changed)[:, :3], run((layer,), stream)[:, :3])


@settings(max_examples=25)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(0, 2**31))
def test_mul_is_the_product_of_matrices_of_any_shape(a, b, c, seed):
    layout = Layout({"y": 1, "x": 1, "left matrix": a * b, "right matrix": b * c, "out": a * c}, a * b * c, columns=1)
    left, right = normal(a, b, seed=seed), normal(b, c, seed=seed + 1)
    h = torch.zeros(1, layout.size, dtype=torch.float64)
    h[0, list(layout.rows("left matrix"))], h[0, list(layout.rows("right matrix"))] = left.flatten(), right.flatten()
    h[0, layout.rows("plus")[0]], h[0, layout.rows("minus")[0]] = layout.pad, -layout.pad
    h[0, layout.rows("position")[0]] = 1.0
    h[0, layout.rows("balance")[0]] = -h.sum()
    program = mul(layout, "out", "left matrix", "right matrix", (a, b, c), (0,))
    for after in (apply(program, h), run((compile_layer(program, layout, SCALES),), h)):
        torch.testing.assert_close(after[0, list(layout.rows("out"))], (left @ right).flatten(), atol=1e-6, rtol=0)


def test_attention_is_exact_on_its_set_and_nothing_elsewhere(stream):
    layer = compile_layer(PRIMITIVES["mov sums over its set"], LAYOUT, SCALES)
    gather = layer.heads[0]
    scores = (stream @ gather.W_Q.T) @ (stream @ gather.W_K.T).mT
    scores = F.pad(scores.masked_fill(torch.ones(5, 5, dtype=torch.bool).triu(1), -torch.inf), (1, 0))
    pattern = scores.softmax(-1)[0, :, 1:]
    assert torch.equal(pattern[:3], torch.zeros(3, 5, dtype=torch.float64))
    torch.testing.assert_close(pattern[3], torch.tensor([1, 1, 1, 0, 0], dtype=torch.float64) / 3)
    torch.testing.assert_close(pattern[4], torch.tensor([0, 1, 0, 1, 1], dtype=torch.float64) / 3)


def test_an_unbalanced_stream_spoils_the_product(stream):
    """The pads must zero the mean: without the balance the LayerNorm shifts what it should only scale."""
    product = PRIMITIVES["mul scalar product"]
    layer = compile_layer(product, LAYOUT, SCALES)
    stream[..., LAYOUT.rows("balance")[0]] += 50.0
    error = (run((layer,), stream) - apply(product, stream))[..., REGISTERS].abs().max()
    assert error > 0.1


GELUS = {"exact": F.gelu, "tanh": partial(F.gelu, approximate="tanh")}


@pytest.mark.parametrize("gelu", GELUS.values(), ids=GELUS)
def test_both_gelus_multiply_with_the_predicted_error(gelu):
    u, v, s = normal(200), normal(200, seed=1), 1e3
    product = math.sqrt(math.pi / 2) * s**2 * (gelu((u + v) / s) - gelu(u / s) - gelu(v / s))
    predicted = -u * v * (2 * u**2 + 3 * u * v + 2 * v**2) / 6 / s**2
    # The tanh form's coefficient is 3.5 % larger; rounding adds about s·1e-16.
    torch.testing.assert_close(product - u * v, predicted, rtol=0.05, atol=1e-11)


@pytest.mark.parametrize("points", [1, 2, 3, 5])
def test_gradient_descent_by_construction(points):
    start = normal(3, seed=9)
    arguments = {"rate": 0.05, "decay": 0.25, "start": start}
    for construct, direct in ((gradient_step, direct_gradient_step), (sgd_pass, direct_sgd_pass)):
        xs, ys, query = problem(points)
        wanted = (direct(xs, ys, **arguments) * query).sum(-1)
        construction = construct(points, **arguments)
        torch.testing.assert_close(construction.interpret(xs, ys, query), wanted, atol=1e-12, rtol=0)
        for gelu in GELUS.values():
            got = construction.predict(xs, ys, query, activation=gelu)
            torch.testing.assert_close(got, wanted, atol=1e-6, rtol=0)


def test_one_example_makes_both_descents_one_gradient_step():
    xs, ys, query = problem(1)
    w = normal(3, seed=9).requires_grad_()
    for x, y, q in zip(xs[:5], ys[:5], query[:5], strict=True):
        loss = ((x @ w - y) ** 2).sum() + 0.25 * (w**2).sum()
        (gradient,) = torch.autograd.grad(loss, w)
        wanted = (w - 0.05 * gradient).detach() @ q
        for construct in (gradient_step, sgd_pass):
            got = construct(1, 0.05, 0.25, w.detach()).predict(x, y, q)
            torch.testing.assert_close(got, wanted, atol=1e-6, rtol=0)


@pytest.mark.parametrize("points", [1, 2, 3, 5])
def test_ridge_by_construction(points):
    xs, ys, query = problem(points)
    wanted = (direct_ridge(xs, ys, 1.0) * query).sum(-1)
    construction = ridge(points, 3, 1.0)
    torch.testing.assert_close(construction.interpret(xs, ys, query), wanted, atol=1e-12, rtol=0)
    torch.testing.assert_close(construction.predict(xs, ys, query), wanted, atol=1e-6, rtol=0)


@pytest.mark.parametrize("points", [1, 4, 9])
@pytest.mark.parametrize("penalty", [0.25, 1.0, 100.0])
def test_sherman_morrison_steps_are_ridge_regression(points, penalty):
    xs, ys, query = problem(points, dim=4)
    wanted = (direct_ridge(xs, ys, penalty) * query).sum(-1)
    torch.testing.assert_close(ridge(points, 4, penalty).interpret(xs, ys, query), wanted, atol=1e-11, rtol=1e-10)


def test_a_large_penalty_leaves_xty():
    xs, ys, query = problem(3)
    penalty = 1e6
    scaled = penalty * ridge(3, 3, penalty).interpret(xs, ys, query)
    torch.testing.assert_close(scaled, (torch.einsum("bpd,bp->bd", xs, ys) * query).sum(-1), atol=1e-3, rtol=0)


def test_a_small_penalty_interpolates_as_minimum_norm_least_squares():
    xs, ys, _ = problem(2)
    fitted = ridge(2, 3, 1e-9).interpret(xs, ys, xs[:, 0])
    torch.testing.assert_close(fitted, ys[:, 0], atol=1e-5, rtol=1e-5)


def test_relu_in_place_of_gelu_computes_nothing_of_the_kind():
    xs, ys, query = problem(3)
    wanted = (direct_ridge(xs, ys, 1.0) * query).sum(-1)
    error = (ridge(3, 3, 1.0).predict(xs, ys, query, activation=F.relu) - wanted).abs()
    assert error.median() > 1.0


def test_the_error_falls_a_hundredfold_with_s():
    xs, ys, query = problem(3)
    wanted = (direct_ridge(xs, ys, 1.0) * query).sum(-1)
    errors = [(ridge(3, 3, 1.0).predict(xs, ys, query, Scales(s)) - wanted).abs().max() for s in (1e2, 1e3, 1e4)]
    assert 50 < errors[0] / errors[1] < 200
    assert 50 < errors[1] / errors[2] < 200


def test_layers_and_rows_are_counted():
    # d = 3: one example takes 9 and 14 layers, as in the paper's listings; batch descent takes 9 for any number.
    start = torch.zeros(3, dtype=torch.float64)
    assert len(sgd_pass(1, 0.1, 0.0, start).program) == 9
    assert [len(gradient_step(n, 0.1, 0.0, start).program) for n in (1, 2, 5)] == [9, 9, 9]
    assert [len(ridge(n, 3, 1.0).program) for n in (1, 2, 3)] == [14, 26, 38]
    assert sum(ridge(1, 3, 1.0).layout.registers.values()) == 2 + 6 * 3 + 2 * 9
    assert sum(gradient_step(1, 0.1, 0.0, start).layout.registers.values()) == 2 + 3 * 3


def test_batches_of_any_shape_and_single_prompts_agree():
    xs, ys, query = problem(2, batch=6)
    construction = ridge(2, 3, 1.0)
    together = construction.predict(xs, ys, query)
    assert together.shape == (6,)
    alone = torch.stack([construction.predict(*one) for one in zip(xs, ys, query, strict=True)])
    torch.testing.assert_close(alone, together, atol=1e-8, rtol=0)
    folded = construction.predict(xs.reshape(2, 3, 2, 3), ys.reshape(2, 3, 2), query.reshape(2, 3, 3))
    torch.testing.assert_close(folded.flatten(), together, atol=1e-8, rtol=0)
    assert construction.predict(xs[:0], ys[:0], query[:0]).shape == (0,)


@pytest.mark.parametrize(
    ("act", "error", "sentence"),
    [
        (lambda: LAYOUT.rows("sclar"), KeyError, "did you mean scalar"),
        (lambda: ridge(0, 3, 1.0), ValueError, "both must be at least 1"),
        (lambda: ridge(2, 0, 1.0), ValueError, "both must be at least 1"),
        (lambda: ridge(2, 3, 0.0), ValueError, "it must be positive"),
        (lambda: ridge(2, 3, math.nan), ValueError, "it must be positive"),
        (lambda: ridge(2, 3, 1.0).predict(*problem(3)), ValueError, "these weights are for 2 points of 3"),
        (lambda: ridge(2, 3, 1.0).predict(*problem(2, dim=2)), ValueError, "these weights are for 2 points of 3"),
        (lambda: mov(LAYOUT, "x", "c", {1: (2,)}), ValueError, "reads a later column"),
        (lambda: mov(LAYOUT, "x", "c", {1: (0,), 3: (0, 1)}), ValueError, "must have one size"),
        (lambda: mov(LAYOUT, "x", "c", {}), ValueError, "must have one size"),
        (lambda: mov(LAYOUT, "x", "c", {1: ()}), ValueError, "must have one size"),
    ],
)
def test_bad_input_is_named(act, error, sentence):
    with pytest.raises(error, match=sentence):
        act()


def test_a_raw_operator_knows_two_operations():
    eye = torch.eye(LAYOUT.size, dtype=torch.float64)
    with pytest.raises(ValueError, match="allowed are"):
        Raw("-", eye[:1], eye[:1], eye[:1, :1], (0,), itself((0,)))


def test_a_prompt_that_is_not_finite_is_refused():
    xs, ys, query = problem(2)
    xs[0, 0, 0] = math.nan
    with pytest.raises(ValueError, match="not finite"):
        ridge(2, 3, 1.0).predict(xs, ys, query)


def test_a_construction_s_answer_does_not_depend_on_the_query_s_own_answer_row():
    """The query's y-row is an output: what stands there before is overwritten."""
    xs, ys, query = problem(2)
    construction = ridge(2, 3, 1.0)
    h = construction.layout.embed(xs, ys, query)
    spoilt = h.clone()
    spoilt[:, -1, 0] += 3.0
    spoilt[:, -1, construction.layout.rows("balance")[0]] -= 3.0
    layers = construction.layers(SCALES)
    torch.testing.assert_close(run(layers, spoilt)[:, -1, 0], run(layers, h)[:, -1, 0], atol=1e-8, rtol=0)
    assert isinstance(construction, Construction)
