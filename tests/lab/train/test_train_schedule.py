"""Schedules and ramps are pure functions of the step."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microtome.lab.train import Curriculum, Ramp
from microtome.lab.train.schedule import SCHEDULES, factor
from microtome.lab.train.seeds import step_seed


@given(steps=st.integers(1, 300), warmup=st.floats(0, 1), schedule=st.sampled_from(SCHEDULES), data=st.data())
def test_factor_rises_then_falls_within_its_range(steps, warmup, schedule, data):
    step = data.draw(st.integers(0, steps - 1))
    value = factor(step, steps, warmup, schedule)
    warm = round(warmup * steps)
    assert 0 < value <= 1
    if step + 1 < steps:
        change = factor(step + 1, steps, warmup, schedule) - value
        assert change >= 0 if step + 1 < warm else change <= 1e-12 or step + 1 == warm


@pytest.mark.parametrize(
    ("schedule", "step", "expected"),
    [
        ("constant", 0, 0.05),
        ("constant", 19, 1.0),
        ("constant", 99, 1.0),
        ("linear", 20, 1.0),
        ("linear", 60, 0.5),
        ("linear", 99, 1 / 80),
        ("cosine", 40, 0.5 * (1 + math.cos(math.pi / 4))),
        ("cosine", 60, 0.5),
    ],
)
def test_factor_by_hand(schedule, step, expected):
    """100 steps, the first 20 of warm-up."""
    assert factor(step, 100, 0.2, schedule) == pytest.approx(expected, abs=1e-12)


def test_ramp_is_the_papers_counter():
    """Garg et al.'s curriculum as they run it: a counter that is updated after each step."""
    ramp, value = Ramp(11, 41, 2, 5), 11
    for step in range(120):
        assert ramp.at(step) == value
        if (step + 1) % 5 == 0:
            value = min(value + 2, 41)
    assert value == 41


@pytest.mark.parametrize(
    ("numbers", "sentence"),
    [
        ((0, 5), "1 ≤ start ≤ end"),
        ((6, 5), "1 ≤ start ≤ end"),
        ((1, 5, 0), "increment ≥ 1"),
        ((1, 5, 1, 0), "interval=0"),
    ],
)
def test_ramp_refuses(numbers, sentence):
    with pytest.raises(ValueError, match=sentence):
        Ramp(*numbers)


def test_curriculum_is_a_value():
    assert Curriculum(Ramp(1, 2), Ramp(3, 4)) == Curriculum(Ramp(1, 2), Ramp(3, 4))


@given(st.integers(0, 2**40), st.lists(st.integers(0, 2**32 - 1), min_size=2, max_size=50, unique=True))
def test_no_two_steps_share_a_seed(seed, steps):
    seeds = [step_seed(seed, step) for step in steps]
    assert len(set(seeds)) == len(steps)
    assert all(0 <= s < 2**32 for s in seeds)


def test_step_seeds_are_fixed_for_good():
    """A change of these numbers would give old configurations new data."""
    assert [step_seed(0, step) for step in range(3)] == [3440942327, 3144662581, 1532255021]


def test_streams_and_seeds_differ():
    assert len({step_seed(s, 0, stream) for s in range(50) for stream in ("data", "model")}) == 100


def test_step_seed_refuses_steps_out_of_range():
    for step in (-1, 2**32):
        with pytest.raises(ValueError, match=f"step must be between 0 and 4294967295, not {step}"):
            step_seed(0, step)
