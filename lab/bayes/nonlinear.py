"""Learners of functions that are not linear, fitted anew to every prefix: trees, boosted trees and small networks.

The baselines of Garg et al. (2022, "What can transformers learn in-context?", section 5) for decision trees and ReLU
networks, which have no exact answer.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from microtome.lab.bayes.refitted import Refitted


@dataclass(frozen=True)
class Tree(Refitted):
    """A regression tree grown greedily by scikit-learn; about 1 ms a fit.

    Attributes:
        max_depth: tests between root and leaf at most; None grows until every leaf is pure.
        signs: shows the learner the signs of x only, which is all that the labels of `DecisionTree` depend on.
        seed: breaks ties between equally good tests.

    Raises:
        ValueError: if the depth is below 1.
    """

    max_depth: int | None = None
    signs: bool = False
    seed: int = 0

    def __post_init__(self):
        if self.max_depth is not None and self.max_depth < 1:
            raise ValueError(f"max_depth must be at least 1, or None, not {self.max_depth}.")

    @property
    def name(self) -> str:
        depth = "" if self.max_depth is None else f" of depth {self.max_depth}"
        return f"greedy tree{depth}{' on signs' if self.signs else ''}"

    def _answer(self, xs: Tensor, ys: Tensor, query: Tensor) -> Tensor:
        from sklearn.tree import DecisionTreeRegressor  # a second to import, which only its users pay

        learner = DecisionTreeRegressor(max_depth=self.max_depth, random_state=self.seed)
        shown, asked = (xs.sign(), query.sign()) if self.signs else (xs, query)
        return _each(learner, shown, ys, asked)


@dataclass(frozen=True)
class Boosting(Refitted):
    """Boosted trees by XGBoost, an optional library; tens of milliseconds a fit.

    Attributes:
        trees: how many, at least 1.
        max_depth: of each, at least 1.
        step_size: what each tree's answer is multiplied by, above 0.
        seed: of the library.

    Raises:
        ValueError: if an attribute is out of range.
        ImportError: by `predict` and `at`, if XGBoost is not installed.
    """

    trees: int = 100
    max_depth: int = 4
    step_size: float = 0.1
    seed: int = 0

    def __post_init__(self):
        if self.trees < 1 or self.max_depth < 1:
            raise ValueError(f"trees and max_depth must be at least 1, not {self.trees} and {self.max_depth}.")
        _check_step_size(self.step_size)

    @property
    def name(self) -> str:
        return f"{self.trees} boosted trees"

    def _answer(self, xs: Tensor, ys: Tensor, query: Tensor) -> Tensor:
        try:
            from xgboost import XGBRegressor
        except ImportError as error:
            raise ImportError("boosted trees need XGBoost, which is not installed: pip install xgboost") from error

        learner = XGBRegressor(
            n_estimators=self.trees,
            max_depth=self.max_depth,
            learning_rate=self.step_size,
            random_state=self.seed,
            n_jobs=1,
        )
        return _each(learner, xs, ys, query)


@dataclass(frozen=True)
class TwoLayerNetwork(Refitted):
    """A ReLU network trained by Adam on all the pairs before a point, all prompts at once.

        ŷ = Σ_j a_j max(0, u_jᵀx + b_j) + c,   u ~ N(0, 2/d), a ~ N(0, 1/h), b = c = 0 at first

    Every prompt and prefix begins with the same weights. 1,000 steps on 64 prompts of 20 pairs take about 3 s of one
    core, of 100 pairs 13 s.

    Attributes:
        hidden: h ≥ 1.
        steps: of Adam on the mean squared error, at least 1.
        step_size: above 0.
        seed: of the first weights.

    Raises:
        ValueError: if an attribute is out of range.
    """

    hidden: int = 100
    steps: int = 1000
    step_size: float = 5e-3
    seed: int = 0

    def __post_init__(self):
        if self.hidden < 1 or self.steps < 1:
            raise ValueError(f"hidden and steps must be at least 1, not {self.hidden} and {self.steps}.")
        _check_step_size(self.step_size)

    @property
    def name(self) -> str:
        return f"two-layer network of {self.hidden}"

    def _answer(self, xs: Tensor, ys: Tensor, query: Tensor) -> Tensor:
        weights = self._first(len(xs), xs)
        descent = torch.optim.Adam(weights, lr=self.step_size)
        with torch.enable_grad():
            for _ in range(self.steps):
                descent.zero_grad()
                # The sum over prompts: Adam moves each number by itself, so that prompts do not see each other.
                (two_layers(weights, xs) - ys).square().mean(1).sum().backward()
                descent.step()
        with torch.no_grad():
            return two_layers(weights, query[:, None]).squeeze(1)

    def _first(self, batch: int, like: Tensor) -> list[Tensor]:
        """W_in [batch dim hidden], b_in [batch 1 hidden], W_out [batch hidden 1] and b_out [batch 1 1]."""
        own, dim = torch.Generator().manual_seed(self.seed), like.shape[2]
        w_in = torch.randn(dim, self.hidden, generator=own, dtype=torch.float64) * math.sqrt(2 / dim)
        w_out = torch.randn(self.hidden, 1, generator=own, dtype=torch.float64) / math.sqrt(self.hidden)
        first = [w_in, torch.zeros(1, self.hidden), w_out, torch.zeros(1, 1)]
        return [each.to(like).repeat(batch, 1, 1).requires_grad_() for each in first]


def two_layers(weights: list[Tensor], xs: Float[Tensor, "batch points dim"]) -> Float[Tensor, "batch points"]:
    """max(0, xW_in + b_in)·W_out + b_out, with W_in, b_in, W_out and b_out of each prompt."""
    w_in, b_in, w_out, b_out = weights
    return ((xs @ w_in + b_in).relu() @ w_out + b_out).squeeze(-1)


def _each(learner, xs: Tensor, ys: Tensor, query: Tensor) -> Tensor:
    """What a scikit-learn regressor says of each prompt's query, fitted to its pairs."""
    prompts = zip(xs.cpu().numpy(), ys.cpu().numpy(), query.cpu().numpy(), strict=True)
    return torch.tensor([float(learner.fit(x, y).predict(q[None])[0]) for x, y, q in prompts]).to(ys)


def _check_step_size(step_size: float) -> None:
    if not 0 < step_size < math.inf:
        raise ValueError(f"step_size must be finite and above 0, not {step_size}.")
