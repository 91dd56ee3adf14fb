"""Rotary positions (Su et al. 2021, RoFormer, equation 34): at position t the i-th plane of a query or key turns by the
angle t·base^{−2i/r}. Plane i is spanned by dimensions 2i and 2i + 1; dimensions from r on stay as they are.

q_s' · k_t' depends on s and t through t − s only.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def angles(positions: Int[Tensor, " pos"], rotary_dim: int, base: float = 10_000.0) -> Float[Tensor, "pos plane"]:
    """The angle of each position in each plane, in float64."""
    exponent = torch.arange(0, rotary_dim, 2, dtype=torch.float64, device=positions.device) / rotary_dim
    return positions.double()[:, None] * base**-exponent


def reference(
    x: Float[Tensor, "batch pos head d_head"],
    positions: Int[Tensor, " pos"],
    rotary_dim: int | None = None,
    base: float = 10_000.0,
) -> Float[Tensor, "batch pos head d_head"]:
    """As complex numbers: plane i is multiplied by exp(i·angle)."""
    r = x.shape[-1] if rotary_dim is None else rotary_dim
    planes = torch.view_as_complex(x[..., :r].double().unflatten(-1, (-1, 2)).contiguous())
    turn = torch.polar(torch.ones((), dtype=torch.float64), angles(positions, r, base))[:, None]
    turned = torch.view_as_real(planes * turn).flatten(-2).to(x.dtype)
    return torch.cat((turned, x[..., r:]), dim=-1)


def rotate(
    x: Float[Tensor, "batch pos head d_head"],
    positions: Int[Tensor, " pos"],
    rotary_dim: int | None = None,
    base: float = 10_000.0,
) -> Float[Tensor, "batch pos head d_head"]:
    """Queries or keys turned by their positions.

    Args:
        x: queries or keys.
        positions: where each of them stands.
        rotary_dim: how many dimensions turn; None for all.
        base: ratio of the slowest turn's period to the fastest's.

    Raises:
        ValueError: if rotary_dim is odd, below 2 or above d_head.
    """
    d_head = x.shape[-1]
    r = d_head if rotary_dim is None else rotary_dim
    if r % 2 or not 2 <= r <= d_head:
        raise ValueError(f"rotary_dim must be even, at least 2 and at most d_head={d_head}, not {r}.")
    angle = angles(positions, r, base)[:, None]
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    even, odd = x[..., :r:2], x[..., 1:r:2]
    turned = torch.stack((even * cos - odd * sin, odd * cos + even * sin), dim=-1).flatten(-2)
    return turned if r == d_head else torch.cat((turned, x[..., r:]), dim=-1)
