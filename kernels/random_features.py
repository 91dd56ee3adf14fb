"""Random features whose products estimate the kernel e^{x·y} ("Rethinking attention with Performers", Choromanski et
al. 2021; trigonometric ones: Rahimi & Recht 2007).

    positive:       φ(x) = e^{−‖x‖²/2}/√m · (e^{w_1·x}, …, e^{w_m·x})
    trigonometric:  φ(x) = e^{+‖x‖²/2}/√m · (sin w_1·x, …, sin w_m·x, cos w_1·x, …, cos w_m·x)

With w_r ~ N(0, I) either has E[φ(x)·φ(y)] = e^{x·y} for any x and y. No maximum is subtracted: a constant per row does
not cancel when the row is a key.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from microtome.kernels.haar import haar

Points = Float[Tensor, "*points dim"]
Directions = Float[Tensor, "*heads feature dim"]
"""One set of directions for all points, or one for each of the axes before `pos dim`."""


def directions(
    features: int, dim: int, generator: torch.Generator, *, orthogonal: bool = True
) -> Float[Tensor, "feature dim"]:
    """W, its rows w_r ~ N(0, I), on the generator's device; float64.

    Args:
        features: m, how many rows.
        dim: of a row.
        orthogonal: make rows within each block of `dim` orthogonal: a Haar matrix whose rows get the lengths of
            Gaussian ones, chi-distributed with `dim` degrees of freedom, so that each row keeps its law. The
            estimates' variance falls (Choromanski et al. 2021, theorem 2).

    Raises:
        ValueError: if there are no features or no dimensions.
    """
    if features < 1 or dim < 1:
        raise ValueError(f"features and dim must be at least 1, not {features} and {dim}.")
    device = generator.device
    if not orthogonal:
        return torch.randn(features, dim, generator=generator, device=device, dtype=torch.float64)
    rotations = haar(math.ceil(features / dim), dim, dim, generator).flatten(0, 1)[:features]
    lengths = torch.randn(features, dim, generator=generator, device=device, dtype=torch.float64).norm(dim=-1)
    return rotations * lengths[:, None]


def positive_features(x: Points, w: Directions) -> Float[Tensor, "*points feature"]:
    """e^{w_r·x − ‖x‖²/2}/√m, all above zero; `w` broadcasts over the axes of x before the last two."""
    return (x @ w.mT - x.square().sum(-1, keepdim=True) / 2).exp() / math.sqrt(w.shape[-2])


def trigonometric_features(x: Points, w: Directions) -> Float[Tensor, "*points two_features"]:
    """e^{‖x‖²/2}/√m · (sin w_r·x, cos w_r·x), 2m numbers of both signs; `w` as for `positive_features`."""
    angles = x @ w.mT
    length = (x.square().sum(-1, keepdim=True) / 2).exp() / math.sqrt(w.shape[-2])
    return torch.cat([angles.sin(), angles.cos()], dim=-1) * length


def relu_features(x: Points, w: Directions, epsilon: float = 1e-3) -> Float[Tensor, "*points feature"]:
    """ReLU(w_r·x)/√m + ε: generalised attention, an estimate of another kernel than the exponential one."""
    return (x @ w.mT).relu() / math.sqrt(w.shape[-2]) + epsilon


def relative_variance(x: Points, y: Points, features: int) -> Float[Tensor, "*points"]:
    """Var[φ(x)·φ(y)] / e^{2x·y} = (e^{‖x+y‖²} − 1)/m of positive features with independent rows.

    One feature gives e^{w·(x+y) − (‖x‖²+‖y‖²)/2}, a log-normal number.
    """
    return torch.expm1((x + y).square().sum(-1)) / features
