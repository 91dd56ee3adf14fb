"""Softmax regression (Li et al. 2023, icl_softmax_regression): derivatives, shifted targets, one step of descent."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from torch.func import hessian as autograd_hessian
from torch.func import jacrev, vmap

from microtome.lab.bayes import Predictor
from microtome.lab.bayes.softmax_regression import (
    SoftmaxStep,
    data_derivative,
    f,
    gauss_newton,
    gradient,
    hessian,
    jacobian,
    line_search,
    loss,
    shifted_target,
)
from microtome.lab.tasks.softmax_regression import SoftmaxRegression

SIZES = [(1, 1), (1, 3), (4, 2), (16, 5), (64, 2)]
sizes = pytest.mark.parametrize(("tokens", "dim"), SIZES)


def problems(tokens, dim, generator, batch=5, scale=1.0):
    def normal(*shape):
        return scale * torch.randn(batch, *shape, generator=generator, dtype=torch.float64)

    return normal(tokens, dim), normal(dim), normal(tokens).softmax(-1)


def close(found, wanted, atol=1e-10):
    torch.testing.assert_close(found, wanted, atol=atol, rtol=0)


@sizes
def test_f_is_softmax_of_the_scores(tokens, dim, generator):
    A, x, _ = problems(tokens, dim, generator)
    exponentials = (A @ x[..., None]).squeeze(-1).exp()
    close(f(A, x), exponentials / exponentials.sum(-1, keepdim=True))
    close(f(A, x), torch.softmax(torch.einsum("bnd,bd->bn", A, x), -1))


def test_f_takes_scores_that_exp_cannot(generator):
    """R = 64 in the theorem's terms: exp(R²) is no float64, and f is invariant to a constant added to Ax."""
    A, x, _ = problems(4, 2, generator, scale=64.0)
    assert torch.isfinite(f(A, x)).all()
    constant = torch.cat([A, torch.full_like(A[..., :1], 700.0)], dim=-1)
    close(f(constant, torch.cat([x, torch.ones_like(x[..., :1])], -1)), f(A, x), atol=1e-9)


@sizes
def test_gradient_is_autograd_s(tokens, dim, generator):
    A, x, b = problems(tokens, dim, generator)
    leaf = x.clone().requires_grad_()
    (wanted,) = torch.autograd.grad(loss(A, leaf, b).sum(), leaf)
    close(gradient(A, x, b), wanted)


@sizes
def test_jacobian_is_autograd_s_and_sums_to_zero_over_tokens(tokens, dim, generator):
    A, x, _ = problems(tokens, dim, generator)
    close(jacobian(A, x), vmap(jacrev(f, argnums=1))(A, x))
    close(jacobian(A, x).sum(-2), torch.zeros_like(x), atol=1e-14)


@sizes
def test_derivative_in_the_data_is_autograd_s(tokens, dim, generator):
    A, x, _ = problems(tokens, dim, generator)
    change, _, _ = problems(tokens, dim, generator)
    by_entry = vmap(jacrev(f, argnums=0))(A, x)  # batch token token dim
    close(data_derivative(A, x, change), torch.einsum("bijd,bjd->bi", by_entry, change))


@sizes
def test_hessian_is_autograd_s_and_its_gauss_newton_part_is_not_negative(tokens, dim, generator):
    A, x, b = problems(tokens, dim, generator)
    close(hessian(A, x, b), vmap(autograd_hessian(loss, argnums=1))(A, x, b))
    assert (torch.linalg.eigvalsh(gauss_newton(A, x)) > -1e-12).all()
    close(hessian(A, x, f(A, x)), gauss_newton(A, x))  # without a residual nothing else is left


def test_the_loss_is_not_convex(generator):
    A, x, b = problems(4, 2, generator, batch=200, scale=2.0)
    assert (torch.linalg.eigvalsh(hessian(A, x, b))[:, 0] < -1e-3).any()


@sizes
def test_residual_on_the_shifted_target_is_the_new_residual(tokens, dim, generator):
    """One gradient step, and one change of the data; equal but for the rounding of two subtractions."""
    A, x, b = problems(tokens, dim, generator)
    for after in (f(A, x - 0.7 * gradient(A, x, b)), f(A + 0.3 * problems(tokens, dim, generator)[0], x)):
        close(f(A, x) - shifted_target(b, f(A, x), after), after - b, atol=4e-16)


