"""Monomials, Fourier series and Haar wavelets: the classes of functions that are linear in features of x.

(Panwar, Ahuja & Goyal 2024, "In-context learning through the Bayesian prism", slug `icl_bayesian_prism`, sections 4 and
5, also for the mixtures of frequencies under which a learner prefers low or high ones.)
"""

import itertools
import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from microtome.lab.bayes.linear import check_law
from microtome.lab.tasks.draw import Draw
from microtome.lab.tasks.expansion import Expansion, Features, Vectors
from microtome.lab.tasks.families import Families, Subsets
from microtome.lab.tasks.inputs import ALIKE, Inputs
from microtome.lab.tasks.protocol import check_sizes

FREQUENCY_LAWS = ("all", "upto", "from")
TWENTY = Subsets(20)
"""One fixed set of 20 terms."""


@dataclass(frozen=True)
class Monomials(Expansion):
    """y = |S|^−½ Σ_{(i,j)∈S} w_ij x_i x_j, where S is a set of the d(d+1)/2 products with i ≤ j.

    A product of two coordinates has variance 1 and a square 3 times that about zero, so that label variance exceeds 1
    by 2/|S| a square in S.

    Attributes:
        dim: d ≥ 1.
        subsets: the law of S; the paper has |S| = 20 fixed for d = 20, and K sets of 10 for d = 10.
        noise_std: σ ≥ 0.
        inputs: the law of x.

    Raises:
        ValueError: if an attribute is out of range.
    """

    dim: int = 20
    subsets: Subsets = TWENTY
    noise_std: float = 0.0
    inputs: Inputs = ALIKE

    def __post_init__(self):
        check_sizes(dim=self.dim)
        check_law(self.noise_std, 1.0)
        self.inputs.check(self.dim)
        self.subsets.check(len(self.products))

    def narrowed(self, size: int) -> "Monomials":
        """The same sets, with all but the first `size` coordinates of x at zero; see `Task.narrowed`."""
        return replace(self, inputs=self.inputs.confined(size, self.dim))

    @property
    def products(self) -> tuple[tuple[int, int], ...]:
        """(i, j) of every feature, i ≤ j, in the order of `features`."""
        return tuple(itertools.combinations_with_replacement(range(self.dim), 2))

    def features(self, xs: Vectors) -> Features:
        """x_i x_j for all d(d+1)/2 of `products`."""
        first, second = torch.triu_indices(self.dim, self.dim, device=xs.device)
        return xs[..., first] * xs[..., second]

    @property
    def families(self) -> Families | None:
        """See `Expansion.families`."""
        if not self.subsets.finite:
            return None
        active = self.subsets.listed(len(self.products))
        return Families(active, torch.full((len(active),), self.subsets.size**-0.5, dtype=torch.float64))

    @property
    def label_std(self) -> float:
        """Standard deviation of a label over the whole law, noise included.

        Raises:
            ValueError: if x is not isotropic.
        """
        if self.inputs.covariance != "isotropic":
            raise ValueError("the standard deviation of monomials is known for isotropic inputs only.")
        squares = torch.tensor([first == second for first, second in self.products], dtype=torch.float64)
        if self.families is None:  # a held-out set is as good as any, but for the few that are missing
            share = squares.mean().item()
        else:
            share = (self.families.active * squares).sum(1).mean().item() / self.subsets.size
        return math.hypot(self.inputs.scale**2 * math.sqrt(1 + 2 * share), self.noise_std)

    def _inputs(self, batch: int, points: int, draw: Draw) -> tuple[Vectors, dict[str, Tensor]]:
        return self.inputs.sample(batch, points, self.dim, draw)

    def _combined(self, xs: Vectors, w: Tensor) -> Tensor:
        """As a quadratic form, without the d(d+1)/2 features of every point."""
        first, second = torch.triu_indices(self.dim, self.dim, device=w.device)
        form = w.new_zeros(len(w), self.dim**2).index_copy_(1, first * self.dim + second, w)
        return torch.linalg.vecdot(xs @ form.unflatten(1, (self.dim, self.dim)), xs)

    def _active(self, batch: int, draw: Draw) -> Tensor:
        return self.subsets.sample(batch, len(self.products), draw).to(draw.dtype) * self.subsets.size**-0.5

    def _pooled_std(self) -> float:
        return len(self.products) ** -0.5


