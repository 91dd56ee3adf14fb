"""The entropy bound of σReparam and the logit rows that attain it.

Zhai et al., "Stabilizing Transformer Training by Preventing Attention Entropy Collapse" (2023): a softmax over T
logits of Euclidean norm at most s has entropy at least the bound below, in nats.

Each formula is written once. `functions` supplies exp, log and sqrt and thereby the arithmetic: the module `math` for
floats, `sympy` for symbols, `BALLS` for balls that enclose every rounding error.
"""

from types import SimpleNamespace
from typing import Any

from flint import arb

BALLS = SimpleNamespace(exp=arb.exp, log=arb.log, sqrt=arb.sqrt)


def entropy_bound(keys: Any, norm: Any, functions: Any) -> Any:
    """log(1+(T−1)β) + s√(T(T−1))β/(1+(T−1)β) with β = exp(−s√(T/(T−1))), for T = `keys` ≥ 2 and s = `norm` ≥ 0."""
    T, s = keys, norm
    beta = functions.exp(-s * functions.sqrt(T / (T - 1)))
    total = 1 + (T - 1) * beta
    return functions.log(total) + s * functions.sqrt(T * (T - 1)) * beta / total


def two_levels(keys: Any, winners: Any, norm: Any, functions: Any) -> tuple[Any, Any]:
    """The two values of the row with `winners` equal large logits and the rest equal, of mean zero and this norm."""
    T, k, s = keys, winners, norm
    return s * functions.sqrt((T - k) / (k * T)), -s * functions.sqrt(k / (T * (T - k)))


def two_level_entropy(keys: Any, winners: Any, gap: Any, functions: Any) -> Any:
    """Entropy of the softmax of a row with `winners` logits that exceed the `keys` − `winners` others by `gap`."""
    T, k = keys, winners
    beta = functions.exp(-gap)
    total = k + (T - k) * beta
    return functions.log(total) + (T - k) * gap * beta / total
