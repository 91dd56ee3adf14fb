"""Where a thing is that moves in the plane, from a rangefinder and a bearing.

    state (p_1, v_1, p_2, v_2);   r = |p|
    range ~ 0.7 N(r, (0.1(r + 1))²) + 0.2 Exp(1) + 0.1 U(0, 20),   bearing = atan2(p_1, p_2) + N(0, 0.1²), wrapped

(Whittle et al. 2025, distribution_transformers.) Between readings each coordinate moves by p' = p + 0.6321v + 0.1n,
v' = 0.3679v + 0.2n, the matrices of its authors' published configuration. Readings of the range are not cut off at the
sensor's ends, so that the law has a density; the bearing is taken into [−π, π).

There is no closed form: the update is referred to importance sampling from the prior, which says its own error.
"""

from dataclasses import dataclass
from math import log, pi

import torch
from jaxtyping import Float
from torch import Tensor

from microtome.lab.bayes.gaussian_mixture import GaussianMixture
from microtome.lab.bayes.linear_gaussian import LinearMotion
from microtome.lab.bayes.references import Normalised, by_importance
from microtome.lab.tasks.distributions.meta_priors import ConjugateMixtures, MetaPrior
from microtome.lab.tasks.distributions.protocol import InferenceTask, Problem
from microtome.lab.tasks.draw import Draw
from microtome.lab.tasks.protocol import check_sizes

HIT, SHORT, MISS = 0.7, 0.2, 0.1
SPREAD, DECAY, REACH, BEARING_STD = 0.1, 1.0, 20.0, 0.1
MOTION = LinearMotion(
    matrix=((1.0, 0.6321, 0.0, 0.0), (0.0, 0.3679, 0.0, 0.0), (0.0, 0.0, 1.0, 0.6321), (0.0, 0.0, 0.0, 0.3679)),
    noise_factor=((0.1, 0.0), (0.2, 0.0), (0.0, 0.1), (0.0, 0.2)),
)
PUBLISHED = ConjugateMixtures(n_components=4, dim=4, scale=16.0, floor=1e-4)


@dataclass(frozen=True)
class SensorFusion(InferenceTask):
    """Problems of the law above: one update of the filter.

    Attributes:
        meta_prior: the law of the priors, in four dimensions.
        draws: of each prior, from which the reference is made, at least 2.

    Raises:
        ValueError: if the priors are not four-dimensional, or there are too few draws.
    """

    meta_prior: MetaPrior = PUBLISHED
    draws: int = 20_000

    dim = 4
    observation_sizes = (1, 1)

    def __post_init__(self):
        check_sizes(draws=self.draws - 1)
        if self.meta_prior.dim != self.dim:
            raise ValueError(f"the state has 4 dimensions, and these priors have {self.meta_prior.dim}.")

    def _problem(self, batch: int, draw: Draw) -> Problem:
        prior = self.meta_prior.sample(batch, draw)
        x = prior.sample(draw.generator)
        return Problem(prior, self.read(x, draw), x)

    def read(self, x: Float[Tensor, "batch 4"], draw: Draw) -> tuple[Tensor, Tensor]:
        """One range and one bearing of every state, [batch 1 1] each."""
        batch = len(x)
        distance, angle = _polar(x)
        hit = distance + SPREAD * (distance + 1) * draw.normal(batch)
        short = -torch.log1p(-draw.uniform(batch)) / DECAY
        miss = REACH * draw.uniform(batch)
        which = draw.uniform(batch)
        reading = torch.where(which < HIT, hit, torch.where(which < HIT + SHORT, short, miss))
        bearing = _wrapped(angle + BEARING_STD * draw.normal(batch))
        return reading[:, None, None], bearing[:, None, None]

    def log_likelihood(self, observations: tuple[Tensor, ...], x: Float[Tensor, "... 4"]) -> Float[Tensor, "..."]:
        """log p(range, bearing | x)."""
        reading, bearing = (z[:, 0, 0].double() for z in observations)
        distance, angle = _polar(x)
        inside = (reading >= 0) & (reading <= REACH)
        terms = (
            _log_normal(reading - distance, SPREAD * (distance + 1)) + log(HIT),
            torch.where(reading >= 0, log(SHORT * DECAY) - DECAY * reading, -torch.inf).expand_as(distance),
            torch.where(inside, log(MISS / REACH), -torch.inf).expand_as(distance),
        )
        # Copies further than one turn away are below e⁻⁴⁰⁰ of the nearest.
        off = torch.stack([bearing - angle + turn for turn in (-2 * pi, 0.0, 2 * pi)])
        return torch.stack(terms).logsumexp(0) + _log_normal(off, torch.full_like(off, BEARING_STD)).logsumexp(0)

    def prior(self, problem: Problem) -> GaussianMixture:
        """The prior itself."""
        return problem.prior.to(torch.float64)

    def posterior(self, problem: Problem, seed: int = 0) -> Normalised:
        """By importance sampling from the prior with `draws` draws; its `standard_error` is that of the log evidence.

        The seed is of those draws.
        """
        prior = self.prior(problem)
        generator = torch.Generator(prior.means.device).manual_seed(seed)
        return by_importance(prior, lambda x: self.log_likelihood(problem.observations, x), self.draws, generator)


def _polar(x: Float[Tensor, "*batch 4"]) -> tuple[Tensor, Tensor]:
    """Distance and bearing."""
    return torch.hypot(x[..., 0], x[..., 2]), torch.atan2(x[..., 0], x[..., 2])


def _wrapped(angle: Tensor) -> Tensor:
    return (angle + pi).remainder(2 * pi) - pi


def _log_normal(away: Tensor, std: Tensor) -> Tensor:
    return -(away / std).square() / 2 - std.log() - log(2 * pi) / 2
