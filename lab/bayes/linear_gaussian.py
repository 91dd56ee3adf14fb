"""Gaussian mixtures under linear sensors and linear motion: the posterior, the prediction and the filter, all exact.

A sensor z = Hx + N(0, R) turns a mixture into a mixture of as many components, each updated as Kalman's (1960) filter
does and weighed by how well it foretold z (Sorenson & Alspach 1971):

    S = HΣ_kHᵀ + R,   G = Σ_kHᵀS⁻¹,   μ_k' = μ_k + G(z − Hμ_k),   Σ_k' = (I − GH)Σ_k,   w_k' ∝ w_k N(z; Hμ_k, S)

Motion x' = Ax + Gn, n ~ N(0, I), keeps the weights: μ_k' = Aμ_k, Σ_k' = AΣ_kAᵀ + GGᵀ.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from microtome.lab.bayes.gaussian_mixture import GaussianMixture, whiten

Matrix = tuple[tuple[float, ...], ...]
Update = Callable[[GaussianMixture, tuple[Tensor, ...]], GaussianMixture]


@dataclass(frozen=True)
class LinearSensor:
    """z = Hx + N(0, R).

    Attributes:
        matrix: H, rows of numbers, [size dim].
        noise: R, rows of numbers, [size size], symmetric and positive definite.

    Raises:
        ValueError: if the rows do not make matrices that fit, or R is not positive definite.
    """

    matrix: Matrix
    noise: Matrix

    def __post_init__(self):
        size, _ = _shape("matrix", self.matrix)
        if _shape("noise", self.noise) != (size, size):
            raise ValueError(f"noise must be {size} × {size}, as many rows as the sensor's matrix has.")
        noise = self.covariance
        if not torch.equal(noise, noise.mT) or torch.linalg.cholesky_ex(noise).info:
            raise ValueError(f"a sensor's noise must be symmetric and positive definite, not {self.noise}.")

    @property
    def size(self) -> int:
        """How many numbers a reading has."""
        return len(self.matrix)

    @property
    def map(self) -> Float[Tensor, "size dim"]:
        """H in float64."""
        return torch.tensor(self.matrix, dtype=torch.float64)

    @property
    def covariance(self) -> Float[Tensor, "size size"]:
        """R in float64."""
        return torch.tensor(self.noise, dtype=torch.float64)

    def sample(self, x: Float[Tensor, "*batch dim"], generator: torch.Generator) -> Float[Tensor, "*batch size"]:
        """One reading of every x."""
        noise = torch.randn(*x.shape[:-1], self.size, generator=generator, dtype=x.dtype, device=generator.device)
        factor = torch.linalg.cholesky(self.covariance).to(x)
        return x @ self.map.to(x).mT + noise @ factor.mT


@dataclass(frozen=True)
class LinearMotion:
    """x' = Ax + Gn, n ~ N(0, I).

    Attributes:
        matrix: A, rows of numbers, [dim dim].
        noise_factor: G, rows of numbers, [dim noise].

    Raises:
        ValueError: if the rows do not make matrices that fit.
    """

    matrix: Matrix
    noise_factor: Matrix

    def __post_init__(self):
        rows, columns = _shape("matrix", self.matrix)
        if rows != columns or _shape("noise_factor", self.noise_factor)[0] != rows:
            raise ValueError("a motion's matrix must be square, and its noise factor have as many rows.")

    @property
    def map(self) -> Float[Tensor, "dim dim"]:
        """A in float64."""
        return torch.tensor(self.matrix, dtype=torch.float64)

    @property
    def factor(self) -> Float[Tensor, "dim noise"]:
        """G in float64."""
        return torch.tensor(self.noise_factor, dtype=torch.float64)

    def sample(self, x: Float[Tensor, "*batch dim"], generator: torch.Generator) -> Float[Tensor, "*batch dim"]:
        """Where each x moves in one step."""
        factor = self.factor.to(x)
        lead = (*x.shape[:-1], factor.shape[1])
        noise = torch.randn(*lead, generator=generator, dtype=x.dtype, device=generator.device)
        return x @ self.map.to(x).mT + noise @ factor.mT


def posterior(
    prior: GaussianMixture, sensors: Sequence[LinearSensor], observations: Sequence[Float[Tensor, "*batch _ _"]]
) -> GaussianMixture:
    """The exact posterior of x given every reading of every sensor, in float64.

    Args:
        prior: of x.
        sensors: what was read.
        observations: the readings of each sensor, [*batch points size], independent given x.

    Raises:
        ValueError: if sensors and observations differ in number, a reading or the mixture has another dimension than
            its sensor, or a reading is not finite.
    """
    if len(sensors) != len(observations):
        raise ValueError(f"{len(sensors)} sensors cannot have given {len(observations)} tensors of observations.")
    mixture = prior.to(torch.float64)
    for sensor, readings in zip(sensors, observations, strict=True):
        _check_readings(sensor, prior, readings)
        for reading in readings.double().unbind(-2):
            mixture = _updated(mixture, sensor, reading)
    return mixture


def predicted(mixture: GaussianMixture, motion: LinearMotion) -> GaussianMixture:
    """The exact law of x after one step of motion, in float64.

    Raises:
        ValueError: if the motion is of another dimension.
    """
    if len(motion.matrix) != mixture.dim:
        raise ValueError(f"the motion is {len(motion.matrix)}-dimensional and the mixture {mixture.dim}-dimensional.")
    mixture = mixture.to(torch.float64)
    step, factor = motion.map.to(mixture.means), motion.factor.to(mixture.means)
    covariances = step @ mixture.covariances @ step.mT + factor @ factor.mT
    return GaussianMixture(mixture.log_weights, mixture.means @ step.mT, torch.linalg.cholesky(covariances))


def filtered(
    prior: GaussianMixture, motion: LinearMotion, update: Update, observations: Sequence[tuple[Tensor, ...]]
) -> list[GaussianMixture]:
    """The law of x_t given the readings up to t, for every t; x moves between readings, not before the first.

    Args:
        prior: of x at the first reading.
        motion: of x from one reading to the next.
        update: maps (mixture, readings) to a mixture: `posterior` with its sensors given, or a network.
        observations: for each time a tuple of readings, one tensor a sensor, [batch points size].
    """
    laws: list[GaussianMixture] = []
    for readings in observations:
        before = prior if not laws else predicted(laws[-1], motion)
        laws.append(update(before, readings))
    return laws


def _updated(mixture: GaussianMixture, sensor: LinearSensor, z: Float[Tensor, "*batch size"]) -> GaussianMixture:
    sees, noise = sensor.map.to(mixture.means), sensor.covariance.to(mixture.means)
    cross = mixture.covariances @ sees.mT  # ΣHᵀ, [*batch component dim size]
    root = torch.linalg.cholesky(sees @ cross + noise)
    surprise = z[..., None, :] - mixture.means @ sees.mT
    gain = torch.cholesky_solve(cross.mT, root).mT
    white = whiten(root, surprise)
    log_weights = mixture.log_weights - white.square().sum(-1) / 2 - root.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    # Joseph's form of (I − GH)Σ: symmetric and positive definite whatever the rounding.
    kept = torch.eye(mixture.dim).to(sees) - gain @ sees
    factor = kept @ mixture.scale_trils
    covariances = factor @ factor.mT + gain @ noise @ gain.mT
    means = mixture.means + (gain @ surprise[..., None])[..., 0]
    return GaussianMixture(log_weights.log_softmax(-1), means, torch.linalg.cholesky(covariances))


def _check_readings(sensor: LinearSensor, prior: GaussianMixture, readings: Tensor) -> None:
    if len(sensor.matrix[0]) != prior.dim:
        raise ValueError(f"the sensor reads {len(sensor.matrix[0])} dimensions and the prior has {prior.dim}.")
    if readings.ndim < 2 or readings.shape[-1] != sensor.size:
        raise ValueError(f"observations must be [*batch points size={sensor.size}], not {list(readings.shape)}.")
    if not torch.isfinite(readings).all():
        raise ValueError("observations must be finite, but hold an infinity or a NaN.")


def _shape(name: str, rows: Matrix) -> tuple[int, int]:
    lengths = {len(row) for row in rows}
    if len(lengths) != 1 or 0 in lengths or not all(math.isfinite(n) for row in rows for n in row):
        raise ValueError(f"{name} must be rows of equally many finite numbers, not {rows!r}.")
    return len(rows), lengths.pop()
