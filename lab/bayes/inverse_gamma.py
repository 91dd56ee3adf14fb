"""The inverse-gamma law of a variance, seen on the logarithmic axis, and its conjugate posterior.

    σ² ~ InverseGamma(a, b),   z ~ N(m, σ²)   ⇒   σ² | z_1…z_n ~ InverseGamma(a + n/2, b + ½Σ(z_i − m)²)

On u = log σ² the density is b^a/Γ(a) · exp(−au − b e^{−u}).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from microtome.lab.bayes.gamma_draws import log_gamma


@dataclass(frozen=True)
class LogInverseGamma:
    """The law of u = log σ², one for each element of the batch. `LogInverseGamma.of` judges what it is given.

    Attributes:
        log_concentration: log a.
        log_rate: log b.
    """

    log_concentration: Float[Tensor, "*batch"]
    log_rate: Float[Tensor, "*batch"]

    @classmethod
    def of(cls, concentration: Tensor, rate: Tensor) -> "LogInverseGamma":
        """The law with concentration a and rate b, tensors of one shape.

        Raises:
            ValueError: if the shapes differ, or a number is not positive and finite.
        """
        if concentration.shape != rate.shape:
            raise ValueError(
                f"concentration and rate must have one shape, not {list(concentration.shape)} and {list(rate.shape)}."
            )
        for name, tensor in (("concentration", concentration), ("rate", rate)):
            if not ((tensor > 0) & torch.isfinite(tensor)).all():
                raise ValueError(f"{name} must be positive and finite, but one is {tensor.min():.4g} or not a number.")
        return cls(concentration.log(), rate.log())

    def log_prob(self, x: Float[Tensor, "... 1"]) -> Float[Tensor, "..."]:
        """Of u = x[..., 0]; see `Density.log_prob`."""
        u, a = x[..., 0], self.log_concentration.exp()
        return a * (self.log_rate - u) - torch.lgamma(a) - (self.log_rate - u).exp()

    def sample(self, generator: torch.Generator) -> Float[Tensor, "*batch 1"]:
        """One u of each law."""
        return (self.log_rate - log_gamma(self.log_concentration.exp(), generator))[..., None]

    def posterior(self, residuals: Float[Tensor, "*batch points 1"]) -> "LogInverseGamma":
        """The exact posterior given z − m of every observation.

        Raises:
            ValueError: if an observation has more than one number, or is not finite.
        """
        if residuals.ndim != self.log_rate.ndim + 2 or residuals.shape[-1] != 1:
            raise ValueError(f"observations must be [*batch points 1], not {list(residuals.shape)}.")
        if not torch.isfinite(residuals).all():
            raise ValueError("observations must be finite, but hold an infinity or a NaN.")
        points = residuals.shape[-2]
        rate = self.log_rate.exp() + residuals.square().sum((-1, -2)) / 2
        return LogInverseGamma((self.log_concentration.exp() + points / 2).log(), rate.log())
