"""Spectral norms: the power iteration of σReparam (Zhai et al. 2023, section 3.2), and the norm of a thin product.

v = Wu/‖Wu‖,   u = Wᵀv/‖Wᵀv‖,   σ(W) ≈ vᵀWu
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def reference(weight: Float[Tensor, "out in"]) -> Float[Tensor, ""]:
    """The largest singular value by a full decomposition."""
    return torch.linalg.matrix_norm(weight, 2)


def power_step(
    weight: Float[Tensor, "out in"], u: Float[Tensor, " in"]
) -> tuple[Float[Tensor, " in"], Float[Tensor, " out"]]:
    """One power iteration from the right vector u: the new pair (u, v) of unit vectors."""
    v = F.normalize(weight @ u, dim=0, eps=torch.finfo(weight.dtype).tiny)
    return F.normalize(weight.T @ v, dim=0, eps=torch.finfo(weight.dtype).tiny), v


def product_norm(
    left: Float[Tensor, "head d_model d_head"], right: Float[Tensor, "head d_model d_head"]
) -> Float[Tensor, " head"]:
    """Spectral norm of left·rightᵀ for each head, as of W_Q W_Kᵀ, without the d_model × d_model product.

    With left = Q₁R₁ and right = Q₂R₂ the product is Q₁(R₁R₂ᵀ)Q₂ᵀ, whose norm is that of the small middle factor. Half
    precision, which has no decomposition, is worked on in float32. A reading: not differentiable.
    """
    wide = torch.promote_types(left.dtype, torch.float32)
    small_left = torch.linalg.qr(left.to(wide), mode="r").R
    small_right = torch.linalg.qr(right.to(wide), mode="r").R
    return torch.linalg.matrix_norm(small_left @ small_right.mT, 2).to(left.dtype)
