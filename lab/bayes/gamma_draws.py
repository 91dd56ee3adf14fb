"""Draws of the gamma family from a given generator, in logarithms: a shape far below one puts its mass beyond what a
floating-point number holds.

    G(a) = G(a + 1)·U^{1/a} in law,   U ~ U(0, 1)   (Marsaglia & Tsang 2000, section 6)
"""

import torch
from jaxtyping import Float
from torch import Tensor


def log_gamma(shape: Float[Tensor, "*size"], generator: torch.Generator) -> Float[Tensor, "*size"]:
    """log G with G ~ Gamma(shape, rate 1), independent."""
    boosted = torch._standard_gamma(shape + 1, generator=generator).log()
    uniform = torch.rand(shape.shape, generator=generator, dtype=shape.dtype, device=shape.device)
    return boosted + torch.log1p(-uniform) / shape  # 1 − U lies in (0, 1]


def log_dirichlet(
    concentration: Float[Tensor, "*batch component"], generator: torch.Generator
) -> Float[Tensor, "*batch component"]:
    """Logarithms of weights ~ Dirichlet(concentration); they sum to one after exp."""
    return log_gamma(concentration, generator).log_softmax(-1)


def wishart(
    count: tuple[int, ...], dim: int, freedom: int, scale: float, generator: torch.Generator, dtype: torch.dtype
) -> Float[Tensor, "*count dim dim"]:
    """Λ ~ Wishart(freedom, scale·I) by Bartlett's decomposition Λ = scale·AAᵀ.

    A is lower triangular with N(0, 1) below the diagonal and A_ii² ~ χ²(freedom − i), i from 0.
    """
    degrees = (freedom - torch.arange(dim, dtype=dtype, device=generator.device)).expand(*count, dim)
    diagonal = (log_gamma(degrees / 2, generator) / 2).exp() * 2**0.5
    below = torch.randn(*count, dim, dim, generator=generator, dtype=dtype, device=generator.device).tril(-1)
    factor = below + torch.diag_embed(diagonal)
    return scale * factor @ factor.mT
