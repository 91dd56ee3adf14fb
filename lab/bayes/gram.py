"""Ridge for every prefix from one Cholesky factor of the Gram matrix of a whole prompt.

With a unit Gaussian prior on w and noise variance λ the labels of a prompt have covariance K + λI, K = XXᵀ.
Let K + λI = LLᵀ and e = L⁻¹y. Because L is lower-triangular, its first k rows are the factor of the first k
points, so that one factorisation holds the answer of every prefix (the innovations form of Gaussian
conditioning):

    mean of y_i from the pairs before i   Σ_{j<i} L_ij e_j
    its variance, noise included          L_ii²
    ŵ from the pairs before i             Σ_{j<i} e_j g_j,   G = L⁻¹X

The error in these is about eps·‖K‖/λ: for a ridge that is tiny beside ‖x‖² use `givens`.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from microtome.lab.bayes.prefixes import before

Vectors = Float[Tensor, "batch points dim"]
Scalars = Float[Tensor, "batch points"]


def predict(xs: Vectors, ys: Scalars, ridge: float) -> tuple[Scalars, Scalars]:
    """ŵᵀx_i and its spread for every prefix, without making the weights; spread as in `fit`."""
    factor, innovations = _factor(xs, ys, ridge)
    spread = _spread(factor, ridge)
    factor.diagonal(dim1=1, dim2=2).zero_()  # so that y_i itself, in e_i, has no part in its mean
    return (factor @ innovations).squeeze(-1), spread


def fit(xs: Vectors, ys: Scalars, ridge: float) -> tuple[Vectors, Scalars]:
    """Fits every prefix.

    Args:
        xs: inputs.
        ys: labels.
        ridge: λ > 0.

    Returns:
        Weights (XᵀX + λI)⁻¹Xᵀy of the pairs before i, and λ·x_iᵀ(XᵀX + λI)⁻¹x_i, the variance of wᵀx_i that
        these pairs leave to a unit prior.
    """
    factor, innovations = _factor(xs, ys, ridge)
    steps = torch.linalg.solve_triangular(factor, xs, upper=False) * innovations
    return before(steps.cumsum(1)), _spread(factor, ridge)


def _factor(xs: Tensor, ys: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
    """L [batch points points] and e [batch points 1]."""
    covariance = xs @ xs.mT
    covariance.diagonal(dim1=1, dim2=2).add_(ridge)
    factor = torch.linalg.cholesky(covariance)
    return factor, torch.linalg.solve_triangular(factor, ys[..., None], upper=False)


def _spread(factor: Tensor, ridge: float) -> Tensor:
    return factor.diagonal(dim1=1, dim2=2).square() - ridge
