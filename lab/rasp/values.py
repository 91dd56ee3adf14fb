"""The values that flow through a RASP program: None, booleans, numbers, strings, and tuples of these.

There is one kind of number: 2.0 is 2. Booleans are values of their own although Python has True == 1, so values are
compared through `key`. In an average, True counts as 1 and False as 0.
"""

import math
import numbers
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from fractions import Fraction
from functools import lru_cache

import numpy as np

Value = Hashable
_PLAIN = frozenset({type(None), bool, int, str})


def plain(value: object) -> Value:
    """The value as the language holds it: numpy scalars unwrapped, integral numbers as int, other reals as float.

    Raises:
        ValueError: if a number is not finite. TypeError: if the value is not hashable.
    """
    if type(value) in _PLAIN:
        return value
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, tuple):
        return tuple(plain(v) for v in value)
    if is_number(value):
        if not math.isfinite(value):
            raise ValueError(f"{value} is not finite")
        return int(value) if value == int(value) else float(value)
    hash(value)
    return value


def key(value: Value) -> Hashable:
    """What two values share exactly if they are the same value of the language."""
    if isinstance(value, tuple):
        return (tuple, *(key(v) for v in value))
    return (type(value), value)


def is_number(value: object) -> bool:
    """Whether the value is a number; booleans are not."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def is_numeric(value: object) -> bool:
    """Whether an average may contain the value: numbers, and booleans as 0 and 1."""
    return isinstance(value, numbers.Real)


def mean(values: Sequence[Value]) -> Value:
    """The common value when all are the same, else the mean of the numbers, rounded once from the exact mean.

    Raises:
        ValueError: if the values differ and one of them is no number.
    """
    counts = Counter(map(key, values))
    if len(counts) == 1:
        return values[0]
    distinct = {key(v): v for v in values}
    strangers = [v for v in distinct.values() if not is_numeric(v)]
    if strangers:
        raise ValueError(f"{strangers[0]!r} is not a number and cannot be averaged with other values")
    return plain(sum(fraction(v) * counts[k] for k, v in distinct.items()) / len(values))


def extreme(values: Sequence[Value], *, greatest: bool) -> Value:
    """The greatest or the least of the values, whatever their order; of True and 1, which Python calls equal, 1.

    Raises:
        ValueError: if some of the values cannot be compared.
    """
    distinct = list({key(v): v for v in values}.values())
    if len(distinct) == 1:
        return distinct[0]
    try:
        best = max(distinct) if greatest else min(distinct)
    except TypeError as error:
        raise ValueError(f"{distinct[0]!r} and {distinct[1]!r} cannot be compared: {error}") from error
    return max((v for v in distinct if v == best), key=lambda v: repr(key(v)))


@lru_cache(maxsize=4096)
def fraction(number: Value) -> Fraction:
    """The number that is meant: the fraction with a denominator up to a million that rounds to the float, if one does.

    So 1/3 is a third again and 0.1 a tenth, and averages of averages are as exact as averages.
    """
    simple = Fraction(number).limit_denominator(10**6)
    return simple if float(simple) == number else Fraction(number)


def unique(values: Iterable[Value]) -> tuple[Value, ...]:
    """Each value once: numbers and booleans first, ascending; the rest as they came; None last."""
    found = {key(v): v for v in values}.values()
    numeric = sorted(v for v in found if is_numeric(v))
    others = [v for v in found if not is_numeric(v) and v is not None]
    return (*numeric, *others, *(v for v in found if v is None))
