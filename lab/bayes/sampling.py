"""Posteriors by Gibbs sampling where there are too many supports or sign vectors to try, with the error they carry.

Every prefix of every prompt has chains of its own, all moved together; the temperature falls to 1 while they burn in.
The means of the chains are independent, so that their spread tells the error of what they say together; where chains
are stuck in different modes, as they are with little noise, the error is large and says so; only a mode that no chain
visits is missing from the error. (Panwar, Ahuja & Goyal
2024, "In-context learning through the Bayesian prism", slug `icl_bayesian_prism`, use Markov chains for the posteriors
of sparse and sign-vector regression.)

All prefixes and prompts share the random numbers of a chain, which come from the seed alone: an answer does not depend
on what other prompts or points it is asked with.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from microtome.lab.bayes.blocks import over_prompts
from microtome.lab.bayes.linear import check_law
from microtome.lab.bayes.prefixes import before
from microtome.lab.bayes.protocol import Prediction, checked, in_dtype

Vectors = Float[Tensor, "batch points dim"]
Scalars = Float[Tensor, "batch points"]
HOTTEST = 16.0  # temperature that burn-in begins at: energies a sixteenth


@dataclass(frozen=True)
class SampledPrediction(Prediction):
    """A prediction by Monte Carlo.

    Attributes:
        standard_error: of the mean, from the spread between independent chains, [batch points].
    """

    standard_error: Float[Tensor, "batch points"] | None = None


@dataclass(frozen=True)
class Chains:
    """How long and how many.

    Attributes:
        count: independent chains, at least 2.
        sweeps: kept ones of each chain, at least 1.
        burn_in: sweeps before those, at least 0.
        seed: of all random numbers.

    Raises:
        ValueError: if a number is out of range.
    """

    count: int = 16
    sweeps: int = 200
    burn_in: int = 100
    seed: int = 0

    def __post_init__(self):
        if self.count < 2 or self.sweeps < 1 or self.burn_in < 0:
            raise ValueError(
                f"chains need count ≥ 2, sweeps ≥ 1 and burn_in ≥ 0, not count={self.count}, sweeps={self.sweeps}, "
                f"burn_in={self.burn_in}."
            )

    def temperatures(self) -> Iterator[tuple[float, bool]]:
        """The temperature of every sweep and whether it is kept."""
        for step in range(self.burn_in):
            yield HOTTEST ** (1 - (step + 1) / self.burn_in), False
        for _ in range(self.sweeps):
            yield 1.0, True


@dataclass(frozen=True)
class _Moments:
    """What the pairs before each point say: Gram matrix and moment, with an axis for the chains."""

    xs: Float[Tensor, "batch points 1 dim"]
    gram: Float[Tensor, "batch points 1 dim dim"]
    moment: Float[Tensor, "batch points 1 dim"]

    @classmethod
    def of(cls, xs: Tensor, ys: Tensor) -> "_Moments":
        gram, moment = (xs[..., None] * xs[:, :, None]).cumsum(1), (xs * ys[..., None]).cumsum(1)
        return cls(xs[:, :, None], before(gram)[:, :, None], before(moment)[:, :, None])


class _Gibbs(ABC):
    """What the samplers share: the average over sweeps and chains."""

    dim: int
    noise_std: float
    chains: Chains

    def predict(self, xs: Vectors, ys: Scalars) -> SampledPrediction:
        """See `Predictor.predict`; with the Monte-Carlo standard error of the mean.

        Raises:
            ValueError: also if the prompts have another dimension than the predictor.
        """
        inputs, labels = checked(xs, ys)
        points, dim = inputs.shape[1:]
        if dim != self.dim:
            raise ValueError(f"this predictor knows weights in {self.dim} dimensions, but xs has {dim}.")
        entries = points * self.chains.count * dim * max(dim, self._width)
        mean, spread, error = over_prompts(self._average, inputs, labels, entries, limit=2**23)
        said = in_dtype(xs.dtype, mean, spread + self.noise_std**2)
        return SampledPrediction(said.mean, said.variance, error.to(xs.dtype))

    def _average(self, xs: Tensor, ys: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean, variance of wᵀx and standard error, [batch points]."""
        generator = torch.Generator().manual_seed(self.chains.seed)
        pairs = _Moments.of(xs, ys)
        state = self._start(pairs, generator)
        first = second = torch.zeros(*ys.shape, self.chains.count, dtype=xs.dtype)
        for temperature, kept in self.chains.temperatures():
            state = self._sweep(state, pairs, temperature, generator)
            if kept:
                mean, spread = self._answer(state, pairs)
                first, second = first + mean, second + spread + mean.square()
        first, second = first / self.chains.sweeps, second / self.chains.sweeps
        mean = first.mean(-1)
        error = first.std(-1) / math.sqrt(self.chains.count)
        return mean, (second.mean(-1) - mean.square()).clamp(min=0), error

    @property
    @abstractmethod
    def _width(self) -> int:
        """Numbers of the state of a chain."""

    @abstractmethod
    def _start(self, pairs: _Moments, generator: torch.Generator) -> Tensor:
        """The state that every chain begins in, [batch points chain …]."""

    @abstractmethod
    def _sweep(self, state: Tensor, pairs: _Moments, temperature: float, generator: torch.Generator) -> Tensor:
        """One draw of every coordinate given the others."""

    @abstractmethod
    def _answer(self, state: Tensor, pairs: _Moments) -> tuple[Tensor, Tensor]:
        """Mean and variance of wᵀx given the state, [batch points chain]."""


