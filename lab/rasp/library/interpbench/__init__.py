"""The 129 numbered programs of InterpBench (Gupta et al. 2024), written anew, each beside a specification.

The published numbers run from 1 to 131; 16 and 27 are not among them. What each program computes is what the
published one computes on its own vocabulary, which is sometimes not what its title says: the modules' docstrings name
these cases, and the few in which ours deviate. The vocabularies are the published ones, but for long lists, which are
cut, and random words, in whose place stand words that the programs tell apart. `causal` is as published.
"""

from microtome.lab.rasp.library.example import Example
from microtome.lab.rasp.library.interpbench import (
    arithmetic,
    averages,
    checks,
    counting,
    functions,
    neighbours,
    number_theory,
    order,
    positions,
    ranges,
    words,
)

GROUPS = (
    arithmetic,
    averages,
    checks,
    counting,
    functions,
    neighbours,
    number_theory,
    order,
    positions,
    ranges,
    words,
)


def examples() -> tuple[Example, ...]:
    """All of them, in the order of their numbers."""
    listed = (example for group in GROUPS for example in group.examples())
    return tuple(sorted(listed, key=lambda example: example.name))


__all__ = ["examples"]
