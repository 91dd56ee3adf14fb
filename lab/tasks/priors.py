"""Linear functions whose weights have another law: signs, low rank, a mixture of Gaussians, or a pool of few.

    y = wᵀx + N(0, σ²),   x ~ N(0, I) unless said

(Panwar, Ahuja & Goyal 2024, "In-context learning through the Bayesian prism", slug `icl_bayesian_prism`, sections 3
and 4; the pool is that of Raventós et al. 2023.) Their half-subspace inputs are no task of their own: they are
`Inputs(Spectrum((2.0,) * (d // 2) + (0.0,) * (d - d // 2)))` in any of these.
"""

import functools
import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from microtome.lab.bayes import Predictor
from microtome.lab.bayes.linear import check_law
from microtome.lab.tasks.draw import Draw
from microtome.lab.tasks.inputs import ALIKE, Inputs
from microtome.lab.tasks.protocol import Prompt, Task, check_sizes


@dataclass(frozen=True)
class SignVector(Task):
    """w uniform on {−1, +1}^d ("sign vector regression").

    Attributes:
        dim: d ≥ 1.
        noise_std: σ ≥ 0.
        inputs: the law of x.

    Raises:
        ValueError: if an attribute is out of range.
    """

    dim: int
    noise_std: float = 0.0
    inputs: Inputs = ALIKE

    def __post_init__(self):
        check_sizes(dim=self.dim)
        check_law(self.noise_std, 1.0)
        self.inputs.check(self.dim)

    @property
    def label_std(self) -> float:
        """Standard deviation of a label, noise included."""
        return math.hypot(math.sqrt(self.inputs.power(self.dim)), self.noise_std)

    def _prompt(self, batch: int, points: int, draw: Draw) -> Prompt:
        """Latents: "w" [batch dim] and those of the inputs."""
        return _linear(self, draw.signs(batch, self.dim), points, draw)

    def bayes(self) -> Predictor:
        """The exact posterior predictive.

        Raises:
            ValueError: if there are more sign vectors than it can hold, with what to use instead.
        """
        from microtome.lab.bayes.sign_vector import SignVectorPosterior

        return SignVectorPosterior(self.dim, self.noise_std)


@dataclass(frozen=True)
class LowRank(Task):
    """w = vec(BᵀB), the entries of B ∈ R^{r×m} N(0, 1): symmetric, positive semidefinite and of rank r.

    The paper speaks of low-rank matrices in general; its code draws these symmetric ones, as here.

    Attributes:
        side: m ≥ 1; x and w have m² coordinates.
        rank: r between 1 and m.
        noise_std: σ ≥ 0.
        inputs: the law of x.

    Raises:
        ValueError: if an attribute is out of range.
    """

    side: int = 10
    rank: int = 1
    noise_std: float = 0.0
    inputs: Inputs = ALIKE

    def __post_init__(self):
        check_sizes(side=self.side)
        check_law(self.noise_std, 1.0)
        if not 1 <= self.rank <= self.side:
            raise ValueError(f"rank must be between 1 and side = {self.side}, not {self.rank}.")
        self.inputs.check(self.dim)

    @property
    def dim(self) -> int:
        return self.side**2

    def narrowed(self, size: int) -> "LowRank":
        """The same matrices, with all but the first `size` coordinates of x at zero; see `Task.narrowed`."""
        return replace(self, inputs=self.inputs.confined(size, self.dim))

    @property
    def label_std(self) -> float:
        """Standard deviation of a label, noise included: E‖w‖² = E tr (BᵀB)² = r·m·(r + m + 1).

        Raises:
            ValueError: if x is not isotropic, as w is not either.
        """
        _check_isotropic(self.inputs)
        norm = self.rank * self.side * (self.rank + self.side + 1)
        return math.hypot(self.inputs.scale * math.sqrt(norm), self.noise_std)

    def _prompt(self, batch: int, points: int, draw: Draw) -> Prompt:
        """Latents: "w" [batch dim] and those of the inputs."""
        factor = draw.normal(batch, self.rank, self.side)
        return _linear(self, (factor.mT @ factor).flatten(1), points, draw)

    def bayes(self) -> Predictor:
        """
        Raises:
            ValueError: always: no closed form of this posterior is known.
        """
        raise ValueError(
            "the posterior of low-rank weights has no closed form; use the baselines NuclearNorm() of "
            "microtome.lab.bayes.optimised or OLS()."
        )


