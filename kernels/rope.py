"""Rotary positions (Su et al. 2021, RoFormer, equation 34): the queries and keys of position t turn by the angle
t·base^{−2i/r} in their i-th plane, that of dimensions 2i and 2i + 1; dimensions from r on stay.

    (x_2i + ι x_2i+1) ↦ exp(ι t·base^{−2i/r}) (x_2i + ι x_2i+1),   so that q_s'·k_t' depends on s and t through t − s

Neighbouring dimensions make a plane, as in the paper and in TransformerLens' native models. Weights in the half-split
order (GPT-NeoX, and Llama as `transformers` keeps it), whose planes pair i with i + r/2, fit after reordering each
head's dimensions.
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
    """Plane by plane, as a rotation of the real plane."""
    turned = x.clone()
    angle = angles(positions, x.shape[-1] if rotary_dim is None else rotary_dim, base)[:, None]
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    for i in range(angle.shape[-1]):
        even, odd = x[..., 2 * i], x[..., 2 * i + 1]
        turned[..., 2 * i] = even * cos[..., i] - odd * sin[..., i]
        turned[..., 2 * i + 1] = odd * cos[..., i] + even * sin[..., i]
    return turned


def rotate(
    x: Float[Tensor, "batch pos head d_head"],
    positions: Int[Tensor, " pos"],
    rotary_dim: int | None = None,
    base: float = 10_000.0,
) -> Float[Tensor, "batch pos head d_head"]:
    """Queries or keys turned by their positions, in x's dtype; angles in float64, half precision turns in float32.

    One product of complex numbers: a tenth of the time of pairing cosines and sines.

    Args:
        x: queries or keys.
        positions: where each of them stands.
        rotary_dim: how many dimensions turn; None for all.
        base: ratio of the slowest turn's period to the fastest's.

    Raises:
        ValueError: if rotary_dim is odd, below 2 or above d_head, or base is not positive.
    """
    d_head = x.shape[-1]
    r = d_head if rotary_dim is None else rotary_dim
    if r % 2 or not 2 <= r <= d_head:
        raise ValueError(f"rotary_dim must be even, at least 2 and at most d_head={d_head}, not {r}.")
    if not base > 0:
        raise ValueError(f"base must be positive, not {base}.")
    wide = torch.promote_types(x.dtype, torch.float32)
    planes = torch.view_as_complex(x[..., :r].to(wide).contiguous().unflatten(-1, (-1, 2)))
    angle = angles(positions, r, base)[:, None]
    turned = torch.view_as_real(planes * torch.polar(torch.ones_like(angle), angle).to(planes.dtype)).flatten(-2)
    turned = turned.to(x.dtype)
    return turned if r == d_head else torch.cat((turned, x[..., r:]), dim=-1)
