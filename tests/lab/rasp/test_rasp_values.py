from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microtome.lab.rasp.values import extreme, key, mean, plain, unique


@pytest.mark.parametrize(
    ("given", "held"),
    [
        (2.0, 2),
        (np.float32(0.5), 0.5),
        (np.int64(3), 3),
        (np.bool_(True), True),
        (Fraction(6, 3), 2),
        (Fraction(1, 3), 1 / 3),
        ((1.0, (True, None)), (1, (True, None))),
        ("2.0", "2.0"),
        (None, None),
    ],
)
def test_plain_holds_one_kind_of_number(given, held):
    assert plain(given) == held
    assert type(plain(given)) is type(held)
    assert key(plain(given)) == key(held)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), np.float64("-inf")])
def test_plain_refuses_numbers_that_are_not_finite(bad):
    with pytest.raises(ValueError, match="not finite"):
        plain(bad)


def test_plain_refuses_what_cannot_be_hashed():
    with pytest.raises(TypeError, match="unhashable"):
        plain([1])


def test_key_tells_types_apart_inside_tuples_too():
    values = [True, 1, "1", (True,), (1,), None, False, 0]
    assert len({key(v) for v in values}) == len(values)


def test_mean_keeps_a_common_value_whatever_it_is():
    assert mean([True, True]) is True
    assert mean(["a", "a"]) == "a"
    assert mean([(1, 2)]) == (1, 2)


def test_mean_of_different_values_is_a_number():
    assert mean([True, False]) == 0.5
    assert mean([1, 3]) == 2
    assert type(mean([1, 3])) is int
    assert mean([0.1, 0.1, 0.2]) == 0.4 / 3
    assert mean([1 / 3, 2 / 3, 1]) == 2 / 3


def test_mean_refuses_to_average_strings():
    with pytest.raises(ValueError, match="'b' is not a number"):
        mean([1, "b"])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(-50, 50) | st.floats(-50, 50, allow_nan=False), min_size=1, max_size=12), st.randoms())
def test_mean_does_not_depend_on_the_order(numbers, random):
    numbers = [plain(n) for n in numbers]
    shuffled = random.sample(numbers, len(numbers))
    assert mean(shuffled) == mean(numbers)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(-3, 3) | st.booleans() | st.just(0.5), min_size=1, max_size=8), st.randoms())
def test_extremes_do_not_depend_on_the_order(values, random):
    shuffled = random.sample(values, len(values))
    for greatest, python in ((True, max), (False, min)):
        found = extreme(values, greatest=greatest)
        assert found == python(values)
        assert key(found) == key(extreme(shuffled, greatest=greatest))


def test_of_true_and_one_the_extreme_is_the_number():
    assert key(extreme([True, 1], greatest=True)) == key(extreme([1, True, 2], greatest=False)) == key(1)
    assert key(extreme([(False,), (0,)], greatest=True)) == key((0,))
    assert extreme([False, False], greatest=True) is False


def test_values_without_an_order_have_no_extreme():
    with pytest.raises(ValueError, match="'a' and 2 cannot be compared"):
        extreme(["a", 2], greatest=True)
    assert extreme([("a", None), ("a", None)], greatest=True) == ("a", None)


def test_unique_orders_numbers_and_puts_none_last():
    assert unique(map(plain, [None, "b", 3, -1, "a", 3.0, "b"])) == (-1, 3, "b", "a", None)
