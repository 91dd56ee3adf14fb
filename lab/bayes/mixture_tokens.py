"""A Gaussian mixture as a set of tokens, and back (Whittle et al. 2025, distribution_transformers, section 4).

    token_k = [logit w_k, μ_k, log diag C_k, C_k below the diagonal],   Σ_k = C_kC_kᵀ
    w = sigmoid(·) divided by its sum,   diag C = exp(clamp(·, −11, 14)) + 1e-6

The way back takes any numbers to a mixture: weights sum to one and covariances are positive definite. The way there is
its right inverse but for the 1e-6 on the diagonal, and for weights beyond the clamp, where one has to be made: the
logit of a weight of zero or one is infinite.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from microtome.lab.bayes.gaussian_mixture import GaussianMixture

LEAST_LOG, MOST_LOG, JITTER = -11.0, 14.0, 1e-6


def token_width(dim: int) -> int:
    """Numbers of a token: 1 + D + D(D + 1)/2."""
    return 1 + dim + dim * (dim + 1) // 2


def tokenise(mixture: GaussianMixture, floor: float = 1e-6) -> Float[Tensor, "*batch component token"]:
    """One token a component.

    Args:
        mixture: what is written down.
        floor: weights are clamped to [floor, 1 − floor], 0 < floor < ½, before their logit is taken.

    Raises:
        ValueError: if the floor is out of range.
    """
    if not 0 < floor < 0.5:
        raise ValueError(f"floor must lie between 0 and ½, so that every logit is finite, not {floor}.")
    most = math.log1p(-floor) - math.log(floor)
    logits = _logits(mixture.log_weights).clamp(-most, most)
    diagonal = mixture.scale_trils.diagonal(dim1=-2, dim2=-1).log()
    rows, columns = torch.tril_indices(mixture.dim, mixture.dim, -1)
    below = mixture.scale_trils[..., rows, columns]
    return torch.cat([logits[..., None], mixture.means, diagonal, below], dim=-1)


def detokenise(tokens: Float[Tensor, "*batch component token"], dim: int) -> GaussianMixture:
    """The mixture that any numbers stand for.

    Raises:
        ValueError: if the tokens are not as wide as those of a mixture of that dimension.
    """
    if tokens.shape[-1] != token_width(dim):
        raise ValueError(
            f"tokens of a {dim}-dimensional mixture have {token_width(dim)} numbers, not {tokens.shape[-1]}."
        )
    log_weights = F.logsigmoid(tokens[..., 0])
    log_weights = log_weights - log_weights.logsumexp(-1, keepdim=True)
    means, log_diagonal, below = tokens[..., 1:].split([dim, dim, tokens.shape[-1] - 1 - 2 * dim], dim=-1)
    factors = torch.diag_embed(log_diagonal.clamp(LEAST_LOG, MOST_LOG).exp() + JITTER)
    if dim > 1:
        rows, columns = torch.tril_indices(dim, dim, -1)
        places = F.one_hot(rows * dim + columns, dim * dim).to(below.dtype)  # [below dim·dim]
        factors = factors + (below @ places).unflatten(-1, (dim, dim))
    return GaussianMixture(log_weights, means, factors)


def _logits(log_weights: Tensor) -> Tensor:
    """log w_k − log(1 − w_k) with 1 − w_k as the sum of the others, which rounding cannot cancel."""
    components = log_weights.shape[-1]
    if components == 1:
        return torch.full_like(log_weights, math.inf)
    itself = torch.eye(components, dtype=torch.bool, device=log_weights.device)
    others = log_weights[..., None, :].expand(*log_weights.shape, components).masked_fill(itself, -math.inf)
    return log_weights - others.logsumexp(-1)
