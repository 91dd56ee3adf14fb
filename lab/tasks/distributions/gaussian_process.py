"""A Gaussian process with a hyperprior: the joint law of a new label and the lengthscale.

    m ~ U(−½, ½),  v ~ U(0.9, 1.1),  a ~ U(3, 3.01),  b ~ U(6, 6.01),   ℓ ~ InverseGamma(a, b)
    f ~ GP(m, v·exp(−(t − t')²/2ℓ²)),   y_i = f(t_i) + N(0, σ²),   t_i ~ U(0, 1)

Ten pairs (t_i, y_i) are seen and a new t; x = (y, log ℓ) of that t. (Whittle et al. 2025, distribution_transformers;
the ranges are those of its authors' published configuration.) The label noise σ² = 10⁻³, on the new label as well, is
this house's reading of what the paper leaves open. The prior's numbers are those of its two factors:
(m, log(v + σ²)) of y and (log a, log b) of ℓ.
"""

from dataclasses import dataclass
from math import log, pi

import torch
from jaxtyping import Float
from torch import Tensor

from microtome.lab.bayes.densities import Density
from microtome.lab.bayes.inverse_gamma import LogInverseGamma
from microtome.lab.bayes.references import Normalised, by_quadrature
from microtome.lab.tasks.distributions.protocol import InferenceTask, Problem, check_positive
from microtome.lab.tasks.draw import Draw
from microtome.lab.tasks.protocol import check_sizes

LOWS, HIGHS = (-0.5, 0.9, 3.0, 6.0), (0.5, 1.1, 3.01, 6.01)
"""Ranges of m, v, a and b."""
GRID = 301  # nodes of the quadrature over log ℓ
TAIL = 50.0  # what the hyperprior falls by at both ends of the grid, in nats


@dataclass(frozen=True)
class LabelAndLengthscale:
    """The joint law of (y, log ℓ), y ~ N(mean(ℓ), variance(ℓ)) given ℓ.

    Attributes:
        process: the problem's process.
        lengthscale: the law of log ℓ.
        conditioned: whether y is given the pairs, or as before them.
    """

    process: "_Process"
    lengthscale: Density
    conditioned: bool

    def log_prob(self, x: Float[Tensor, "... 2"]) -> Float[Tensor, "..."]:
        """See `Density.log_prob`."""
        mean, variance = self.process.label(x[..., 1]) if self.conditioned else self.process.label_before()
        label = -((x[..., 0] - mean).square() / variance + variance.log() + log(2 * pi)) / 2
        return label + self.lengthscale.log_prob(x[..., 1:])


