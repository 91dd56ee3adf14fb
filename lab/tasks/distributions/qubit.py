"""A qubit whose Hamiltonian has one unknown parameter, seen through ten measurements.

    H = δσ_x + (1 − δ)σ_z,   |ψ(t)⟩ = exp(−itH)|ψ(0)⟩,   z ~ Bernoulli(|⟨0|ψ(t)⟩|²),   δ ~ Beta(a, b)

a and b are Gamma(4, rate 6). Each measurement starts from its own real state, blurred by N(0, 0.1²) a coordinate and
normalised, and is made at its own time, blurred by N(0, 0.05²). The paper (Whittle et al. 2025,
distribution_transformers) gives the family; states and times are those of its authors' published configuration, and
the prior's numbers are log a and log b. x is logit δ.

The blur of one measurement is its own, so that given δ the outcomes are independent with P(z = 1) = p̄(δ). With
ω² = δ² + (1 − δ)² one has exp(−itH) = cos ωt − i sin ωt H/ω, and the blur integrates to

    p̄(δ) = ½(1 + κ)M_00 + ½(1 − κ)(δ²M_11 + 2δ(1 − δ)M_01 + (1 − δ)²M_00)/ω²,   κ = e^{−2ω²s²} cos 2ωt

where M = E[ψψᵀ] of the blurred state, a two-dimensional Gauss–Hermite sum.
"""

from dataclasses import dataclass
from math import log

import numpy
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from microtome.lab.bayes.gamma_draws import log_gamma
from microtome.lab.bayes.references import Normalised, by_quadrature
from microtome.lab.tasks.distributions.protocol import InferenceTask, Problem, check_positive
from microtome.lab.tasks.draw import Draw

ZERO, ONE, PLUS = (1.0, 0.0), (0.0, 1.0), (1.0, 1.0)
MEASUREMENTS = (
    *((ZERO, t) for t in (1.0, 2.0, 3.0, 4.0, 5.0)),
    *((ONE, t) for t in (1.0, 2.0)),
    *((PLUS, t) for t in (1.0, 2.0, 3.0)),
)
"""The state that each measurement starts from, before blur and normalisation, and its time."""

NODES = 48  # of Gauss–Hermite in each direction: 1e-12 for a blur of a tenth of the state
GRID = 101  # nodes of the quadrature over logit δ
NEAR = 10.0  # up to where the law of logit δ has not reached its tails
TAIL = 40.0  # the prior's mass beyond its quadrature's ends, in nats


@dataclass(frozen=True)
class LogitBeta:
    """The law of logit δ, δ ~ Beta(a, b).

    Attributes:
        log_parameters: log a and log b, [batch 2].
    """

    log_parameters: Float[Tensor, "batch 2"]

    def log_prob(self, x: Float[Tensor, "... 1"]) -> Float[Tensor, "..."]:
        """See `Density.log_prob`."""
        a, b = self.log_parameters.exp().unbind(-1)
        normaliser = torch.lgamma(a) + torch.lgamma(b) - torch.lgamma(a + b)
        return a * F.logsigmoid(x[..., 0]) + b * F.logsigmoid(-x[..., 0]) - normaliser