@dataclass(frozen=True)
class SignVectorGibbs(_Gibbs):
    """Sign-vector regression, w = scale · s with s uniform in {−1, +1}^dim, by Gibbs sampling of the signs.

    Attributes:
        dim: dimensions of x.
        noise_std: σ > 0.
        scale: size of every weight, above 0.
        chains: how many and how long.

    Raises:
        ValueError: if an attribute is out of range.
    """

    dim: int
    noise_std: float
    scale: float = 1.0
    chains: Chains = Chains()

    def __post_init__(self):
        _check_noise(self.noise_std, self.scale)

    @property
    def name(self) -> str:
        return "gibbs over signs"

    @property
    def _width(self) -> int:
        return self.dim

    def _start(self, pairs: _Moments, generator: torch.Generator) -> Tensor:
        signs = torch.randint(2, (self.chains.count, self.dim), generator=generator) * 2 - 1
        return (self.scale * signs.double()).expand(*pairs.xs.shape[:2], -1, -1).clone()

    def _sweep(self, state: Tensor, pairs: _Moments, temperature: float, generator: torch.Generator) -> Tensor:
        w = state.clone()
        residual = pairs.moment - (pairs.gram @ w[..., None]).squeeze(-1)  # Xᵀ(y − Xw)
        uniform = torch.rand(self.dim, self.chains.count, generator=generator, dtype=w.dtype)
        for j in range(self.dim):
            old = w[..., j].clone()
            field = residual[..., j] + pairs.gram[..., j, j] * old
            plus = torch.sigmoid(2 * self.scale * field / (self.noise_std**2 * temperature))
            w[..., j] = torch.where(uniform[j] < plus, self.scale, -self.scale)
            residual -= pairs.gram[..., j] * (w[..., j] - old)[..., None]
        return w

    def _answer(self, state: Tensor, pairs: _Moments) -> tuple[Tensor, Tensor]:
        mean = (state * pairs.xs).sum(-1)
        return mean, torch.zeros_like(mean)