@dataclass(frozen=True)
class GaussianProcess(InferenceTask):
    """Problems of the law above; two kinds of observation, the pairs (t_i, y_i) and the new t.

    Attributes:
        points: pairs of a problem, at least 1.
        noise_variance: σ² > 0.

    Raises:
        ValueError: if an attribute is out of range.
    """

    points: int = 10
    noise_variance: float = 1e-3

    dim = 2
    observation_sizes = (2, 1)
    parameters = (2, 2)

    def __post_init__(self):
        check_sizes(points=self.points)
        check_positive(noise_variance=self.noise_variance)

    def _problem(self, batch: int, draw: Draw) -> Problem:
        low, high = (torch.tensor(ends, dtype=draw.dtype, device=draw.generator.device) for ends in (LOWS, HIGHS))
        mean, scale, a, b = (low + (high - low) * draw.uniform(batch, 4)).unbind(-1)
        log_length = LogInverseGamma(a.log(), b.log()).sample(draw.generator)[:, 0]
        times = draw.uniform(batch, self.points + 1)
        root = torch.linalg.cholesky(_covariance(times, scale, log_length, self.noise_variance))
        labels = mean[:, None] + (root @ draw.normal(batch, self.points + 1, 1))[..., 0]
        parameters = torch.stack([mean, (scale + self.noise_variance).log(), a.log(), b.log()], dim=-1)
        pairs = torch.stack([times, labels], dim=-1)[:, :-1]
        return Problem(parameters, (pairs, times[:, None, -1:]), torch.stack([labels[:, -1], log_length], dim=-1))

    def prior(self, problem: Problem) -> LabelAndLengthscale:
        """y and ℓ independent: the process is stationary, so that y alone says nothing of ℓ."""
        process = _Process(problem, self.noise_variance)
        return LabelAndLengthscale(process, process.hyperprior, conditioned=False)

    def posterior(self, problem: Problem) -> LabelAndLengthscale:
        """Given ℓ in closed form; over log ℓ by quadrature, without Monte-Carlo error."""
        process = _Process(problem, self.noise_variance)
        return LabelAndLengthscale(process, self.lengthscale(problem), conditioned=True)

    def lengthscale(self, problem: Problem) -> Normalised:
        """The posterior of log ℓ alone."""
        process = _Process(problem, self.noise_variance)
        a, b = process.hyperprior.log_concentration.exp(), process.hyperprior.log_rate.exp()
        # exp(−au − be^{−u}) is largest at u = log b/a, falls as exp(−au) above and as exp(−e^{−u}) below.
        low, high = (b / a).log() - torch.log1p(TAIL / a), (b / a).log() + TAIL / a
        nodes = low + (high - low) * torch.linspace(0, 1, GRID, dtype=low.dtype, device=low.device)[:, None]
        log_weights = ((high - low) / (GRID - 1)).log().expand_as(nodes)
        return by_quadrature(process.hyperprior, lambda u: process.log_likelihood(u[..., 0]), nodes, log_weights)


class _Process:
    """The process of each problem, in float64."""

    def __init__(self, problem: Problem, noise: float):
        mean, log_variance, log_a, log_b = problem.prior.double().unbind(-1)
        self.mean, self.scale, self.noise = mean, log_variance.exp() - noise, noise
        self.hyperprior = LogInverseGamma(log_a, log_b)
        pairs, new = (z.double() for z in problem.observations)
        self.times = torch.cat([pairs[..., 0], new[:, 0]], dim=-1)
        self.labels = pairs[..., 1]

    def label_before(self) -> tuple[Tensor, Tensor]:
        return self.mean, self.scale + self.noise

    def label(self, log_length: Float[Tensor, "..."]) -> tuple[Tensor, Tensor]:
        """Mean and variance of the new label given the pairs and ℓ, [*sample batch] each."""
        root = torch.linalg.cholesky(_covariance(self.times, self.scale, log_length, self.noise))
        # The last row of the joint factor says how the new label follows from the whitened pairs.
        white = self._whitened(root[..., :-1, :-1])
        return self.mean + (root[..., -1, :-1] * white).sum(-1), root[..., -1, -1].square()

    def log_likelihood(self, log_length: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """log p(labels | ℓ)."""
        root = torch.linalg.cholesky(_covariance(self.times[:, :-1], self.scale, log_length, self.noise))
        log_determinant = root.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        constant = self.labels.shape[-1] / 2 * log(2 * pi)
        return -self._whitened(root).square().sum(-1) / 2 - log_determinant - constant

    def _whitened(self, root: Tensor) -> Float[Tensor, "... points"]:
        away = (self.labels - self.mean[:, None])[..., None]
        return torch.linalg.solve_triangular(root, away.expand(*root.shape[:-1], 1), upper=False)[..., 0]


def _covariance(
    times: Float[Tensor, "batch points"],
    scale: Float[Tensor, " batch"],
    log_length: Float[Tensor, "..."],
    noise: float,
) -> Float[Tensor, "... points points"]:
    """v·exp(−(t − t')²/2ℓ²) + σ²I."""
    square = (times[:, :, None] - times[:, None, :]).square()
    kernel = (-square * (-2 * log_length).exp()[..., None, None] / 2).exp()
    return scale[:, None, None] * kernel + noise * torch.eye(times.shape[-1]).to(times)
