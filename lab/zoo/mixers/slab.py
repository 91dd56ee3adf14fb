"""Simplified linear attention of SLAB (Guo et al. 2024, section 3.2, slug `slab`): ReLU features and a convolution.

    q ← ReLU(q),   k ← ReLU(k + P),   A_ij = q_i·k_j / (q_i·Σ_l k_l + 1e-6),   z_i = Σ_j A_ij v_j + (K ∗ v)_i + b

P are learned positions, zero at the start, and K a depth-wise 5 × 5 convolution over the grid that positions fill row
by row, one kernel a channel of a head and the same for all heads. Where n_ctx is no square there is no grid: positions
stand in one row, of which the kernel's middle row sees two neighbours on either side. The method sees both directions.

`hook_pattern` is A, whose rank is at most d_head; `hook_z` is z without b. In the effective attention every channel is
a head of width one, with the matrix A + K_c of its kernel. A query whose features are all zero gives the convolution
alone.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from microtome.lab.zoo.mixers._pattern import Heads, Pattern, PatternMixer
from microtome.lab.zoo.parts import Context, Effective, MixerPart, Shape
from microtome.lab.zoo.template import Template

EPS = 1e-6
REACH = 2
"""Neighbours that the convolution sees on each side of a position, along each axis of the grid."""


def simplified_linear_attention(q: Heads, k: Heads, v: Heads) -> Heads:
    """A @ v for non-negative features q and k, in float32 or wider, by whichever order of products is cheaper.

    (qkᵀ)v costs 2n²d multiplications and q(kᵀv) 2nd², so that the second is taken where n > d.
    """
    dtype, wide = v.dtype, torch.promote_types(v.dtype, torch.float32)
    q, k, v = q.to(wide), k.to(wide), v.to(wide)
    total = q @ k.sum(2)[..., None] + EPS
    order = by_features if q.shape[2] > q.shape[3] else by_positions
    return (order(q, k, v) / total).to(dtype)


def by_features(q: Heads, k: Heads, v: Heads) -> Heads:
    return q @ (k.mT @ v)


def by_positions(q: Heads, k: Heads, v: Heads) -> Heads:
    return (q @ k.mT) @ v


def multiplications(n: int, d: int) -> int:
    """Those of `simplified_linear_attention` for one head, its normaliser and the convolution of v included."""
    return 2 * n * d * min(n, d) + 2 * n * d + n * d * (2 * REACH + 1) ** 2


class SlabMixer(PatternMixer):
    """Simplified linear attention of one layer."""

    def __init__(self, shape: Shape):
        super().__init__(shape)
        self.longest = shape.n_ctx
        self.position = nn.Parameter(torch.zeros(shape.n_ctx, shape.d_model))
        kernel = 2 * REACH + 1
        self.dwc = nn.Conv2d(self.d_head, self.d_head, kernel, padding=REACH, groups=self.d_head)
        side = math.isqrt(shape.n_ctx)
        self.side = side if side * side == shape.n_ctx else None

    def _heads(self, x: Tensor, context: Context) -> tuple[Heads, Heads, Heads]:
        """ReLU features of queries and keys, and values; zeros at padding."""
        q, k, v = super()._heads(x, context)
        places = self.position[: context.n].unflatten(-1, (self.n_heads, self.d_head)).transpose(0, 1)
        q, k = torch.relu(q), torch.relu(k + places)
        if context.mask is not None:
            real = context.mask[:, None, :, None]
            k, v = k * real, v * real
        return q, k, v

    def _pattern(self, q: Heads, k: Heads, context: Context) -> Pattern:
        weights = q @ k.mT
        return weights / (weights.sum(-1, keepdim=True) + EPS)

    def _fast(self, q: Heads, k: Heads, v: Heads, context: Context) -> Heads:
        return simplified_linear_attention(q, k, v)

    def _attend(self, q: Heads, k: Heads, v: Heads, context: Context) -> Heads:
        return super()._attend(q, k, v, context) + self._convolved(v)

    def _read(self, z: Float[Tensor, "batch pos head d_head"], x: Tensor, v: Heads) -> Float[Tensor, "batch pos width"]:
        return super()._read(z + self.dwc.bias, x, v)

    def _convolved(self, v: Heads) -> Heads:
        """K ∗ v on the grid, without bias."""
        n = v.shape[2]
        side = n if self.side is None else self.side
        grid = F.pad(v, (0, 0, 0, -n % side)).mT.flatten(0, 1).unflatten(-1, (-1, side))
        out = F.conv2d(grid, self.dwc.weight, padding=REACH, groups=self.d_head)
        return out.flatten(-2)[..., :n].unflatten(0, v.shape[:2]).mT

    def _kernels(self, n: int) -> Float[Tensor, "d_head query key"]:
        """K as a matrix for every channel."""
        basis = torch.eye(n, dtype=self.dwc.weight.dtype, device=self.dwc.weight.device)
        return self._convolved(basis[:, None, :, None].expand(-1, 1, -1, self.d_head))[:, 0].permute(2, 1, 0)

    def effective_attention(self, x: Float[Tensor, "batch pos d_model"], context: Context) -> Effective:
        """A head of width one for every channel, exact."""
        q, k, v = self._heads(x, context)
        matrix = self._pattern(q, k, context)[:, :, None] + self._kernels(context.n)
        return Effective(matrix.flatten(1, 2), v.mT.flatten(1, 2)[..., None], exact=True)

    def _summary(self, q: Heads, k: Heads, context: Context) -> Pattern:
        """The mean of |A + K_c| over a head's channels."""
        pattern, kernels = self._pattern(q, k, context), self._kernels(context.n)
        return torch.stack([(pattern + kernel).abs() for kernel in kernels]).mean(0)


@dataclass(frozen=True)
class Part(MixerPart):
    """No options."""

    bidirectional_only: ClassVar = True
    template: ClassVar = Template(
        matrix="ReLU(Q)ReLU(K + P)ᵀ + K_c",
        depends="input",
        structure="rank ≤ d_head, plus a 5 × 5 convolution one a channel",
        cost="n·d²",
        normalised="row sum, but for the convolution",
        low_rank="d_head, but for the convolution",
        lengths="at most n_ctx",
    )

    def build(self, shape: Shape) -> SlabMixer:
        return SlabMixer(shape)
