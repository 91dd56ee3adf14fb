"""The laboratory's exact answer to a mixture against integration of Bayes' rule, and large pools against ridge.

Source: Panwar, Ahuja & Goyal, "In-context learning through the Bayesian prism" (2024).
"""

import torch
from torch import Tensor

from microtome.lab.bayes import Ridge, mspd
from microtome.lab.tasks import LinearRegression
from microtome.lab.tasks.priors import GaussianMixtureRegression, TaskPool
from microtome.theory.claim import Claim
from microtome.theory.evidence import Check, Control, Evidence
from microtome.theory.statement import Statement

_PAPER = "Panwar, Ahuja & Goyal, In-context learning through the Bayesian prism (2024)"
_SLUG = "icl_bayesian_prism"
_TASK = GaussianMixtureRegression(1, ((1.5,), (-1.0,)), ((0.3,), (0.8,)), (0.3, 0.7), noise_std=0.5)
_POOLS = (16, 4096)

WEIGHING = Statement(
    name="the answer to a mixture is E[w | pairs]·x",
    text="Σ β_i ŷ_i with β from the sequential predictive densities is ∫ wx p(w) Π p(y_j | w) dw over "
    "∫ p(w) Π p(y_j | w) dw.",
    hypotheses=(
        "one weight, two Gaussian components, σ = ½",
        "up to 7 pairs",
        "trapezoid rule on 8,001 points of [−9, 9]",
    ),
    source=f"{_PAPER}, the posterior mean of Gaussian mixtures",
    slug=_SLUG,
)
POOLS = Statement(
    name="large pools become ridge",
    text="The squared distance of dMMSE from ridge with λ = σ²/τ² falls at least with the root of the pool's size: "
    "from 16 to 4,096 tasks by a factor of 16 or more.",
    hypotheses=("d = 2, σ = ½, τ = 1", "128 prompts of fresh tasks", "one pool of each size"),
    source=f"{_PAPER}, task diversity",
    slug=_SLUG,
)


def integrated(xs: Tensor, ys: Tensor) -> Tensor:
    """E[w | pairs before]·x by the trapezoid rule, [batch points]."""
    w = torch.linspace(-9, 9, 8001, dtype=torch.float64)
    parts = zip(_TASK.weights, _TASK.means, _TASK.variances, strict=True)
    prior = sum(a * torch.distributions.Normal(m[0], v[0] ** 0.5).log_prob(w).exp() for a, m, v in parts)
    scores = -0.5 * ((ys[..., None] - xs * w) / _TASK.noise_std).square()
    seen = torch.cat([torch.zeros_like(scores[:, :1]), scores[:, :-1].cumsum(1)], dim=1)
    density = (seen - seen.amax(-1, keepdim=True)).exp() * prior
    return torch.trapezoid(density * w, w) / torch.trapezoid(density, w) * xs[..., 0]


def _weighing(budget: str, seed: int) -> Evidence:
    prompt = _TASK.sample(20, 8, torch.Generator().manual_seed(seed), dtype=torch.float64)
    exact = _TASK.bayes()
    wanted = integrated(prompt.xs, prompt.ys)
    unweighed = torch.stack([part.predict(prompt.xs, prompt.ys).mean for part in exact.components], -1)
    unweighed = (unweighed * torch.tensor(_TASK.weights, dtype=torch.float64)).sum(-1)
    name = "largest difference from the integral"

    def check(mean: Tensor) -> tuple[Check, ...]:
        return (Check(name, (mean - wanted).abs().max().item(), "<=", 1e-6),)

    return Evidence(
        kind="numeric",
        statement=WEIGHING,
        checks=check(exact.predict(prompt.xs, prompt.ys).mean),
        control=Control("the components weighed by α, not β", check(unweighed)),
        seed=seed,
        budget=budget,
        notes="What differs is the jitter of 1e-4 in the weighing, which adds 1e-8 to the variance of a label.",
    )


def _pools(budget: str, seed: int) -> Evidence:
    prompt = LinearRegression(2, noise_std=0.5).sample(128, 8, torch.Generator().manual_seed(seed), dtype=torch.float64)
    answers = [TaskPool(2, tasks, noise_std=0.5, seed=seed).bayes().predict(prompt.xs, prompt.ys) for tasks in _POOLS]

    def check(lam: float) -> tuple[Check, ...]:
        first, last = (mspd(answer, Ridge(lam).predict(prompt.xs, prompt.ys), 2).item() for answer in answers)
        return (Check(f"distance for {_POOLS[0]} tasks over that for {_POOLS[-1]:,}", first / last, ">=", 16.0),)

    return Evidence(
        kind="numeric",
        statement=POOLS,
        checks=check(0.25),
        control=Control("ridge with λ = 4", check(4.0)),
        seed=seed,
        budget=budget,
    )


CLAIMS = (Claim(WEIGHING, "numeric", _weighing), Claim(POOLS, "numeric", _pools))
