"""Floating-point operations of an encoder layer (Zhai et al. 2022, section III-E), a multiplication and addition as 2.

    packed 24·T·k² + 4·k·Σ n_b²,   padded 24·B·L·k² + 4·k·B·L²

6 T k² for queries, keys and values, 2 for the output, 16 for a feed-forward of width 4k, and 2 n² k for each of the
two products of attention.
"""

from collections.abc import Sequence


def layer(lengths: Sequence[int], width: int) -> int:
    """Operations of one layer of that width on sequences of these lengths without padding."""
    return 24 * sum(lengths) * width**2 + 4 * width * sum(n * n for n in lengths)


def ratio(lengths: Sequence[int], width: int, longest: int | None = None) -> float:
    """Packed over padded, the padded batch as long as `longest` or as its longest sequence.

    Tends to α for short sequences and to Σ n_b²/(B L²) for long ones. Raises ValueError if there is no token.
    """
    padded = layer([max(lengths, default=0) if longest is None else longest] * len(lengths), width)
    if padded == 0:
        raise ValueError("a batch without tokens has no operations to compare")
    return layer(lengths, width) / padded