@dataclass(frozen=True)
class SparseGibbs(_Gibbs):
    """Sparse regression, `sparsity` weights N(0, τ²) on a uniform support, by Gibbs sampling of the support.

    The weights are integrated out: each member of the support in turn is drawn from all coordinates outside the rest R
    of it, j with probability ∝ exp(r_j²/(2σ²c_j))/√c_j, where c_j = G_jj + λ − G_jR(G_RR + λI)⁻¹G_Rj and
    r_j = m_j − G_jR(G_RR + λI)⁻¹m_R, with G = XᵀX, m = Xᵀy and λ = σ²/τ².

    Attributes:
        dim: dimensions of x.
        sparsity: s, how many weights are not zero.
        noise_std: σ > 0.
        prior_std: τ > 0.
        chains: how many and how long.

    Raises:
        ValueError: if an attribute is out of range.
    """

    dim: int
    sparsity: int
    noise_std: float
    prior_std: float = 1.0
    chains: Chains = Chains()

    def __post_init__(self):
        _check_noise(self.noise_std, self.prior_std)
        if not 1 <= self.sparsity <= self.dim:
            raise ValueError(f"sparsity must be between 1 and dim = {self.dim}, not {self.sparsity}.")

    @property
    def name(self) -> str:
        return "gibbs over supports"

    @property
    def _width(self) -> int:
        return self.dim + self.sparsity

    def _start(self, pairs: _Moments, generator: torch.Generator) -> Tensor:
        order = torch.rand(self.chains.count, self.dim, generator=generator).argsort(-1)
        return order[:, : self.sparsity].expand(*pairs.xs.shape[:2], -1, -1).clone()

    def _sweep(self, state: Tensor, pairs: _Moments, temperature: float, generator: torch.Generator) -> Tensor:
        support = state.clone()
        noise = torch.rand(self.sparsity, self.chains.count, self.dim, generator=generator, dtype=torch.float64)
        gumbel = -(-noise.clamp(min=torch.finfo(noise.dtype).tiny).log()).log()
        for slot in range(self.sparsity):
            rest = torch.cat([support[..., :slot], support[..., slot + 1 :]], dim=-1)
            scores = self._scores(rest, pairs) / temperature
            scores = scores.scatter(-1, rest, -torch.inf)
            support[..., slot] = (scores + gumbel[slot]).argmax(-1)
        return support

    def _scores(self, rest: Tensor, pairs: _Moments) -> Tensor:
        """log p of every coordinate as the missing member of the support, [batch points chain dim]."""
        rows, moment, inverse = self._posterior(rest, pairs)
        gain = inverse @ rows  # A⁻¹G_Rj, member by dim
        left = pairs.gram.diagonal(dim1=-2, dim2=-1) + self._ridge - (rows * gain).sum(-2)
        residual = pairs.moment - (moment[..., None] * gain).sum(-2)
        # Members of R themselves leave nothing or a rounding error; they are struck out afterwards.
        left = left.clamp(min=self._ridge * 1e-3)
        return residual.square() / (2 * self.noise_std**2 * left) - 0.5 * left.log()

    def _answer(self, state: Tensor, pairs: _Moments) -> tuple[Tensor, Tensor]:
        _, moment, inverse = self._posterior(state, pairs)
        seen = pairs.xs.expand(*state.shape[:3], -1).gather(-1, state)
        gain = (inverse @ seen[..., None]).squeeze(-1)
        return (gain * moment).sum(-1), self.noise_std**2 * (gain * seen).sum(-1)

    def _posterior(self, support: Tensor, pairs: _Moments) -> tuple[Tensor, Tensor, Tensor]:
        """G_S [… member dim], m_S [… member] and (G_SS + λI)⁻¹ of each chain's support."""
        full = pairs.gram.expand(*support.shape[:3], -1, -1)
        index = support[..., None].expand(*support.shape, self.dim)
        rows = full.gather(-2, index)
        block = rows.gather(-1, support[..., None, :].expand(*support.shape, support.shape[-1]))
        ridge = self._ridge * torch.eye(support.shape[-1], dtype=rows.dtype)
        moment = pairs.moment.expand(*support.shape[:3], -1).gather(-1, support)
        return rows, moment, torch.linalg.inv(block + ridge)

    @property
    def _ridge(self) -> float:
        return (self.noise_std / self.prior_std) ** 2


def _check_noise(noise_std: float, scale: float) -> None:
    check_law(noise_std, scale)
    if noise_std == 0:
        raise ValueError(
            "noise_std must be above 0 here: without noise chains cannot move between weights that fit; enumerate with "
            "SignVectorPosterior or SpikeAndSlab, or give a small noise and read the standard error."
        )
