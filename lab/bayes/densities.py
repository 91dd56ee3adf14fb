"""Densities of a batch of problems, and how far one falls behind another in nats.

    gap(p, q) = E_x[log p(x) − log q(x)],   x ~ p

is KL(p ‖ q): never negative, and zero only where q = p. With the prior in the place of q it is the information that the
data give about x (Lindley 1956).
"""

from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor


@runtime_checkable
class Density(Protocol):
    """A law over x for each problem of a batch."""

    def log_prob(self, x: Float[Tensor, "... dim"]) -> Float[Tensor, "..."]:
        """log p(x) in nats for x [... dim], whose other axes broadcast against those of the batch from the right."""
        ...


def log_density_gap(better: Density, worse: Density, x: Float[Tensor, "... dim"]) -> Float[Tensor, "..."]:
    """log p(x) − log q(x) of each x; its mean over x ~ `better` is the gap in nats.

    Args:
        better: p, the law that x was drawn from.
        worse: q.
        x: draws, [... dim].
    """
    return better.log_prob(x) - worse.log_prob(x)


def information_gain(prior: Density, posterior: Density, x: Float[Tensor, "... dim"]) -> Float[Tensor, "..."]:
    """log posterior(x) − log prior(x); its mean over (x, data) of the joint law is their mutual information."""
    return log_density_gap(posterior, prior, x)
