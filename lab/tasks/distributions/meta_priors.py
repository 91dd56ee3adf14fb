"""Laws of priors: each draw is a Gaussian mixture.

    w ~ Dirichlet(c, …, c),   μ_k ~ N(0, s·I),   Λ_k ~ Wishart(D + 1, s·I) + floor·I,   Σ_k = Λ_k⁻¹

The conjugate law for each parameter of a mixture (Whittle et al. 2025, distribution_transformers). Many draws of the
Wishart law are nearly singular: in one dimension it is exponential, whose density is largest at zero precision.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch

from microtome.lab.bayes.gamma_draws import log_dirichlet, wishart
from microtome.lab.bayes.gaussian_mixture import GaussianMixture
from microtome.lab.tasks.distributions.protocol import check_positive
from microtome.lab.tasks.draw import Draw
from microtome.lab.tasks.protocol import check_sizes


class MetaPrior(ABC):
    """A law of mixtures.

    Attributes:
        dim: dimensions of x.
    """

    dim: int

    @abstractmethod
    def sample(self, batch: int, draw: Draw) -> GaussianMixture:
        """Mixtures of batch shape [batch]."""


@dataclass(frozen=True)
class ConjugateMixtures(MetaPrior):
    """The law above.

    Attributes:
        n_components: K, at least 1.
        dim: D, at least 1.
        scale: s > 0.
        concentration: c > 0; None gives 1/K, under which most weights are small.
        floor: added to the diagonal of Λ, positive.

    Raises:
        ValueError: if an attribute is out of range.
    """

    n_components: int
    dim: int = 1
    scale: float = 1.0
    concentration: float | None = None
    floor: float = 1e-6

    def __post_init__(self):
        check_sizes(n_components=self.n_components, dim=self.dim)
        check_positive(scale=self.scale, floor=self.floor)
        if self.concentration is not None:
            check_positive(concentration=self.concentration)

    def sample(self, batch: int, draw: Draw) -> GaussianMixture:
        lead = (batch, self.n_components)
        concentration = self.concentration or 1 / self.n_components
        means = self.scale**0.5 * draw.normal(*lead, self.dim)
        log_weights = log_dirichlet(torch.full_like(means[..., 0], concentration), draw.generator)
        precision = wishart(lead, self.dim, self.dim + 1, self.scale, draw.generator, draw.dtype)
        precision = precision + self.floor * torch.eye(self.dim).to(precision)
        covariances = torch.cholesky_inverse(torch.linalg.cholesky(precision))
        return GaussianMixture(log_weights, means, torch.linalg.cholesky(covariances))


@dataclass(frozen=True)
class FixedMixture(MetaPrior):
    """The same mixture always: what a network sees that is trained for one prior.

    Attributes:
        weights: w, [component].
        means: μ, [component dim].
        covariances: Σ, [component dim dim].

    Raises:
        ValueError: if they are not those of a mixture.
    """

    weights: tuple[float, ...]
    means: tuple[tuple[float, ...], ...]
    covariances: tuple[tuple[tuple[float, ...], ...], ...]

    def __post_init__(self):
        _ = self.mixture

    @property
    def mixture(self) -> GaussianMixture:
        """The mixture, in float64 and without batch."""
        parts = (torch.tensor(part, dtype=torch.float64) for part in (self.weights, self.means, self.covariances))
        return GaussianMixture.of(*parts)

    @property
    def dim(self) -> int:
        return len(self.means[0])

    def sample(self, batch: int, draw: Draw) -> GaussianMixture:
        one, like = self.mixture, {"dtype": draw.dtype, "device": draw.generator.device}
        parts = (one.log_weights, one.means, one.scale_trils)
        return GaussianMixture(*(part.to(**like).repeat(batch, *[1] * part.ndim) for part in parts))
