"""Linear predictors that are the solution of a convex program: what structured priors are compared with.

Lasso for sparse weights (Garg et al. 2022), the least ℓ∞ norm for sign vectors and the least nuclear norm for low-rank
matrices (Panwar, Ahuja & Goyal 2024, "In-context learning through the Bayesian prism", slug `icl_bayesian_prism`); how
many pairs they need is in `microtome.lab.bayes.recovery`. Each is solved anew for every prefix of every prompt.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linprog
from torch import Tensor

from microtome.lab.bayes.refitted import RefittedLinear

LASSO_SWEEPS = 100_000
CLOSE = 1e-7  # relative change at which the nuclear norm's iteration stops


@dataclass(frozen=True)
class Lasso(RefittedLinear):
    """argmin ‖y − Xw‖²/2k + α‖w‖₁ over k pairs, by scikit-learn's coordinate descent; about 1 ms a fit.

    Attributes:
        alpha: α > 0; the paper takes 0.01.

    Raises:
        ValueError: if α is out of range.
    """

    alpha: float

    def __post_init__(self):
        if not 0 < self.alpha < math.inf:
            raise ValueError(f"alpha must be finite and above 0, not {self.alpha}; without a penalty use OLS().")

    @property
    def name(self) -> str:
        return f"lasso({self.alpha:g})"

    def _solve(self, xs: Tensor, ys: Tensor) -> Tensor:
        from sklearn.linear_model import Lasso as Program  # a second to import, which only its users pay

        program = Program(self.alpha, fit_intercept=False, max_iter=LASSO_SWEEPS)
        return _each(lambda x, y: program.fit(x, y).coef_, xs, ys)


@dataclass(frozen=True)
class MinimumInfinityNorm(RefittedLinear):
    """argmin ‖w‖_∞ subject to Xw = y while there are fewer pairs than dimensions, by scipy's linprog; about 2 ms a fit.

    With at least d pairs one w at most agrees with all of them, and least squares finds it; so it does where noise
    leaves none.
    """

    @property
    def name(self) -> str:
        return "least infinity norm"

    def _solve(self, xs: Tensor, ys: Tensor) -> Tensor:
        if xs.shape[1] >= xs.shape[2]:
            return _least_squares(xs, ys)
        return _each(_least_bound, xs, ys)


@dataclass(frozen=True)
class NuclearNorm(RefittedLinear):
    """argmin ‖W‖_* subject to X vec(W) = y while there are fewer pairs than the m² entries of W.

    By the alternating direction method of multipliers (Boyd et al. 2011), all prompts at once: W is projected on the
    pairs, Z on small singular values. It ends for a prompt once ‖W − Z‖ and the change of Z are below 1e-7·‖W‖, or
    after `steps`; W interpolates the labels in either case, and its norm is least up to that. With at least m² pairs
    least squares finds the one W that is left. About 10 ms a fit of a 10 × 10 matrix.

    Attributes:
        steps: at most so many, at least 1.

    Raises:
        ValueError: if steps is out of range.
    """

    steps: int = 3000

    def __post_init__(self):
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, not {self.steps}.")

    @property
    def name(self) -> str:
        return "least nuclear norm"

    def _solve(self, xs: Tensor, ys: Tensor) -> Tensor:
        side = math.isqrt(xs.shape[2])
        if side**2 != xs.shape[2]:
            raise ValueError(f"the weights are those of a square matrix, but {xs.shape[2]} is no square number.")
        if xs.shape[1] >= xs.shape[2]:
            return _least_squares(xs, ys)
        inverse = torch.linalg.pinv(xs)
        interpolant = (inverse @ ys[..., None]).squeeze(-1)
        free = torch.eye(xs.shape[2], dtype=xs.dtype, device=xs.device) - inverse @ xs
        solved = interpolant.clone()
        open_ = interpolant.norm(dim=-1).nonzero().flatten()  # where all labels are zero so is W
        z, dual = interpolant[open_], torch.zeros_like(interpolant[open_])
        for _ in range(self.steps):
            if not len(open_):
                break
            w = interpolant[open_] + (free[open_] @ (z - dual)[..., None]).squeeze(-1)
            size = w.norm(dim=-1, keepdim=True)
            shrunk = _shrink(w + dual, interpolant[open_].norm(dim=-1) / side, side)
            apart = torch.maximum((w - shrunk).norm(dim=-1), (shrunk - z).norm(dim=-1))
            z, dual = shrunk, dual + w - shrunk
            solved[open_] = w
            going = apart > CLOSE * size.squeeze(-1)
            open_, z, dual = open_[going], z[going], dual[going]
        return solved


def _each(solve, xs: Tensor, ys: Tensor) -> Tensor:
    """What a solver of one prompt's arrays gives, for all prompts."""
    solved = [solve(x, y) for x, y in zip(xs.cpu().numpy(), ys.cpu().numpy(), strict=True)]
    return torch.from_numpy(np.stack(solved)).to(xs)


def _least_squares(xs: Tensor, ys: Tensor) -> Tensor:
    return (torch.linalg.pinv(xs) @ ys[..., None]).squeeze(-1)


def _least_bound(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """argmin ‖w‖_∞ subject to Xw = y as a linear program in u = w + t ≥ 0 and t: the least t with u ≤ 2t."""
    dim = x.shape[1]
    sides = np.hstack([np.eye(dim), np.full((dim, 1), -2.0)])
    pairs = np.hstack([x, -x.sum(axis=1, keepdims=True)])
    found = linprog(np.append(np.zeros(dim), 1.0), A_ub=sides, b_ub=np.zeros(dim), A_eq=pairs, b_eq=y)
    if found.status != 0:
        raise ValueError(f"no weights agree with {len(x)} pairs in {dim} dimensions: {found.message}")
    return found.x[:dim] - found.x[dim]


def _shrink(vectors: Tensor, threshold: Tensor, side: int) -> Tensor:
    """The matrices [batch side·side] with every singular value lowered by the threshold [batch], to 0 at least."""
    u, values, v = torch.linalg.svd(vectors.unflatten(-1, (side, side)), full_matrices=False)
    return (u * (values - threshold[:, None]).clamp(min=0)[:, None] @ v).flatten(-2)
