"""The claim of "Distribution Transformers: Fast Approximate Bayesian Inference With On-The-Fly Prior Adaptation"
(Whittle et al. 2025): a small network given a prior and an observation answers with the posterior, whatever the prior,
and its answers serve as the next priors of a filter.

x is one-dimensional, z = x + N(0, 1), and the prior a mixture of two normals: weights uniform, means N(0, 1),
precisions 0.05 + an exponential of mean 2. The falsifier is the same network trained on the one prior
½N(−1.5, 0.36) + ½N(1.5, 0.36): it answers well there and nowhere else.
"""

import math
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from microtome.lab import zoo
from microtome.lab.bayes.densities import information_gain, log_density_gap
from microtome.lab.bayes.gaussian_mixture import GaussianMixture
from microtome.lab.bayes.linear_gaussian import LinearMotion, filtered, posterior
from microtome.lab.tasks.distributions import ConjugateMixtures, FixedMixture, LinearGaussian, Problem
from microtome.lab.tasks.distributions.mixtures import UNIT
from microtome.lab.train import TrainConfig
from microtome.lab.train.distribution import PosteriorMatching
from microtome.lab.zoo.contract import HookedModel
from microtome.theory import registry
from microtome.theory.claim import Claim
from microtome.theory.claims._distribution_figures import (
    draw_chain,
    draw_distances,
    draw_posterior,
    legend_below,
    row,
)
from microtome.theory.claims._fitting import fit, fresh
from microtome.theory.evidence import Check, Control, Evidence
from microtome.theory.statement import Statement

SLUG = "distribution_transformers"
PAPER = "Whittle et al., Distribution Transformers (2025)"
RANDOM = LinearGaussian(ConjugateMixtures(2, concentration=1.0, floor=0.05))
OWN = FixedMixture((0.5, 0.5), ((-1.5,), (1.5,)), (((0.36,),), ((0.36,),)))
FIXED = LinearGaussian(OWN)
MOTION = LinearMotion(((0.9,),), ((math.sqrt(0.19),),))
STEPS = {"quick": 200, "full": 1500}
PROBLEMS, CHAINS, LENGTH = 20_000, 2_000, 20

_SIZES = "K = 2, D = 1; 2 layers, d = 32, 4 heads, FFN 64; AdamW 2e-3, cosine"
_TRAINED = "1,500 steps of 256 problems; 200 at the quick budget, which cannot refute"
ADAPTS = Statement(
    name="one network for every prior",
    text="On priors that it never saw the network's posterior is within 0.03 nats of the exact one; trained on one "
    "prior it is within 0.02 there and at least ten times further on others.",
    hypotheses=(_SIZES, _TRAINED, f"mean of log exact − log network at the true x, {PROBLEMS:,} fresh problems"),
    source=f"{PAPER}, section 5, closed-form experiment",
    slug=SLUG,
)
FILTERS = Statement(
    name="its posteriors are the next priors",
    text="Fed its own posteriors through 20 steps of x' = 0.9x + N(0, 0.19), the network's means stay within 0.25 "
    "exact posterior standard deviations of the exact filter's at every step and its density within 0.03 nats on "
    "average; the network of one prior goes beyond 1 standard deviation.",
    hypotheses=(_SIZES, _TRAINED, f"root mean square over {CHAINS:,} chains", "the prediction between steps is exact"),
    source=f"{PAPER}, section 5, sequential inference",
    slug=SLUG,
)
WHOLE = Statement(
    name="a transformer from prior and data to posterior",
    text="A network trained on draws alone maps a prior and data to the posterior, for priors given at run time.",
    hypotheses=("as in its parts",),
    source=PAPER,
    slug=SLUG,
)


