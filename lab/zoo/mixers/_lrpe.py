"""The linearised relative position encoding of TransNormer (Qin et al. 2022, slug `transnormer`): x at position t
becomes R_t (I − 2uuᵀ) x.

u is a random unit vector, frozen; R_t turns the pair (2a, 2a + 1) by t·θ_a, with θ learned from 10000^{−2a/d} on and
shared by the heads of a layer. Both maps keep lengths, and products depend on positions through their difference.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


class Lrpe(nn.Module):
    """One layer's encoding of vectors of `width` channels. Raises ValueError for an odd width."""

    def __init__(self, width: int):
        super().__init__()
        if width % 2:
            raise ValueError(f"LRPE turns pairs of channels: the head's width {width} must be even.")
        self.theta = nn.Parameter(10_000.0 ** (-torch.arange(0, width, 2) / width))
        u = torch.randn(width)
        self.register_buffer("u", u / u.norm())

    def forward(
        self, x: Float[Tensor, "*axes pos width"], positions: Int[Tensor, " pos"]
    ) -> Float[Tensor, "*axes pos width"]:
        """x of each position, reflected and turned."""
        x = x - 2 * (x @ self.u)[..., None] * self.u
        # At position 10⁴ an angle in float32 is off by 10⁻³.
        angle = positions.double()[:, None] * self.theta.double()
        cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
        even, odd = x[..., 0::2], x[..., 1::2]
        return torch.stack((even * cos - odd * sin, odd * cos + even * sin), dim=-1).flatten(-2)
