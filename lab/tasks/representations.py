"""Functions that are linear on a representation of x: one fixed network for all prompts, a fresh head for each.

    Φ*(x) = ρ(B_L ρ(B_{L−1} … ρ(B_1 x))),   y = ⟨w, Φ*(x)⟩ + N(0, σ²),   w ~ N(0, τ²I),   x ~ N(0, Σ)

with ρ the leaky ReLU of slope 0.01 and random orthogonal B_1 [D d], B_2 … B_L [D D], drawn once and frozen. (Guo et al.
2024, "How do transformers learn in-context beyond simple functions? A case study on learning with representations",
slug `icl_representations`, section 4.1; the mixture of representations is theirs too.)

Orthogonal maps with a ReLU shrink what passes: E‖Φ*(x)‖² is about D/2^L, and the draw of B moves it by some factor.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from microtome.kernels.haar import haar
from microtome.lab.bayes.features import BayesFeatures
from microtome.lab.bayes.linear import check_law
from microtome.lab.bayes.mixture import BayesMixture
from microtome.lab.bayes.protocol import Predictor
from microtome.lab.tasks.draw import Draw
from microtome.lab.tasks.inputs import ALIKE, Inputs
from microtome.lab.tasks.protocol import Prompt, Task, check_sizes

Matrices = tuple[Float[Tensor, "batch _ _"], ...]


@dataclass(frozen=True)
class Representation:
    """Φ*: a frozen random network, itself a function of x.

    Attributes:
        dim: d, dimensions of x.
        width: D, dimensions of Φ*(x).
        depth: L ≥ 0, layers; 0 is the identity, with width = dim.
        slope: of the leaky ReLU below zero, in [0, 1].
        seed: of the matrices; networks of one seed that differ in depth alone share their first layers.

    Raises:
        ValueError: if an attribute is out of range.
    """

    dim: int
    width: int
    depth: int
    slope: float = 0.01
    seed: int = 0

    def __post_init__(self):
        check_sizes(dim=self.dim, width=self.width)
        if self.depth < 0:
            raise ValueError(f"depth must be at least 0, not {self.depth}.")
        if self.depth == 0 and self.width != self.dim:
            raise ValueError(f"depth 0 is the identity: width must be dim = {self.dim}, not {self.width}.")
        if not 0 <= self.slope <= 1:
            raise ValueError(f"slope must lie between 0 and 1, not {self.slope}.")

    def __call__(self, xs: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch width"]:
        """Φ*(x) of every x.

        Raises:
            ValueError: if the inputs have another dimension.
        """
        if xs.shape[-1] != self.dim:
            raise ValueError(f"this representation is of x in {self.dim} dimensions, not {xs.shape[-1]}.")
        for matrix in self.matrices():
            xs = F.leaky_relu(xs @ matrix.to(xs).mT, self.slope)
        return xs

    def matrices(self) -> tuple[Float[Tensor, "out in"], ...]:
        """B_1 … B_L in float64 on the CPU, the same for all callers: not to be written to."""
        return _frozen(self.dim, self.width, self.depth, self.seed)

    def upto(self, layer: int) -> "Representation":
        """Φ_ℓ, the first ℓ layers; Φ_0 is x itself.

        Raises:
            ValueError: if there is no such layer.
        """
        if not 0 <= layer <= self.depth:
            raise ValueError(f"layer must lie between 0 and depth = {self.depth}, not {layer}.")
        return replace(self, depth=layer, width=self.width if layer else self.dim)


@dataclass(frozen=True)
class RepresentationRegression(Task):
    """A fresh linear head on a fixed representation, or on one that each prompt draws from several.

    Attributes:
        representations: Φ*_1 … Φ*_K, all of the same dim and width; a prompt uses one of them, each equally likely.
        noise_std: σ ≥ 0, standard deviation of the label noise.
        prior_std: τ > 0, standard deviation of each weight of the head.
        inputs: the law of x; it moves between training and test, and the exact answer does not.
        resampled: draw new matrices, of the shape of Φ*_1, for every prompt: another task, in which nothing is shared
            between prompts, so that a learner that knows Φ* must fail.

    Raises:
        ValueError: if an attribute is out of range, the representations differ in dim or width, or several are given
            to a resampled task.
    """

    representations: tuple[Representation, ...]
    noise_std: float = 0.0
    prior_std: float = 1.0
    inputs: Inputs = ALIKE
    resampled: bool = False

    def __post_init__(self):
        check_law(self.noise_std, self.prior_std)
        sizes = {(representation.dim, representation.width) for representation in self.representations}
        if len(sizes) != 1:
            raise ValueError(
                f"representations must be at least one, all of the same dim and width, not {sorted(sizes)}."
            )
        if self.resampled and len(self.representations) > 1:
            raise ValueError("a resampled task takes one representation, whose shape the drawn ones have.")
        self.inputs.check(self.dim)

    @property
    def dim(self) -> int:
        """d, dimensions of x."""
        return self.representations[0].dim

    def _prompt(self, batch: int, points: int, draw: Draw) -> Prompt:
        """Latents: "w" [batch width], "features" Φ*(x) [batch points width]; with several representations "component"
        [batch], which of them; and those of the inputs."""
        w = self.prior_std * draw.normal(batch, self.representations[0].width)
        xs, latents = self.inputs.sample(batch, points, self.dim, draw)
        features, which = self._features(xs, draw)
        ys = draw.noisy((features @ w[..., None]).squeeze(-1), self.noise_std)
        return Prompt(xs, ys, {"w": w, "features": features} | which | latents)

    def _features(self, xs: Tensor, draw: Draw) -> tuple[Tensor, dict[str, Tensor]]:
        if self.resampled:
            return _resampled(self.representations[0], xs, draw), {}
        if len(self.representations) == 1:
            return self.representations[0](xs), {}
        which = draw.integers(len(self.representations), len(xs))
        every = torch.stack([representation(xs) for representation in self.representations])
        return every[which, torch.arange(len(xs), device=xs.device)], {"component": which}

    def bayes(self) -> Predictor:
        """The exact posterior predictive: ridge on Φ*, or the mixture of the ridges weighted by their evidence.

        Raises:
            ValueError: for a resampled task, with what to use instead.
        """
        if self.resampled:
            raise ValueError(
                "the exact answer to a resampled task averages over all orthogonal networks, which has no closed form; "
                'compare with BayesLinear on the latent "features", which knows the network that each prompt drew.'
            )
        components = tuple(self.on(representation) for representation in self.representations)
        if len(components) == 1:
            return components[0]
        return BayesMixture(components, (1 / len(components),) * len(components))

    def on(self, features: Callable[[Tensor], Tensor], name: str = "ridge on Φ*") -> BayesFeatures:
        """Ridge on other features with this task's σ and τ, which is exact for no other features than Φ*."""
        return BayesFeatures(features, self.noise_std, self.prior_std, name)

    def baselines(self) -> tuple[Predictor, ...]:
        """Ridge on x and on each intermediate Φ_ℓ, and least squares on Φ*, of the first representation."""
        first = self.representations[0]
        ridges = [
            self.on(first.upto(layer), f"ridge on Φ_{layer}" if layer else "ridge on x") for layer in range(first.depth)
        ]
        return (*ridges, BayesFeatures(first, 0.0, self.prior_std, "least squares on Φ*"))