@dataclass(frozen=True)
class Chain:
    """A filter on chains of readings.

    Attributes:
        laws: the law of x_t given the readings up to t, for each t, of batch shape [batch].
        truth: x_t, [time batch 1].
    """

    laws: list[GaussianMixture]
    truth: Float[Tensor, "time batch 1"]

    @property
    def means(self) -> Float[Tensor, "time batch"]:
        return torch.stack([law.mean[:, 0] for law in self.laws])

    @property
    def stds(self) -> Float[Tensor, "time batch"]:
        return torch.stack([law.covariance[:, 0, 0].sqrt() for law in self.laws])

    def behind(self, exact: "Chain") -> Float[Tensor, "time batch"]:
        """log exact − log this at the true x, in nats."""
        return torch.stack(
            [log_density_gap(p, q, x) for p, q, x in zip(exact.laws, self.laws, self.truth, strict=True)]
        )

    def astray(self, exact: "Chain") -> Float[Tensor, " time"]:
        """Root mean square over chains of (mean − exact mean)/exact standard deviation."""
        return ((self.means - exact.means) / exact.stds).square().mean(1).sqrt()


def network(task: LinearGaussian, steps: int, seed: int) -> HookedModel:
    """The claim's network after training on a task."""
    model = zoo.build(SLUG, d_model=32, n_layers=2, n_heads=4, d_mlp=64, seed=seed)
    config = TrainConfig(
        steps=steps,
        lr=2e-3,
        warmup=0.05,
        schedule="cosine",
        optimizer="adamw",
        seed=seed,
        checkpoint_every=steps,
    )
    fit(model, PosteriorMatching(task, 256), config)
    return model


def answer(model: HookedModel, prior: GaussianMixture, readings: tuple[Tensor, ...]) -> GaussianMixture:
    """The network's posterior, in float64."""
    return model.posterior(prior, *readings).to(torch.float64)


def gaps(model: HookedModel, task: LinearGaussian, problem: Problem) -> Float[Tensor, " batch"]:
    """log exact posterior − log the network's, at the true x."""
    return log_density_gap(task.posterior(problem), answer(model, problem.prior, problem.observations), problem.target)


def chains(seed: int, count: int = CHAINS) -> tuple[Float[Tensor, "time batch 1"], list[tuple[Tensor]]]:
    """True states and what was read of them."""
    generator = fresh(seed)
    states = [OWN.mixture.sample(generator, count)]
    for _ in range(LENGTH - 1):
        states.append(MOTION.sample(states[-1], generator))
    truth = torch.stack(states)
    return truth, [(UNIT[0].sample(x, generator)[:, None],) for x in truth]


def run_filters(models: dict[str, HookedModel], seed: int, count: int = CHAINS) -> dict[str, Chain]:
    """The exact filter and one of each network, on the same chains."""
    truth, readings = chains(seed, count)
    start = OWN.mixture
    prior = GaussianMixture(*(p.expand(count, *p.shape) for p in (start.log_weights, start.means, start.scale_trils)))
    updates = {"exact": lambda law, z: posterior(law, UNIT, z)}
    updates |= {name: partial(answer, model) for name, model in models.items()}
    return {name: Chain(filtered(prior, MOTION, update, readings), truth) for name, update in updates.items()}


def _adapts(models: dict[str, HookedModel], budget: str, seed: int) -> Evidence:
    problem = RANDOM.sample(PROBLEMS, fresh(seed), dtype=torch.float64)
    own = FIXED.sample(PROBLEMS, fresh(seed), dtype=torch.float64)
    found = {name: gaps(model, RANDOM, problem) for name, model in models.items()}
    at_home = gaps(models["one prior"], FIXED, own)
    gain = information_gain(problem.prior, RANDOM.posterior(problem), problem.target)
    mean = {name: gap.mean().item() for name, gap in found.items()}
    name = "gap on random priors, nats"
    checks = (
        Check(name, mean["every prior"], "<=", 0.03),
        Check("gap of the network of one prior there, over it", mean["one prior"] / mean["every prior"], ">=", 10),
        Check("gap of the network of one prior on its own, nats", at_home.mean().item(), "<=", 0.02),
    )
    error = {name: (gap.std() / math.sqrt(PROBLEMS)).item() for name, gap in found.items()}
    return Evidence(
        kind="empirical",
        statement=ADAPTS,
        checks=checks,
        control=Control("the network trained on one prior", (Check(name, mean["one prior"], "<=", 0.03),)),
        seed=seed,
        budget=budget,
        decided=budget == "full" or all(check.passes for check in checks),
        notes=f"Gap {mean['every prior']:.4f} ± {error['every prior']:.4f}, of the network of one prior "
        f"{mean['one prior']:.3f} ± {error['one prior']:.3f}, where the exact posterior gains {gain.mean():.3f} nats "
        f"on the prior; {STEPS[budget]} steps.",
        figure=lambda: draw_posteriors(models["every prior"], seed),
    )


