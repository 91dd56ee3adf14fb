"""Mixtures of normal laws as plain numbers, so that they can be scaled, widened and mixed again."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Categorical, Distribution, MixtureSameFamily, Normal


@dataclass(frozen=True)
class Parts:
    """One mixture of normals for every point of every prompt.

    Attributes:
        log_weights: of the parts, [batch points part]; normalised.
        means: [batch points part].
        stds: [batch points part], above 0.
    """

    log_weights: Float[Tensor, "batch points part"]
    means: Float[Tensor, "batch points part"]
    stds: Float[Tensor, "batch points part"]

    @classmethod
    def of(cls, law: Distribution) -> "Parts":
        """The parts of a normal law, or of a mixture of normals.

        Raises:
            TypeError: for another law.
        """
        if isinstance(law, Normal):
            return cls(torch.zeros_like(law.loc)[..., None], law.loc[..., None], law.scale[..., None])
        if isinstance(law, MixtureSameFamily) and isinstance(law.component_distribution, Normal):
            normal = law.component_distribution
            return cls(law.mixture_distribution.logits, normal.loc, normal.scale)
        raise TypeError(f"a law made of normals is wanted here: Normal or a mixture of them, not {type(law).__name__}.")

    @classmethod
    def mixed(cls, weights: Float[Tensor, "batch points component"], components: tuple["Parts", ...]) -> "Parts":
        """The mixture of mixtures: all parts side by side, each component's multiplied by its weight."""
        shares = weights.log().unbind(-1)
        log_weights = [share[..., None] + c.log_weights for share, c in zip(shares, components, strict=True)]
        return cls(
            torch.cat(log_weights, -1),
            torch.cat([c.means for c in components], -1),
            torch.cat([c.stds for c in components], -1),
        )

    def widened(self, std: float) -> "Parts":
        """Of y + N(0, std²)."""
        return Parts(self.log_weights, self.means, (self.stds.square() + std**2).sqrt())

    def scaled(self, factor: float) -> "Parts":
        """Of factor · y, factor > 0."""
        return Parts(self.log_weights, self.means * factor, self.stds * factor)

    def log_density(self, ys: Float[Tensor, "batch points"]) -> Float[Tensor, "batch points"]:
        """log p(y)."""
        standard = (ys.double()[..., None] - self.means) / self.stds
        each = self.log_weights - 0.5 * (standard.square() + math.log(2 * math.pi)) - self.stds.log()
        return each.logsumexp(-1)

    def law(self) -> Normal | MixtureSameFamily:
        """As a distribution of batch shape [batch points]."""
        if self.means.shape[-1] == 1:
            return Normal(self.means[..., 0], self.stds[..., 0], validate_args=False)
        return MixtureSameFamily(
            Categorical(logits=self.log_weights, validate_args=False),
            Normal(self.means, self.stds, validate_args=False),
            validate_args=False,
        )