@dataclass(frozen=True)
class Fourier(Expansion):
    """y = |F|^−½ [a₀ + Σ_{n∈F} a_n cos(nπx/L) + b_n sin(nπx/L)], x ~ U(−L, L), F a set of frequencies up to N.

    With the constant a₀ the label variance is (|F| + 1)/|F|. As in the paper's code the mixtures "upto" and "from"
    have no constant, and label variance 1.

    Attributes:
        frequencies: N ≥ 1, the highest.
        half_period: L > 0.
        law: of F: "all" is 1 … N; "upto" is 1 … M with M ~ U{1 … N}; "from" is M … N, a bias to high frequencies.
        subsets: F is drawn from these, as in the paper's multitask class (|F| = 3 of 20); with law "all" only.
        noise_std: σ ≥ 0.

    Raises:
        ValueError: if an attribute is out of range.
    """

    frequencies: int = 10
    half_period: float = 5.0
    law: str = "all"
    subsets: Subsets | None = None
    noise_std: float = 0.0

    def __post_init__(self):
        check_sizes(frequencies=self.frequencies)
        check_law(self.noise_std, 1.0)
        if not 0 < self.half_period < math.inf:
            raise ValueError(f"half_period must be finite and above 0, not {self.half_period}.")
        if self.law not in FREQUENCY_LAWS:
            raise ValueError(f"law must be one of {', '.join(FREQUENCY_LAWS)}, not {self.law!r}.")
        if self.subsets is not None:
            if self.law != "all":
                raise ValueError(f'subsets have a law of their own: law must be "all" with them, not {self.law!r}.')
            self.subsets.check(self.frequencies)

    @property
    def dim(self) -> int:
        return 1

    @property
    def full_size(self) -> int:
        """What a curriculum brings to its full value: the frequencies."""
        return self.frequencies

    def narrowed(self, size: int) -> "Fourier":
        """The same law up to a lower frequency; its division by the root of their number goes along, so that label
        variance stays near 1. See `Task.narrowed`."""
        return replace(self, frequencies=size)

    def features(self, xs: Vectors) -> Features:
        """1; cos(nπx/L) for n = 1 … N; sin(nπx/L) for n = 1 … N: 2N + 1 features."""
        angles = math.pi / self.half_period * xs * torch.arange(1, self.frequencies + 1, device=xs.device)
        return torch.cat([torch.ones_like(xs), angles.cos(), angles.sin()], dim=-1)

    @property
    def families(self) -> Families | None:
        """See `Expansion.families`."""
        if self.subsets is not None:
            if not self.subsets.finite:
                return None
            used = self.subsets.listed(self.frequencies)
        else:
            square = torch.ones(self.frequencies, self.frequencies, dtype=torch.bool)
            used = {"all": square[:1], "upto": square.tril(), "from": square.triu()}[self.law]
        return Families(self._spread(used), used.sum(1).double().rsqrt())

    @property
    def label_std(self) -> float:
        """Standard deviation of a label over the whole law, noise included."""
        size = self.frequencies if self.subsets is None else self.subsets.size
        return math.hypot(1.0, self._has_constant / math.sqrt(size), self.noise_std)

    @property
    def _has_constant(self) -> bool:
        return self.law == "all"

    def _spread(self, used: Tensor) -> Tensor:
        """Features [row 2N+1] in use where frequencies [row N] are."""
        return torch.cat([torch.full_like(used[:, :1], self._has_constant), used, used], dim=1)

    def _inputs(self, batch: int, points: int, draw: Draw) -> tuple[Vectors, dict[str, Tensor]]:
        return draw.uniform(batch, points, 1, low=-self.half_period, high=self.half_period), {}

    def _active(self, batch: int, draw: Draw) -> Tensor:
        if self.subsets is None:
            return super()._active(batch, draw)
        used = self.subsets.sample(batch, self.frequencies, draw)
        return self._spread(used).to(draw.dtype) * self.subsets.size**-0.5

    def _pooled_std(self) -> float:
        size = self.frequencies if self.subsets is None else self.subsets.size
        return math.sqrt((2 * size + 1) / (2 * self.frequencies + 1) / size)


@dataclass(frozen=True)
class Haar(Expansion):
    """y = 2^{−(J+1)/2} [w₀ + Σ_{j≤J} Σ_k w_jk ψ_jk(x)], ψ_jk(x) = 2^{j/2} ψ(2^j x − k), x ~ U(0, 1): label variance 1.

    ψ is 1 on [0, ½), −1 on [½, 1). The paper's code has f(t) = t where this orthonormal basis has the constant, and
    divides by 2^{J+1}.

    Attributes:
        levels: J ≥ 0, the finest scale; there are 2^{J+1} features.
        noise_std: σ ≥ 0.

    Raises:
        ValueError: if an attribute is out of range.
    """

    levels: int = 3
    noise_std: float = 0.0

    def __post_init__(self):
        check_law(self.noise_std, 1.0)
        if not 0 <= self.levels <= 10:
            raise ValueError(f"levels must be between 0 and 10, not {self.levels}.")

    @property
    def dim(self) -> int:
        return 1

    @property
    def full_size(self) -> int:
        """What a curriculum brings to its full value: the levels."""
        return self.levels

    def narrowed(self, size: int) -> "Haar":
        """The same law with coarser levels only; see `Task.narrowed`."""
        return replace(self, levels=size)

    def features(self, xs: Vectors) -> Features:
        """1, then ψ_jk for j = 0 … J and k = 0 … 2^j − 1: 2^{J+1} features."""
        feats = [torch.ones_like(xs)]
        for level in range(self.levels + 1):
            t = 2**level * xs - torch.arange(2**level, device=xs.device)
            rises, falls = (t >= 0) & (t < 0.5), (t >= 0.5) & (t < 1)
            feats.append(2 ** (level / 2) * (rises.to(xs.dtype) - falls.to(xs.dtype)))
        return torch.cat(feats, dim=-1)

    @property
    def families(self) -> Families:
        """See `Expansion.families`; there is one."""
        active = torch.ones(1, 2 ** (self.levels + 1), dtype=torch.bool)
        return Families(active, torch.full((1,), self._pooled_std(), dtype=torch.float64))

    @property
    def label_std(self) -> float:
        """Standard deviation of a label, noise included."""
        return math.hypot(1.0, self.noise_std)

    def _inputs(self, batch: int, points: int, draw: Draw) -> tuple[Vectors, dict[str, Tensor]]:
        return draw.uniform(batch, points, 1), {}

    def _pooled_std(self) -> float:
        return 2 ** (-(self.levels + 1) / 2)