@sizes
def test_the_target_s_own_weights_have_no_gradient(tokens, dim, generator):
    A, x, _ = problems(tokens, dim, generator)
    assert torch.equal(gradient(A, x, f(A, x)), torch.zeros_like(x))


@given(st.permutations(range(7)))
@settings(max_examples=25)
def test_permuting_tokens_permutes_f_and_leaves_the_gradient(order):
    A, x, b = problems(7, 3, torch.Generator().manual_seed(1))
    close(f(A[:, order], x), f(A, x)[:, order], atol=1e-15)
    close(gradient(A[:, order], x, b[:, order]), gradient(A, x, b), atol=1e-14)


def test_a_small_step_takes_its_first_order_off_the_loss(generator):
    A, x, b = problems(16, 5, generator, batch=50)
    slope = gradient(A, x, b)
    first = slope.square().sum(-1)
    errors = []
    for rate in (1e-2, 1e-3):
        taken = loss(A, x, b) - loss(A, x - rate * slope, b)
        errors.append((taken - rate * first).abs())
    assert (errors[1] < 0.02 * errors[0] + 1e-15).all(), "second order: a hundredth at a tenth of the rate"


def test_scipy_finds_the_weights_that_the_target_was_made_with(generator):
    """From 0 with the gradient in closed form, for targets of a small x, near which L is convex."""
    A, x, _ = problems(16, 3, generator, batch=1, scale=0.5)
    b = f(A, x)

    def value(z):
        z = torch.from_numpy(z)[None]
        return loss(A, z, b).item(), gradient(A, z, b)[0].numpy()

    found = minimize(value, torch.zeros(3).double().numpy(), jac=True, method="BFGS", options={"gtol": 1e-12})
    close(torch.from_numpy(found.x), x[0], atol=1e-5)


def test_a_step_normalises_over_the_query_too(generator):
    prompt = SoftmaxRegression(2).sample(6, 5, generator, dtype=torch.float64)
    step = SoftmaxStep(7.0)
    assert isinstance(step, Predictor)
    said = step.predict(prompt.xs, prompt.ys).mean
    for i in range(1, 5):
        A, b = prompt.xs[:, :i], prompt.ys[:, :i]
        leaf = torch.zeros(6, 2, dtype=torch.float64, requires_grad=True)
        (slope,) = torch.autograd.grad(((A @ leaf[..., None]).squeeze(-1).softmax(-1) - b).square().sum() / 2, leaf)
        scores = (prompt.xs[:, : i + 1] @ (-7.0 * slope)[..., None]).squeeze(-1).exp()
        close(said[:, i], scores[:, -1] / scores.sum(-1))
    assert torch.equal(said[:, 0], torch.ones(6, dtype=torch.float64))


def test_a_step_reads_the_past_only(generator):
    prompt = SoftmaxRegression(3).sample(4, 6, generator)
    before = SoftmaxStep(9.0).predict(prompt.xs, prompt.ys).mean
    xs, ys = prompt.xs.clone(), prompt.ys.clone()
    xs[:, 4:], ys[:, 3:] = 1.0, 0.5
    torch.testing.assert_close(SoftmaxStep(9.0).predict(xs, ys).mean[:, :4], before[:, :4])


def test_line_search_finds_the_best_rate_of_a_grid(generator):
    prompt = SoftmaxRegression(2).sample(500, 17, generator, dtype=torch.float64)

    def error(rate):
        return (SoftmaxStep(rate).query(prompt.xs, prompt.ys[:, :-1]) - prompt.ys[:, -1]).square().mean().item()

    best = line_search(prompt.xs, prompt.ys)
    assert error(best) <= min(error(10 ** (k / 10)) for k in range(-10, 41)) + 1e-9
    assert error(best) < error(-best)


@pytest.mark.usefixtures("untyped")
def test_bad_calls_get_a_sentence():
    for rate in (math.inf, math.nan):
        with pytest.raises(ValueError, match="step_size must be finite"):
            SoftmaxStep(rate)
    with pytest.raises(ValueError, match="at least 2 points"):
        line_search(torch.zeros(3, 1, 2), torch.ones(3, 1))
    with pytest.raises(ValueError, match="must be finite"):
        SoftmaxStep(1.0).predict(torch.full((1, 2, 2), math.nan), torch.ones(1, 2))
    with pytest.raises(ValueError, match="same batch and points"):
        SoftmaxStep(1.0).predict(torch.zeros(1, 2, 2), torch.ones(1, 3))
