"""Posteriors without a closed form, to hold a network against: quadrature in one dimension,
importance sampling in more.

Both need log p(x) and log p(data | x) and nothing else. Quadrature has no Monte-Carlo error; importance sampling says
its own, the standard error of the log evidence, which is common to all x of one problem.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf, log

import torch
from jaxtyping import Float
from torch import Tensor

from microtome.lab.bayes.densities import Density
from microtome.lab.bayes.gaussian_mixture import GaussianMixture

EVALUATIONS = 2**16  # densities at once: a likelihood that needs a kilobyte for each then needs 64 MB
LogLikelihood = Callable[[Tensor], Tensor]
"""Maps x [... batch dim] to log p(data | x) [... batch]."""


@dataclass(frozen=True)
class Normalised:
    """p(x) p(data | x) / Z.

    Attributes:
        prior: of x.
        log_likelihood: of the data given x.
        log_evidence: log Z, [batch].
        standard_error: of log Z; zero where it is not a Monte-Carlo estimate.
    """

    prior: Density
    log_likelihood: LogLikelihood
    log_evidence: Float[Tensor, " batch"]
    standard_error: Float[Tensor, " batch"]

    def log_prob(self, x: Float[Tensor, "... dim"]) -> Float[Tensor, "..."]:
        """See `Density.log_prob`."""
        return self.prior.log_prob(x) + self.log_likelihood(x) - self.log_evidence


def by_quadrature(
    prior: Density,
    log_likelihood: LogLikelihood,
    nodes: Float[Tensor, "point batch"],
    log_weights: Float[Tensor, "point batch"],
) -> Normalised:
    """The posterior of a one-dimensional x, with Z = Σ weight · p(node) p(data | node).

    Args:
        prior: of x.
        log_likelihood: of the data given x.
        nodes: values of x for each problem, which must reach beyond the prior's mass and be finer than the posterior.
        log_weights: logarithms of the quadrature's weights. Equal steps h of a smooth x(s) have the weight |x'(s)|·h;
            for a smooth integrand that dies out at both ends the error falls faster than any power of h.
    """
    evidence = torch.full_like(nodes[0], -inf)
    for x, weights in zip(_blocks(nodes[..., None]), _blocks(log_weights), strict=True):
        joint = prior.log_prob(x) + log_likelihood(x) + weights
        evidence = torch.logaddexp(evidence, joint.logsumexp(0))
    return Normalised(prior, log_likelihood, evidence, torch.zeros_like(evidence))


def by_importance(
    prior: GaussianMixture, log_likelihood: LogLikelihood, count: int, generator: torch.Generator
) -> Normalised:
    """The posterior with Z = mean of p(data | x) over draws from the prior, of batch shape [batch].

    The standard error of log Z is that of Z over Z, right where it is small; it comes with the result.

    Args:
        prior: of x.
        log_likelihood: of the data given x.
        count: draws for each problem.
        generator: of the draws.

    Raises:
        ValueError: with fewer than two draws, from which no error can be told.
    """
    if count < 2:
        raise ValueError(f"an estimate of the evidence and its error needs at least 2 draws, not {count}.")
    first = torch.full_like(prior.means[:, 0, 0], -inf)
    second = first.clone()
    block = max(1, EVALUATIONS // len(first))
    for start in range(0, count, block):
        values = log_likelihood(prior.sample(generator, min(block, count - start)))
        first = torch.logaddexp(first, values.logsumexp(0))
        second = torch.logaddexp(second, (2 * values).logsumexp(0))
    evidence = first - log(count)
    # Mean of squared likelihoods over the squared mean, less one: the variance of p(data | x)/Z.
    variance = (second - log(count) - 2 * evidence).exp() - 1
    return Normalised(prior, log_likelihood, evidence, (variance.clamp(min=0) / (count - 1)).sqrt())


def _blocks(nodes: Tensor) -> tuple[Tensor, ...]:
    return nodes.split(max(1, EVALUATIONS // nodes.shape[1]))
