"""Laws of real inputs, and the shifts of them under which a trained learner is tested.

A shift between training and test is another `Inputs` in the same task (`dataclasses.replace(task, inputs=…)`), as in
Garg et al. 2022, "What can transformers learn in-context?", section 4: larger or smaller x, a skewed covariance, a
query orthogonal to the context, a query in another orthant.
"""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from microtome.kernels.haar import haar
from microtome.lab.tasks.draw import Draw
from microtome.lab.tasks.protocol import check_sizes

ROTATIONS = ("random", "fixed", "none")
QUERIES = ("same", "orthogonal", "orthant")

Vectors = Float[Tensor, "batch points dim"]


@dataclass(frozen=True)
class Spectrum:
    """A covariance by its eigenvalues and the way they lie in space.

    Attributes:
        eigenvalues: of Σ, one a dimension, not negative and not all zero. Zeros after the first m with
            rotation "none" keep the other coordinates at zero, as a curriculum over dimensions does.
        rotation: "random" draws Haar-distributed axes for every prompt, "fixed" the same ones for all prompts
            (from `seed`), "none" leaves the coordinate axes.
        seed: of the fixed rotation.

    Raises:
        ValueError: if the eigenvalues or the name of the rotation are not as above.
    """

    eigenvalues: tuple[float, ...]
    rotation: str = "random"
    seed: int = 0

    def __post_init__(self):
        if not all(0 <= value < math.inf for value in self.eigenvalues) or not any(self.eigenvalues):
            raise ValueError(f"eigenvalues must be finite, at least 0 and not all 0, not {list(self.eigenvalues)}.")
        if self.rotation not in ROTATIONS:
            raise ValueError(f"rotation must be one of {', '.join(ROTATIONS)}, not {self.rotation!r}.")

    @classmethod
    def power_law(cls, dim: int, exponent: float = 2.0, rotation: str = "random", seed: int = 0) -> "Spectrum":
        """Eigenvalues ∝ 1/i^exponent with trace dim, so that E‖x‖² is that of N(0, I).

        Exponent 2 is the "skewed covariance" of Garg et al. (2022).

        Raises:
            ValueError: if dim is below 1.
        """
        check_sizes(dim=dim)
        raw = [i**-exponent for i in range(1, dim + 1)]
        return cls(tuple(value * dim / sum(raw) for value in raw), rotation, seed)

    def axes(self, batch: int, generator: torch.Generator, dtype: torch.dtype) -> Float[Tensor, "batch dim dim"] | None:
        """Orthogonal matrices whose columns are the eigenvectors; None for the coordinate axes."""
        dim = len(self.eigenvalues)
        if self.rotation == "random":
            return haar(batch, dim, dim, generator).to(dtype)
        if self.rotation == "fixed":
            own = torch.Generator().manual_seed(self.seed)  # on the CPU: every device has the same axes
            return haar(1, dim, dim, own).to(generator.device, dtype).expand(batch, -1, -1)
        return None


@dataclass(frozen=True)
class Inputs:
    """x ~ scale · N(0, Σ), and where the last x of a prompt, the query, stands.

    Attributes:
        covariance: Σ: "isotropic" for I, or a `Spectrum` with one eigenvalue a dimension.
        scale: what every x is multiplied by, above 0.
        query: "same" draws the last x like the others; "orthogonal" takes from it its part in the span of the others
            (prompts of at most dim points); "orthant" puts the context into one random orthant a prompt and the
            query into the opposite one.

    Raises:
        ValueError: if an attribute is out of range.
    """

    covariance: str | Spectrum = "isotropic"
    scale: float = 1.0
    query: str = "same"

    def __post_init__(self):
        if isinstance(self.covariance, str) and self.covariance != "isotropic":
            raise ValueError(f'covariance must be "isotropic" or a Spectrum, not {self.covariance!r}.')
        if not 0 < self.scale < math.inf:
            raise ValueError(f"scale must be finite and above 0, not {self.scale}.")
        if self.query not in QUERIES:
            raise ValueError(f"query must be one of {', '.join(QUERIES)}, not {self.query!r}.")

    def check(self, dim: int) -> None:
        """Raises ValueError if the covariance has another dimension."""
        if isinstance(self.covariance, Spectrum) and len(self.covariance.eigenvalues) != dim:
            raise ValueError(
                f"covariance has {len(self.covariance.eigenvalues)} eigenvalues, but the task {dim} dimensions."
            )

    def confined(self, active: int, dim: int) -> "Inputs":
        """The same law with all but the first `active` of `dim` coordinates at zero, as a curriculum has it.

        Raises:
            ValueError: unless the law is isotropic and `active` between 1 and `dim`.
        """
        if self.covariance != "isotropic":
            raise ValueError("only isotropic inputs can be confined to their first coordinates.")
        if not 1 <= active <= dim:
            raise ValueError(f"active must be between 1 and dim = {dim}, not {active}.")
        if active == dim:
            return self
        eigenvalues = (1.0,) * active + (0.0,) * (dim - active)
        return replace(self, covariance=Spectrum(eigenvalues, rotation="none"))

    def power(self, dim: int) -> float:
        """E‖x‖² of a point of the context."""
        trace = dim if isinstance(self.covariance, str) else sum(self.covariance.eigenvalues)
        return self.scale**2 * trace

    def sample(self, batch: int, points: int, dim: int, draw: Draw) -> tuple[Vectors, dict[str, Tensor]]:
        """Inputs, and the latents they were drawn with: "axes" [batch dim dim] where the covariance is rotated, whose
        column i is the eigenvector of eigenvalue i.

        Raises:
            ValueError: if the query is to be orthogonal to a context that spans everything.
        """
        xs, latents = draw.normal(batch, points, dim), {}
        if self.scale != 1:
            xs = self.scale * xs
        if isinstance(self.covariance, Spectrum):
            xs = xs * torch.tensor(self.covariance.eigenvalues, dtype=xs.dtype, device=xs.device).sqrt()
            axes = self.covariance.axes(batch, draw.generator, draw.dtype)
            if axes is not None:
                xs, latents["axes"] = xs @ axes.mT, axes
        if self.query == "orthogonal":
            xs = _orthogonal_query(xs)
        elif self.query == "orthant":
            side = draw.signs(batch, 1, dim)
            xs = torch.cat([side * xs[:, :-1].abs(), -side * xs[:, -1:].abs()], dim=1)
        return xs, latents


ALIKE = Inputs()
"""x ~ N(0, I), the query like the others."""


def _orthogonal_query(xs: Vectors) -> Vectors:
    _, points, dim = xs.shape
    if points > dim:
        raise ValueError(
            f"no x is orthogonal to {points - 1} others in {dim} dimensions: an orthogonal query needs prompts of at "
            f"most {dim} points."
        )
    if points == 1:
        return xs
    basis = torch.linalg.qr(xs[:, :-1].mT.double()).Q
    query = xs[:, -1:].double()
    query = query - query @ basis @ basis.mT
    query = query - query @ basis @ basis.mT  # once more: what rounding left of the span
    return torch.cat([xs[:, :-1], query.to(xs.dtype)], dim=1)
