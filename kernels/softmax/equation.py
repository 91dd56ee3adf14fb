"""Softmax attention as it is written down, n×n matrix in full: what every other path is tested against.

    lse_i = log Σ_j exp(s_ij),   P_ij = exp(s_ij − lse_i),   z_i = Σ_j P_ij factor_ij v_j,
    Ent_i = −Σ_j P_ij log P_ij   in nats (Zhai et al. 2023, sect. 3: attention entropy).

The entropy is that of the probabilities P before any factor. A row that may attend to no key at all has
P_i = 0: z_i = 0, Ent_i = 0, lse_i = −∞.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from microtome.kernels.scores.transform import ScoreTransform


def reference(
    q: Float[Tensor, "batch head query d_head"],
    k: Float[Tensor, "batch head key d_head"],
    v: Float[Tensor, "batch head key d_head"],
    transform: ScoreTransform,
) -> tuple[
    Float[Tensor, "batch head query d_head"],
    Float[Tensor, "batch head query"],
    Float[Tensor, "batch head query"],
]:
    """(z, entropy, lse) in q's dtype, by the equations above; O(batch·head·query·key) memory."""
    s = transform.scale * (q @ k.mT)
    allowed = torch.ones_like(s, dtype=torch.bool)
    if transform.bias is not None:
        s = s + transform.bias
        allowed = allowed & (transform.bias > -torch.inf)
    if transform.mask is not None:
        allowed = allowed & transform.mask[:, None, None, :]
    future = transform.future(slice(0, q.shape[2]), slice(0, k.shape[2]), q.device)
    if future is not None:
        allowed = allowed & ~future
    somewhere = allowed.any(-1, keepdim=True)
    # Rows without any key get finite scores first, so that softmax and its gradient stay defined there.
    s = s.masked_fill(~allowed, -torch.inf).masked_fill(~somewhere, 0.0)
    log_p = s.log_softmax(-1).masked_fill(~allowed, 0.0)
    p = s.softmax(-1).masked_fill(~somewhere, 0.0)
    lse = s.logsumexp(-1).masked_fill(~somewhere[..., 0], -torch.inf)
    weights = p if transform.factor is None else p * transform.factor
    return (weights @ v).to(v.dtype), -(p * log_p).sum(-1), lse