@dataclass(frozen=True)
class GaussianMixtureRegression(Task):
    """w ~ Σ_c π_c N(μ_c, diag v_c).

    Attributes:
        dim: d ≥ 1.
        means: μ, one tuple of d numbers a component.
        variances: v > 0, one tuple of d numbers a component.
        weights: π, positive and summing to 1.
        noise_std: σ ≥ 0.
        inputs: the law of x.

    Raises:
        ValueError: if an attribute is out of range, or the components are not of one number and dimension.
    """

    dim: int
    means: tuple[tuple[float, ...], ...]
    variances: tuple[tuple[float, ...], ...]
    weights: tuple[float, ...]
    noise_std: float = 0.0
    inputs: Inputs = ALIKE

    def __post_init__(self):
        check_sizes(dim=self.dim)
        check_law(self.noise_std, 1.0)
        self.inputs.check(self.dim)
        check_weights(self.weights, len(self.means), "means")
        if len(self.variances) != len(self.means):
            raise ValueError(f"there are {len(self.means)} means, but {len(self.variances)} tuples of variances.")
        for name, rows in (("means", self.means), ("variances", self.variances)):
            if any(len(row) != self.dim or not all(map(math.isfinite, row)) for row in rows):
                raise ValueError(f"{name} must be tuples of dim = {self.dim} finite numbers.")
        if min(value for row in self.variances for value in row) <= 0:
            raise ValueError("variances must be above 0; 1e-8 stands for a coordinate that is known.")

    @classmethod
    def two_sided(cls, dim: int = 10, centre: float = 3.0) -> "GaussianMixtureRegression":
        """The paper's ½N(c·e₁, Σ) + ½N(−c·e₁, Σ) with Σ = I but for Σ₁₁ = 1e-8, without noise."""
        rest = (0.0,) * (dim - 1)
        variances = (1e-8,) + (1.0,) * (dim - 1)
        return cls(dim, ((centre, *rest), (-centre, *rest)), (variances, variances), (0.5, 0.5))

    @property
    def label_std(self) -> float:
        """Standard deviation of a label, noise included: √(Σ π(‖μ‖² + Σ v)) without.

        A label has mean zero, as x has.

        Raises:
            ValueError: if x is not isotropic, as w is not either.
        """
        _check_isotropic(self.inputs)
        rows = zip(self.weights, self.means, self.variances, strict=True)
        norm = sum(weight * (sum(m * m for m in mean) + sum(spread)) for weight, mean, spread in rows)
        return math.hypot(self.inputs.scale * math.sqrt(norm), self.noise_std)

    def narrowed(self, size: int) -> "GaussianMixtureRegression":
        """The first `size` coordinates of w and x; see `Task.narrowed`."""
        means = tuple(row[:size] for row in self.means)
        variances = tuple(row[:size] for row in self.variances)
        return GaussianMixtureRegression(size, means, variances, self.weights, self.noise_std, self.inputs)

    def _prompt(self, batch: int, points: int, draw: Draw) -> Prompt:
        """Latents: "w" [batch dim], "component" [batch] and those of the inputs."""
        component = draw.choices(self.weights, batch)
        place = {"dtype": draw.dtype, "device": component.device}
        means, spreads = torch.tensor(self.means, **place), torch.tensor(self.variances, **place).sqrt()
        w = means[component] + spreads[component] * draw.normal(batch, self.dim)
        prompt = _linear(self, w, points, draw)
        return Prompt(prompt.xs, prompt.ys, prompt.latents | {"component": component})

    def bayes(self) -> Predictor:
        """The exact posterior predictive: the components' ridges, each weighed by its evidence."""
        from microtome.lab.bayes.gaussian_prior import BayesGaussian
        from microtome.lab.bayes.mixture import BayesMixture

        means = torch.tensor(self.means, dtype=torch.float64)
        variances = torch.tensor(self.variances, dtype=torch.float64)
        components = tuple(
            BayesGaussian(mean, variance.diag(), self.noise_std)
            for mean, variance in zip(means, variances, strict=True)
        )
        return BayesMixture(components, self.weights)