@lru_cache(maxsize=64)
def _frozen(dim: int, width: int, depth: int, seed: int) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(matrix[0] for matrix in _draw_matrices(1, dim, width, depth, generator, torch.float64))


def _draw_matrices(
    batch: int, dim: int, width: int, depth: int, generator: torch.Generator, dtype: torch.dtype
) -> Matrices:
    """B_1 with orthonormal rows or columns, whichever are shorter, and square orthogonal B_2 … B_L."""
    if depth == 0:
        return ()
    longer = max(dim, width)
    first = haar(batch, longer, longer, generator)[:, :width, :dim]
    return (first.to(dtype), *(haar(batch, width, width, generator).to(dtype) for _ in range(depth - 1)))


def _resampled(like: Representation, xs: Tensor, draw: Draw) -> Tensor:
    matrices = _draw_matrices(len(xs), like.dim, like.width, like.depth, draw.generator, draw.dtype)
    for matrix in matrices:
        xs = F.leaky_relu(xs @ matrix.mT, like.slope)
    return xs


def second_moment(representation: Representation, samples: int = 100_000) -> float:
    """E‖Φ*(x)‖² for x ~ N(0, I) by Monte Carlo, to a relative error of about 1/√samples.

    Labels on Φ* have E y² = τ²·this + σ²; data that a part of a trained learner is to meet again must match it.
    """
    check_sizes(samples=samples)
    xs = torch.randn(samples, representation.dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return representation(xs).square().sum(-1).mean().item()