def _filters(models: dict[str, HookedModel], budget: str, seed: int) -> Evidence:
    ran = run_filters(models, seed)
    exact = ran["exact"]
    astray = {name: ran[name].astray(exact) for name in models}
    behind = {name: ran[name].behind(exact).mean(1) for name in models}
    distance, late = "largest distance of the means over steps, exact sd", "gap averaged over steps, nats"

    def bounds(name: str) -> tuple[Check, ...]:
        return (
            Check(distance, astray[name].max().item(), "<=", 0.25),
            Check(late, behind[name].mean().item(), "<=", 0.03),
        )

    others = Check("the same of the network of one prior", astray["one prior"].max().item(), ">", 1.0)
    checks = (*bounds("every prior"), others)
    return Evidence(
        kind="empirical",
        statement=FILTERS,
        checks=checks,
        control=Control("the network trained on one prior", bounds("one prior")),
        seed=seed,
        budget=budget,
        decided=budget == "full" or all(check.passes for check in checks),
        notes="Distance by step in exact sd: "
        + "; ".join(f"trained on {name} {far.min():.3f} to {far.max():.3f}" for name, far in astray.items())
        + f"; largest gap of a step {behind['every prior'].max():.4f} nats; {STEPS[budget]} steps of training.",
        figure=lambda: draw_filter(models, seed),
    )


def draw_posteriors(model: HookedModel, seed: int) -> object:
    """Prior, exact posterior and the network's for three problems."""
    problem = RANDOM.sample(3, fresh(seed + 1), dtype=torch.float64)
    exact, said = RANDOM.posterior(problem), answer(model, problem.prior, problem.observations)
    figure, panels = row(3, 8.0, "Three priors never seen in training")
    for i, axes in enumerate(panels):
        draw_posterior(axes, problem.prior[i], exact[i], said[i], problem.observations[0][i].item())
    legend_below(figure, panels[:1])
    return figure


def draw_filter(models: dict[str, HookedModel], seed: int) -> object:
    """One posterior, means along one chain, and how far the means of 500 chains are from the exact ones."""
    problem = RANDOM.sample(3, fresh(seed + 1), dtype=torch.float64)
    exact, said = RANDOM.posterior(problem), answer(models["every prior"], problem.prior, problem.observations)
    figure, (density, path, distance) = row(3, 9.0)
    draw_posterior(density, problem.prior[1], exact[1], said[1], problem.observations[0][1].item())
    density.set(title="a prior never seen in training")
    ran = run_filters(models, seed, 500)
    true = ran["exact"]
    draw_chain(path, true.means[:, 0], true.stds[:, 0], {name: ran[name].means[:, 0] for name in models})
    draw_distances(distance, {name: ran[name].astray(true) for name in models}, 0.25)
    legend_below(figure, (density, path))
    return figure


def _gather(budget: str, seed: int) -> Evidence:
    exact = tuple(registry.run_all(slug=SLUG, budget=budget, seed=seed))
    tasks = {"every prior": RANDOM, "one prior": FIXED}
    models = {name: network(task, STEPS[budget], seed) for name, task in tasks.items()}
    trained = (_adapts(models, budget, seed), _filters(models, budget, seed))
    return Evidence(
        kind="empirical",
        statement=WHOLE,
        seed=seed,
        budget=budget,
        parts=(*exact, *trained),
        figure=trained[1].figure,
    )


CLAIM = Claim(WHOLE, "empirical", _gather)
