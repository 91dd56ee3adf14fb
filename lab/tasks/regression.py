"""Linear functions to be learnt in context: dense, noisy, with skewed inputs, or sparse.

    w ~ N(0, τ²I),   x ~ N(0, Σ),   y = wᵀx + N(0, σ²)

(Garg et al. 2022, "What can transformers learn in-context?"; Akyürek et al. 2023, icl_linear_algorithms.)
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from microtome.lab.bayes import BayesLinear, SpikeAndSlab
from microtome.lab.bayes.linear import check_law
from microtome.lab.tasks.protocol import Prompt, Task, check_generator, check_sizes

ROTATIONS = ("random", "fixed", "none")


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
            return haar(batch, dim, generator, dtype)
        if self.rotation == "fixed":
            own = torch.Generator().manual_seed(self.seed)  # on the CPU: every device has the same axes
            return haar(1, dim, own, dtype).to(generator.device).expand(batch, -1, -1)
        return None


@dataclass(frozen=True)
class LinearRegression(Task):
    """Linear functions of Gaussian inputs.

    Attributes:
        dim: dimensions of x, at least 1.
        noise_std: σ ≥ 0, standard deviation of the label noise.
        prior_std: τ > 0, standard deviation of a weight that may be non-zero.
        covariance: Σ: "isotropic" for I, or a `Spectrum` of dim eigenvalues.
        sparsity: how many weights are non-zero, on a support drawn uniformly; None leaves all of them.

    Raises:
        ValueError: if an attribute is out of range, or the spectrum has another dimension.
    """

    dim: int
    noise_std: float = 0.0
    prior_std: float = 1.0
    covariance: str | Spectrum = "isotropic"
    sparsity: int | None = None

    def __post_init__(self):
        check_sizes(dim=self.dim)
        check_law(self.noise_std, self.prior_std)
        if isinstance(self.covariance, str) and self.covariance != "isotropic":
            raise ValueError(f'covariance must be "isotropic" or a Spectrum, not {self.covariance!r}.')
        if isinstance(self.covariance, Spectrum) and len(self.covariance.eigenvalues) != self.dim:
            raise ValueError(
                f"covariance has {len(self.covariance.eigenvalues)} eigenvalues, but the task {self.dim} dimensions."
            )
        if self.sparsity is not None and not 1 <= self.sparsity <= self.dim:
            raise ValueError(f"sparsity must be between 1 and dim = {self.dim}, or None, not {self.sparsity}.")

    def sample(
        self,
        batch: int,
        points: int,
        generator: torch.Generator,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> Prompt:
        """See `Task.sample`.

        Latents: "w" [batch dim]; if sparse "support" [batch dim], true where w may be non-zero; if the
        covariance is rotated "axes" [batch dim dim], whose column i is the eigenvector of eigenvalue i.
        """
        check_sizes(batch=batch, points=points)
        check_generator(generator)
        if not dtype.is_floating_point:
            raise TypeError(f"dtype must be floating-point, not {dtype}.")
        normal = {"generator": generator, "dtype": dtype, "device": generator.device}
        latents = self._weights(batch, normal)
        xs = torch.randn(batch, points, self.dim, **normal)
        if isinstance(self.covariance, Spectrum):
            xs = xs * torch.tensor(self.covariance.eigenvalues, dtype=dtype, device=generator.device).sqrt()
            axes = self.covariance.axes(batch, generator, dtype)
            if axes is not None:
                xs, latents["axes"] = xs @ axes.mT, axes
        ys = (xs @ latents["w"][..., None]).squeeze(-1)
        if self.noise_std > 0:
            ys = ys + self.noise_std * torch.randn(batch, points, **normal)
        latents = {name: latent.to(device) for name, latent in latents.items()}
        return Prompt(xs.to(device), ys.to(device), latents)

    def bayes(self) -> BayesLinear | SpikeAndSlab:
        """The exact posterior predictive; it does not depend on the law of x.

        Raises:
            ValueError: if the task is sparse with more supports than can be enumerated, with what to use
                instead.
        """
        if self.sparsity is None:
            return BayesLinear(self.noise_std, self.prior_std)
        return SpikeAndSlab(self.dim, self.sparsity, self.noise_std, self.prior_std)

    def _weights(self, batch: int, normal: dict) -> dict[str, Tensor]:
        w = self.prior_std * torch.randn(batch, self.dim, **normal)
        if self.sparsity is None:
            return {"w": w}
        # The places of the s largest of exchangeable numbers are a uniform draw without replacement.
        order = torch.rand(batch, self.dim, generator=normal["generator"], device=w.device)
        places = order.topk(self.sparsity).indices
        support = torch.zeros_like(w, dtype=torch.bool).scatter_(1, places, True)
        return {"w": w * support, "support": support}


def haar(batch: int, dim: int, generator: torch.Generator, dtype: torch.dtype) -> Float[Tensor, "batch dim dim"]:
    """Orthogonal matrices drawn uniformly (Haar measure).

    Q of a Gaussian matrix is Haar once the signs of R's diagonal, which the algorithm chose, are moved into
    it (Mezzadri 2007, "How to generate random matrices from the classical compact groups").
    """
    gaussian = torch.randn(batch, dim, dim, generator=generator, device=generator.device, dtype=torch.float64)
    q, r = torch.linalg.qr(gaussian)
    return (q * r.diagonal(dim1=-2, dim2=-1).sign()[:, None]).to(dtype)
