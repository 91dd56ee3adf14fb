"""Theorem and identities of softmax regression (Li et al. 2023): they hold, and their measures can fail."""

import math

import pytest
import sympy as sp
import torch

from microtome.theory import registry
from microtome.theory.statements import icl_softmax_regression_numeric as numeric
from microtome.theory.statements import icl_softmax_regression_symbolic as symbolic


@pytest.mark.parametrize("claim", registry.listing(slug="icl_softmax_regression"), ids=lambda c: c.statement.name)
def test_every_statement_holds_and_its_control_fails(claim):
    evidence = claim.run(budget="quick", seed=1)
    assert evidence.verdict == "holds", evidence.to_json()
    assert not evidence.control.passes


def test_the_ball_is_of_the_radius(generator):
    for shape in ((3,), (5, 2)):
        size = numeric.norm(numeric.in_ball(500, 2.0, shape, generator))
        assert size.max() <= 2.0
        assert size.max() > 1.9
        assert size.min() < 0.2


def test_steps_are_not_below_the_smallest(generator):
    start, end = (numeric.in_ball(2000, 1.0, (2,), generator) for _ in range(2))
    size = numeric.norm(numeric.pairs(start, end, generator) - start)
    apart = numeric.norm(end - start)
    assert (size >= apart.clamp(max=1e-3) * (1 - 1e-9)).all()
    assert size.median() < 0.2


def test_two_tokens_come_near_half_and_never_above():
    """n = 2, f near (½, ½), a step along the only direction that counts: the ratio is R/2·(1 − O(step²))."""
    A = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], dtype=torch.float64) / math.sqrt(2)
    x = torch.tensor([5e-3, 0.0], dtype=torch.float64)
    ratio = (numeric.f(A, x) - numeric.f(A, -x)).norm() / (2 * x).norm()
    assert 0.4999 < ratio < 0.5


def test_logarithms_of_m_do_not_overflow():
    assert numeric.log_slack(0.4, 40.0, 64) == pytest.approx(-math.log(0.8))
    assert numeric.log_slack(0.6, 40.0, 64) < 0


def test_the_bound_below_one_half_is_not_proved():
    assert symbolic.what_is_left(sp.Rational(1, 2)) == 0
    assert symbolic.what_is_left(sp.Rational(49, 100)) != 0


def test_figure_has_both_bounds():
    figure = numeric.draw(numeric.table(800, 0))
    assert len(figure.axes) == 2