@dataclass(frozen=True)
class Qubit(InferenceTask):
    """Problems of the law above, with ten kinds of observation, one measurement each, 0 or 1.

    Attributes:
        concentration: shape of the gamma law of a and b.
        rate: of the same.
        state_std: blur of a state's coordinates.
        time_std: s, blur of a time.

    Raises:
        ValueError: if an attribute is not positive and finite.
    """

    concentration: float = 4.0
    rate: float = 6.0
    state_std: float = 0.1
    time_std: float = 0.05

    dim = 1
    observation_sizes = (1,) * len(MEASUREMENTS)
    parameters = (2,)

    def __post_init__(self):
        check_positive(
            concentration=self.concentration, rate=self.rate, state_std=self.state_std, time_std=self.time_std
        )

    def _problem(self, batch: int, draw: Draw) -> Problem:
        shape = torch.full((batch, 2), self.concentration, dtype=draw.dtype, device=draw.generator.device)
        parameters = log_gamma(shape, draw.generator) - log(self.rate)
        gammas = log_gamma(parameters.exp(), draw.generator)
        logit = gammas[:, :1] - gammas[:, 1:]
        outcomes = (draw.uniform(batch, len(MEASUREMENTS)) < self._chances(logit, draw)).to(draw.dtype)
        return Problem(parameters, tuple(outcomes[:, :, None, None].unbind(1)), logit)

    def _chances(self, logit: Float[Tensor, "batch 1"], draw: Draw) -> Float[Tensor, "batch measurement"]:
        """|⟨0|ψ(t)⟩|² of states and times with their blur."""
        states, times = (part.to(logit) for part in _settings())
        count = len(logit), len(MEASUREMENTS)
        states = F.normalize(states + self.state_std * draw.normal(*count, 2), dim=-1)
        times = times + self.time_std * draw.normal(*count)
        x, z = logit.sigmoid(), (-logit).sigmoid()
        frequency = (x.square() + z.square()).sqrt()
        turned = (z * states[..., 0] + x * states[..., 1]) * (frequency * times).sin() / frequency
        return (states[..., 0] * (frequency * times).cos()).square() + turned.square()

    def chances(self, logit: Float[Tensor, "... 1"]) -> Float[Tensor, "... measurement"]:
        """p̄(δ) of every measurement, its blur integrated out."""
        logit = logit.double()
        moments, times = self._moments().to(logit), _settings()[1].to(logit)
        x, z = logit.sigmoid(), (-logit).sigmoid()
        square = x.square() + z.square()
        kappa = (-2 * square * self.time_std**2).exp() * (2 * square.sqrt() * times).cos()
        turned = x.square() * moments[:, 1, 1] + 2 * x * z * moments[:, 0, 1] + z.square() * moments[:, 0, 0]
        return ((1 + kappa) * moments[:, 0, 0] + (1 - kappa) * turned / square) / 2

    def prior(self, problem: Problem) -> LogitBeta:
        """The law of logit δ."""
        return LogitBeta(problem.prior.double())

    def posterior(self, problem: Problem) -> Normalised:
        """By quadrature over logit δ, without Monte-Carlo error."""
        prior = self.prior(problem)
        outcomes = torch.cat(problem.observations, dim=1)[..., 0].double()  # [batch measurement]

        def log_likelihood(logit: Tensor) -> Tensor:
            chances = self.chances(logit)
            return torch.where(outcomes > 0.5, chances, 1 - chances).log().sum(-1)

        a, b = prior.log_parameters.exp().unbind(-1)
        # The density falls as exp(ax) to the left and as exp(−bx) to the right: x = sinh s reaches far in few steps.
        low, high = -torch.asinh(TAIL / a + NEAR), torch.asinh(TAIL / b + NEAR)
        s = low + (high - low) * torch.linspace(0, 1, GRID, dtype=low.dtype, device=low.device)[:, None]
        log_weights = s.cosh().log() + ((high - low) / (GRID - 1)).log()
        return by_quadrature(prior, log_likelihood, s.sinh(), log_weights)

    def _moments(self) -> Float[Tensor, "measurement 2 2"]:
        """E[ψψᵀ] of the blurred and normalised state of each measurement."""
        nodes, weights = (torch.from_numpy(part) for part in numpy.polynomial.hermite_e.hermegauss(NODES))
        blur = self.state_std * torch.cartesian_prod(nodes, nodes)
        weight = torch.outer(weights, weights).flatten() / weights.sum().square()
        states = F.normalize(_settings()[0][:, None] + blur, dim=-1)
        return torch.einsum("n,mni,mnj->mij", weight, states, states)


def _settings() -> tuple[Float[Tensor, "measurement 2"], Float[Tensor, " measurement"]]:
    """States before blur and normalisation, and times, in float64."""
    states, times = zip(*MEASUREMENTS, strict=True)
    return torch.tensor(states, dtype=torch.float64), torch.tensor(times, dtype=torch.float64)
