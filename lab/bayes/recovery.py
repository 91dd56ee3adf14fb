"""How many noiseless pairs make sure that a convex program finds structured weights.

For Gaussian inputs the unique solution of min ‖w‖ s.t. Xw = y is the true w once there are so many pairs, in the norm
that suits the structure (Chandrasekaran et al. 2012, "The convex geometry of linear inverse problems"; as cited by
Panwar, Ahuja & Goyal 2024, "In-context learning through the Bayesian prism", slug `icl_bayesian_prism`). The bounds are
of the usual case and with high probability, not of every prompt.
"""

import math


def sparse_points(dim: int, sparsity: int) -> int:
    """⌊2s·ln(d/s) + 5s/4⌋ pairs for s non-zero weights of d, by the least ℓ₁ norm.

    Raises:
        ValueError: unless 1 ≤ s ≤ d.
    """
    if not 1 <= sparsity <= dim:
        raise ValueError(f"sparsity must be between 1 and dim = {dim}, not {sparsity}.")
    return math.floor(2 * sparsity * math.log(dim / sparsity) + 5 * sparsity / 4)


def sign_points(dim: int) -> float:
    """d/2 pairs for weights ±1, by the least ℓ∞ norm: where recovery passes from rare to usual.

    Raises:
        ValueError: if d < 1.
    """
    if dim < 1:
        raise ValueError(f"dim must be at least 1, not {dim}.")
    return dim / 2


def low_rank_points(side: int, rank: int) -> int:
    """3r(2m − r) pairs for an m × m matrix of rank r, by the least nuclear norm.

    Raises:
        ValueError: unless 1 ≤ r ≤ m.
    """
    if not 1 <= rank <= side:
        raise ValueError(f"rank must be between 1 and side = {side}, not {rank}.")
    return 3 * rank * (2 * side - rank)
