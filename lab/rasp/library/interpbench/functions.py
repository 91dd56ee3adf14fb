"""Real functions of each token. On a finite vocabulary each is a finite table.

The specification is the function itself, for there is no second way to say "the sine"; the tests hold the values to
the identities that define the functions. All arguments lie in the functions' domains: the published logarithm starts
at 1, the inverse sine and cosine keep to [−1, 1), and the tangent has no multiple of π/2 to meet.
"""

import math

from microtome.lab.rasp.library.example import Example
from microtome.lab.rasp.library.interpbench.numbered import NUMBERS, token_by_token

TENTHS = tuple(n / 10 for n in range(-10, 10))

FUNCTIONS = (
    (50, "hyperbolic_cosine", math.cosh, NUMBERS),
    (52, "square_root", math.sqrt, NUMBERS),
    (54, "hyperbolic_tangent", math.tanh, NUMBERS),
    (55, "hyperbolic_sine", math.sinh, NUMBERS),
    (65, "cube_root", math.cbrt, NUMBERS),
    (70, "cosine", math.cos, NUMBERS),
    (73, "sine", math.sin, NUMBERS),
    (77, "tangent", math.tan, NUMBERS),
    (84, "arctangent", math.atan, NUMBERS),
    (104, "exponential", math.exp, NUMBERS),
    (114, "logarithm", math.log10, NUMBERS[1:]),
    (121, "arcsine", math.asin, TENTHS),
    (123, "arccosine", math.acos, TENTHS),
)


def examples() -> tuple[Example, ...]:
    """The real functions."""
    return tuple(
        token_by_token(number, title, f"The {title.replace('_', ' ')} of each token.", f, f, vocab)
        for number, title, f, vocab in FUNCTIONS
    )
