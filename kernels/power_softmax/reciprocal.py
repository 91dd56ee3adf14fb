"""1/b by additions and multiplications: Goldschmidt's iteration on (0, 2B).

    e₀ = 1 − b/B,  r₀ = 1/B;   r ← r(1 + e),  e ← e².

After k steps r·b = 1 − (1 − b/B)^{2^k} exactly, so that τ on [ε, B] needs k ≥ log₂(ln(1/τ)·B/ε), as −ln(1 − x) ≥ x
("Power-Softmax", 2024; Goldschmidt 1964).
"""

import math

from jaxtyping import Float
from torch import Tensor


def goldschmidt(b: Float[Tensor, "*shape"], bound: float, steps: int) -> Float[Tensor, "*shape"]:
    """An approximation of 1/b after `steps` steps; it converges where 0 < b < 2·bound.

    B is public, so that b/B is a multiplication. Raises ValueError for a bound that is not positive and finite, or a
    negative number of steps.
    """
    if not 0 < bound < math.inf or steps < 0:
        raise ValueError(f"bound must be positive and finite and steps at least 0, got {bound} and {steps}")
    e, r = 1 - b * (1 / bound), 1 / bound
    for _ in range(steps):
        r, e = r + r * e, e * e
    return b.new_full(b.shape, r) if isinstance(r, float) else r


def relative_error(b: Float[Tensor, "*shape"], bound: float, steps: int) -> Float[Tensor, "*shape"]:
    """What 1 − r·b is after so many steps: (1 − b/B)^{2^steps}."""
    return (1 - b / bound) ** (2**steps)


def steps_for(tolerance: float, low: float, bound: float) -> int:
    """The least k that the formula allows for a relative error of `tolerance` on [low, bound].

    Raises ValueError unless 0 < tolerance < 1 and 0 < low ≤ bound.
    """
    if not (0 < tolerance < 1 and 0 < low <= bound < math.inf):
        raise ValueError(
            f"a tolerance in (0, 1) and an interval with 0 < low ≤ bound are needed, got {tolerance}, [{low}, {bound}]"
        )
    return max(0, math.ceil(math.log2(math.log(1 / tolerance) * bound / low)))