@dataclass(frozen=True)
class TaskPool(Task):
    """w is one of M vectors, each as likely; the M were drawn once from N(0, τ²I) by `seed`.

    The paper's noisy regression: d = 8, 16 points, σ = ½ and M from 1 to 2²⁰ and ∞, which is `LinearRegression`.

    Attributes:
        dim: d ≥ 1.
        tasks: M ≥ 1.
        noise_std: σ ≥ 0.
        prior_std: τ > 0.
        inputs: the law of x.
        seed: of the pool.

    Raises:
        ValueError: if an attribute is out of range.
    """

    dim: int
    tasks: int
    noise_std: float = 0.0
    prior_std: float = 1.0
    inputs: Inputs = ALIKE
    seed: int = 0

    def __post_init__(self):
        check_sizes(dim=self.dim, tasks=self.tasks)
        check_law(self.noise_std, self.prior_std)
        self.inputs.check(self.dim)

    @property
    def pool(self) -> Float[Tensor, "tasks dim"]:
        """The M weight vectors, float64."""
        return self.prior_std * _unit_pool(self.tasks, self.dim, self.seed)

    @property
    def label_std(self) -> float:
        """Standard deviation of a label over this pool, noise included.

        Raises:
            ValueError: if x is not isotropic, as the pool is not either.
        """
        _check_isotropic(self.inputs)
        norm = self.pool.square().sum(1).mean().item()
        return math.hypot(self.inputs.scale * math.sqrt(norm), self.noise_std)

    def _prompt(self, batch: int, points: int, draw: Draw) -> Prompt:
        """Latents: "w" [batch dim], "task" [batch], its row in the pool, and those of the inputs."""
        task = draw.integers(self.tasks, batch)
        w = self.prior_std * _unit_pool(self.tasks, self.dim, self.seed).to(task.device)[task]
        prompt = _linear(self, w.to(draw.dtype), points, draw)
        return Prompt(prompt.xs, prompt.ys, prompt.latents | {"task": task})

    def bayes(self) -> Predictor:
        """The exact posterior predictive, "dMMSE": the pool weighed by its likelihoods."""
        from microtome.lab.bayes.pool import PoolPosterior

        return PoolPosterior(self.pool, self.noise_std)


def check_weights(weights: tuple[float, ...], count: int, of: str) -> None:
    """Raises ValueError unless there are `count` ≥ 1 positive probabilities that sum to 1."""
    if len(weights) != count or count < 1:
        raise ValueError(f"there must be one weight for each of the {count} {of}, at least one, not {len(weights)}.")
    if not all(weight > 0 for weight in weights) or abs(sum(weights) - 1) > 1e-6:
        raise ValueError(f"weights must be above 0 and sum to 1, not {list(weights)}.")


@functools.lru_cache(maxsize=2)  # a pool of a million tasks takes longer to draw than a batch
def _unit_pool(tasks: int, dim: int, seed: int) -> Tensor:
    own = torch.Generator().manual_seed(seed)  # on the CPU: every device has the same pool
    return torch.randn(tasks, dim, generator=own, dtype=torch.float64)


def _linear(task: Task, w: Tensor, points: int, draw: Draw) -> Prompt:
    xs, axes = task.inputs.sample(len(w), points, task.dim, draw)
    ys = torch.linalg.vecdot(xs, w[:, None])  # half the time of a product of matrices with one column
    return Prompt(xs, draw.noisy(ys, task.noise_std), {"w": w} | axes)


def _check_isotropic(inputs: Inputs) -> None:
    if inputs.covariance != "isotropic":
        raise ValueError("the standard deviation of these labels is known for isotropic inputs only.")
