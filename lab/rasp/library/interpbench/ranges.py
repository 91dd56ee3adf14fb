"""Bringing each token into a range of numbers, in four ways, and telling whether it is in one.

The reflected range includes both borders; the wrapped one, as published, only the lower: 7 becomes 2.
"""

from microtome.lab.rasp.library.example import Example
from microtome.lab.rasp.library.interpbench.numbered import token_by_token

LOW, HIGH = 2, 7
SPAN = HIGH - LOW
FROM_MINUS_15 = tuple(range(-15, 15))
FROM_MINUS_20 = tuple(range(-20, 20))
WRITTEN = tuple(str(n) for n in range(30))


def reflect(x: int) -> int:
    """x bounced between the borders: a triangle wave."""
    return HIGH - abs((x - LOW) % (2 * SPAN) - SPAN)


def reflect_step_by_step(x: int) -> int:
    """The same: mirror x at the border that it is past, until it is past none."""
    while not LOW <= x <= HIGH:
        x = 2 * (LOW if x < LOW else HIGH) - x
    return x


def wrap(x: int) -> int:
    """x modulo the width of the range."""
    return (x - LOW) % SPAN + LOW


def wrap_step_by_step(x: int) -> int:
    """The same: move x by the width until it is inside."""
    while x < LOW:
        x += SPAN
    while x >= HIGH:
        x -= SPAN
    return x


def clip(x: int) -> int:
    """The number in the range that is nearest to x."""
    return min(max(x, LOW), HIGH)


def examples() -> tuple[Example, ...]:
    """The programs on ranges."""
    return (
        token_by_token(
            30,
            "from_10_to_20",
            "Whether a written number is from 10 to 20.",
            lambda x: 10 <= int(x) <= 20,
            lambda x: x == "20" or (len(x) == 2 and x[0] == "1"),
            WRITTEN,
        ),
        token_by_token(
            102, "reflect", "Each token reflected into [2, 7].", reflect, reflect_step_by_step, FROM_MINUS_20
        ),
        token_by_token(107, "wrap", "Each token wrapped into [2, 7).", wrap, wrap_step_by_step, FROM_MINUS_15),
        token_by_token(
            130, "clip", "Each token clipped to [2, 7].", clip, lambda x: sorted((LOW, x, HIGH))[1], FROM_MINUS_15
        ),
    )
