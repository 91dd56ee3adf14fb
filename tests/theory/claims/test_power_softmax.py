"""PowerSoftmax ("Power-Softmax", 2024): its checks, the polynomial model, its claim."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from microtome.kernels import power_softmax as kernel
from microtome.lab import zoo
from microtome.lab.tasks import RepeatedBlock
from microtome.lab.train import TokenPrediction
from microtome.lab.train.range_minimising import RangeMinimising
from microtome.lab.zoo.compression import power_softmax as compression
from microtome.theory import claims

SIZES = {"d_vocab": 16, "d_model": 16, "n_heads": 2, "n_layers": 2, "n_ctx": 12, "position": "relative"}
# What a polynomial is made of, and what moves numbers without changing them.
ARITHMETIC = {"add", "sub", "rsub", "mul", "sum", "mm", "bmm", "addmm", "neg"}
LAYOUT = {
    "view",
    "_unsafe_view",
    "expand",
    "transpose",
    "permute",
    "t",
    "clone",
    "unsqueeze",
    "squeeze",
    "slice",
    "select",
}


def rows(generator, n=9):
    return torch.randn(50, n, generator=generator, dtype=torch.float64)


@given(st.integers(0, 2**32), st.sampled_from([2, 4, 6, 8]), st.floats(1e-6, 1e6), st.booleans())
@settings(max_examples=40)
def test_1_homogeneous_of_degree_zero_and_its_jacobian_annihilates_x(seed, p, alpha, negative):
    x = rows(torch.Generator().manual_seed(seed))
    alpha = -alpha if negative else alpha

    def weigh(x):
        return kernel.weights(x, p, epsilon=0.0, delta=0.0)

    torch.testing.assert_close(weigh(alpha * x), weigh(x), atol=1e-12, rtol=0)
    _, along = torch.autograd.functional.jvp(weigh, x, x)
    assert along.abs().max() <= 1e-12


@pytest.mark.parametrize("form", ["max", "mean"])
def test_2_rows_sum_to_one_without_epsilon_and_to_what_the_formula_says_with_it(form, generator):
    x, p, epsilon = rows(generator), 4, 0.3
    exact = kernel.weights(x, p, epsilon=0.0, delta=0.0, form=form)
    torch.testing.assert_close(exact.sum(-1), torch.ones(50, dtype=torch.float64), atol=1e-14, rtol=0)
    y = (x / x.abs().amax(-1, keepdim=True)) ** p if form == "max" else x**p / x.shape[-1]
    wanted = 1 - epsilon / (epsilon + y.sum(-1))
    found = kernel.weights(x, p, epsilon=epsilon, delta=0.0, form=form).sum(-1)
    torch.testing.assert_close(found, wanted, atol=1e-13, rtol=0)


@given(st.floats(1e-3, 1.99), st.floats(0.01, 100.0), st.integers(0, 12))
@settings(max_examples=50)
def test_3_goldschmidt_s_error_is_the_formula_s(share, bound, steps):
    b = torch.tensor([share * bound], dtype=torch.float64)
    error = 1 - kernel.goldschmidt(b, bound, steps) * b
    torch.testing.assert_close(error, kernel.relative_error(b, bound, steps), atol=1e-12, rtol=1e-9)


@pytest.mark.parametrize("ratio", [1.0, 10.0, 1e4, 1e8])
@pytest.mark.parametrize("tolerance", [1e-1, 1e-3, 1e-6])
def test_3_steps_of_the_formula_suffice_and_one_of_them_is_needed(ratio, tolerance):
    steps, low = kernel.steps_for(tolerance, 1.0, ratio), torch.ones(1, dtype=torch.float64)
    assert kernel.relative_error(low, ratio, steps).abs() <= tolerance * (1 + 1e-6)
    if ratio > 1e3:  # where ln(1 − x) is −x the bound is sharp to less than a step
        assert kernel.relative_error(low, ratio, steps - 2).abs() > tolerance


def test_4_the_mean_form_is_the_sum_form(generator):
    x = rows(generator)
    mean = kernel.weights(x, 6, epsilon=0.0, form="mean")
    torch.testing.assert_close(mean, kernel.weights(x, 6, epsilon=0.0, delta=0.0), atol=1e-14, rtol=1e-12)
    hidden = x.masked_fill(torch.arange(9) > torch.arange(50)[:, None], -torch.inf)
    with_epsilon = kernel.weights(hidden, 2, epsilon=0.1, form="mean")
    seen = (hidden > -torch.inf).sum(-1, keepdim=True)
    y = hidden.masked_fill(hidden == -torch.inf, 0.0) ** 2
    torch.testing.assert_close(with_epsilon, y / seen / (0.1 + y.sum(-1, keepdim=True) / seen))


def test_5_the_worked_example():
    w = kernel.weights(torch.tensor([3.0, -2.0, 1.0, 0.5], dtype=torch.float64), 2, epsilon=0.0, delta=0.0)
    assert [round(each, 5) for each in w.tolist()] == [0.63158, 0.2807, 0.07018, 0.01754]


@pytest.mark.parametrize("n", [1, 10, 1000, 100_000])
def test_6_the_mean_s_denominator_stays_below_the_largest_power_and_the_sum_s_grows(n, generator):
    y = torch.randn(1, n, generator=generator, dtype=torch.float64) ** 4
    mean = compression.denominators(torch.randn(1, 1, 1, n, generator=generator, dtype=torch.float64), 4)
    assert mean.isfinite().all()
    assert y.mean() <= y.max()
    if n >= 1000:  # of 1,000 fourth powers with mean 3 and variance 96, the sum is above n at 6 standard deviations
        assert y.sum() > n


@pytest.mark.parametrize("scale", [1e10, 1e-12])
def test_the_unstable_form_is_nan_where_the_stable_one_sums_to_one(scale, generator):
    x = scale * torch.randn(20, 30, generator=generator)
    assert (x**4 / (x**4).sum(-1, keepdim=True)).isnan().any()
    found = kernel.weights(x, 4, epsilon=0.0, delta=0.0).sum(-1)
    torch.testing.assert_close(found, torch.ones(20), atol=1e-6, rtol=0)


def test_a_first_causal_row_whose_only_score_is_zero_weighs_nothing():
    s = torch.tensor([[0.0, -torch.inf], [1.0, 2.0]])
    for form in ("max", "mean"):
        for epsilon in (0.0, 1e-3):
            assert kernel.weights(s, 4, epsilon=epsilon, delta=0.0, form=form)[0].tolist() == [0.0, 0.0]


def test_the_sign_of_a_score_is_lost(generator):
    x = rows(generator)
    assert torch.equal(kernel.weights(x, 4), kernel.weights(x.abs(), 4))


@pytest.mark.usefixtures("untyped")
def test_bad_arguments_of_the_reciprocal_are_refused():
    b = torch.ones(2)
    for bound, steps in ((0.0, 3), (float("inf"), 3), (1.0, -1)):
        with pytest.raises(ValueError, match="bound must be positive and finite and steps at least 0"):
            kernel.goldschmidt(b, bound, steps)
    for arguments in ((0.0, 1.0, 2.0), (1.0, 1.0, 2.0), (0.1, 0.0, 2.0), (0.1, 3.0, 2.0)):
        with pytest.raises(ValueError, match=r"a tolerance in \(0, 1\) and an interval with 0 < low ≤ bound"):
            kernel.steps_for(*arguments)


@pytest.fixture
def model():
    return zoo.sequence(mixer="power_softmax", **SIZES).double()


@pytest.fixture
def tokens(generator):
    return torch.randint(16, (32, 12), generator=generator)


def test_the_polynomial_model_adds_and_multiplies_only(model, tokens):
    made = compression.polynomialise(model, compression.record(model, tokens), 1e-4)
    found = {name.split(".")[1] for name in compression.operations(made, tokens[:1])}
    assert found <= ARITHMETIC | LAYOUT
    assert {"mul", "bmm"} <= found
    exact = compression.operations(model, tokens[:1])
    for forbidden in ("div", "amax", "gt", "native_layer_norm", "sigmoid_"):
        assert any(name.startswith(f"aten.{forbidden}.") for name in exact), "the exact model is no polynomial"


@pytest.mark.parametrize("causal", [True, False])
def test_the_polynomial_model_says_what_the_exact_one_says(causal, tokens):
    # ε is of the exact model's scale, and the polynomial has none.
    mixer = {"name": "power_softmax", "epsilon": 0.0, "delta": 0.0}
    model = zoo.sequence(mixer=mixer, causal=causal, **SIZES).double()
    met = compression.record(model, tokens)
    exact, spread = model(tokens), []
    for tolerance in (1e-2, 1e-4, 1e-6):
        made = compression.polynomialise(model, met, tolerance)
        spread.append((made(tokens) - exact).abs().max().item() / tolerance)
        assert all(abs(e.matrix.sum(-1) - 1).max() <= 2 * tolerance for e in made.effective_attention(tokens))
    assert max(spread) < 30, spread


def test_the_original_model_is_left_alone(model, tokens):
    before = model(tokens)
    compression.polynomialise(model, compression.record(model, tokens))
    assert torch.equal(model(tokens), before)


def test_five_steps_fewer_break_the_division(model, tokens):
    met = compression.record(model, tokens)
    worst = [
        max((e.matrix.sum(-1) - 1).abs().max().item() for e in made.effective_attention(tokens))
        for made in (compression.divided(model, met), compression.divided(model, met, short=5))
    ]
    assert worst[0] <= 2e-3
    assert worst[1] >= 0.5


def test_what_cannot_become_a_polynomial_is_refused(model, tokens):
    with pytest.raises(ValueError, match="only PowerSoftmax becomes a polynomial here; layer 0 mixes by SoftmaxMixer"):
        compression.record(zoo.sequence(mixer="softmax", **SIZES), tokens)
    with pytest.raises(ValueError, match="layer 0 must have LayerNorms and a plain feed-forward"):
        compression.record(zoo.sequence(mixer="power_softmax", norm="rmsnorm", **SIZES), tokens)
    with pytest.raises(ValueError, match="no polynomial of degree 255 keeps"):
        compression.interpolant(torch.rsqrt, compression.Interval(1e-9, 1.0), 1e-3)
    made = compression.polynomialise(model, compression.record(model, tokens))
    with pytest.raises(ValueError, match="reads whole sequences, without a mask"):
        made(tokens, mask=torch.ones(32, 12, dtype=torch.bool))


def test_the_range_term_is_lambda_times_the_largest_inputs_and_shrinks_them(generator):
    model = zoo.sequence(mixer="power_softmax", **SIZES)
    objective = TokenPrediction(RepeatedBlock(16, 6, 2), batch=16)
    batch = objective.batch(0, generator)
    met = compression.record(model, batch.inputs[0])
    ranges = sum(max(abs(i.low), abs(i.high)) for i in met.values())
    wrapped = RangeMinimising(objective, 0.5)
    plain, both = objective.loss(model, batch), wrapped.loss(model, batch)
    assert (both - plain).item() == pytest.approx(0.5 * ranges, rel=1e-5)
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(10):
        optimiser.zero_grad()
        wrapped.loss(model, batch).backward()
        optimiser.step()
    after = compression.record(model, batch.inputs[0])
    assert sum(max(abs(i.low), abs(i.high)) for i in after.values()) < ranges
    with pytest.raises(ValueError, match="weight must be a finite number of at least 0, not -1"):
        RangeMinimising(objective, -1.0)


def test_the_claim_holds_at_the_quick_budget():
    evidence = claims.load("power_softmax").run(budget="quick", seed=0)
    assert evidence.verdict == "holds", evidence.to_json()


@pytest.mark.slow
def test_the_claim_holds_at_the_full_budget():
    evidence = claims.load("power_softmax").run(budget="full", seed=0)
    assert evidence.verdict == "holds", evidence.to_json()
