"""The claim of "In-context learning through the Bayesian prism" (Panwar, Ahuja & Goyal 2024): trained learners predict
like the exact posterior mean of the law that they were trained on, where that is a mixture and where it is a pool.

First part: w ~ ½N(3e₁, Σ) + ½N(−3e₁, Σ) with Σ = I but for Σ₁₁ = 1e-8, d = 3, prompts of 6 points without noise. The
posterior mean of the mixture says 0 before any pair where each component says ±3x₁, and differs from least squares
after one. The learner must follow the mixture. Second part: noisy regression, d = 3, 8 points, σ = ½. A learner of 4
tasks must follow the posterior over the four (dMMSE), a learner of fresh tasks ridge; both are asked about fresh tasks,
where the two answers lie far apart.
"""

from functools import partial

from torch import Tensor, nn

from microtome.lab import zoo
from microtome.lab.bayes import OLS, Prediction, Predictor, spd
from microtome.lab.tasks import LinearRegression
from microtome.lab.tasks.priors import GaussianMixtureRegression, TaskPool
from microtome.lab.tasks.protocol import Prompt, Task
from microtome.lab.train import InContextRegression, TrainConfig
from microtome.theory import registry
from microtome.theory.claim import Claim
from microtome.theory.claims._fitting import fit, fresh
from microtome.theory.evidence import Check, Control, Evidence
from microtome.theory.statement import Statement

SLUG = "icl_bayesian_prism"
PAPER = "Panwar, Ahuja & Goyal, In-context learning through the Bayesian prism (2024)"
DIM, POINTS, TESTED = 3, 6, 4096
MIXTURE = GaussianMixtureRegression.two_sided(DIM, 3.0)
ONE_SIDED = GaussianMixtureRegression(DIM, MIXTURE.means[:1], MIXTURE.variances[:1], (1.0,))
POOL_POINTS, NOISE = 8, 0.5
POOL, FRESH = TaskPool(DIM, 4, noise_std=NOISE), LinearRegression(DIM, noise_std=NOISE)
MIXTURE_STEPS = {"quick": 300, "full": 3000}
POOL_STEPS = {"quick": 300, "full": 2500}

FOLLOWS_MIXTURE = Statement(
    name="learners of a mixture follow its posterior mean",
    text="Trained on a mixture of two Gaussians the learner is nearest to the posterior mean of the mixture: its "
    "squared distance to it is at most 0.3 of that to the posterior mean of the prompt's own component after no pair "
    "and after one, and at most 0.3 of that to least squares after one.",
    hypotheses=(
        "d = 3, means ±3e₁, covariance I but for 1e-8 along e₁, no noise, 6 points",
        "3 layers, width 32, 2 heads, AdamW 3e-3",
        f"{MIXTURE_STEPS['full']:,} steps of 64 prompts ({MIXTURE_STEPS['quick']} at the quick budget)",
        "mean squared distance over fresh prompts of the mixture",
    ),
    source=f"{PAPER}, section 4, Gaussian mixture models",
    slug=SLUG,
)
DIVERSITY = Statement(
    name="few tasks are memorised, many are not",
    text="Trained on a pool of four tasks the learner is at least twice nearer to the posterior mean over the pool "
    "(dMMSE) than to ridge; trained on fresh tasks it is at least twice nearer to ridge.",
    hypotheses=(
        "d = 3, 8 points, σ = ½, tasks N(0, I)",
        "3 layers, width 32, 2 heads, AdamW 3e-3",
        f"{POOL_STEPS['full']:,} steps of 64 prompts ({POOL_STEPS['quick']} at the quick budget)",
        "mean squared distance over all context lengths on prompts of fresh tasks, divided by d",
    ),
    source=f"{PAPER}, section 6, task diversity",
    slug=SLUG,
)
WHOLE = Statement(
    name="in-context learners are Bayesian",
    text="Trained learners follow the posterior mean of their training law, over mixtures and over pools of tasks.",
    hypotheses=("as in its parts",),
    source=PAPER,
    slug=SLUG,
)


def learner(task: Task, points: int, steps: int, seed: int) -> nn.Module:
    """A small learner trained on one law."""
    model = zoo.sequence(dim=DIM, d_model=32, n_layers=3, n_heads=2, n_ctx=2 * points, seed=seed)
    config = TrainConfig(
        steps=steps,
        lr=3e-3,
        warmup=0.2,
        schedule="cosine",
        optimizer="adamw",
        betas=(0.9, 0.98),
        seed=seed,
        checkpoint_every=steps,
    )
    fit(model, InContextRegression(task, batch=64, points=points), config)
    return model


def own_component(prompt: Prompt) -> Prediction:
    """The posterior mean of the component that each prompt came from."""
    said = [component.predict(prompt.xs, prompt.ys).mean for component in MIXTURE.bayes().components]
    first = (prompt.latents["component"] == 0)[:, None]
    return Prediction(said[0].where(first, said[1]))


def distances(model: Predictor, seed: int) -> dict[str, Tensor]:
    """Mean squared distance to each answer at every context length [points], on prompts of the mixture."""
    prompt = MIXTURE.sample(TESTED, POINTS, fresh(seed))
    said = model.predict(prompt.xs, prompt.ys)
    answers = {
        "mixture": MIXTURE.bayes().predict(prompt.xs, prompt.ys),
        "own": own_component(prompt),
        "ols": OLS().predict(prompt.xs, prompt.ys),
    }
    return {name: spd(said, answer, 1) for name, answer in answers.items()}


def pool_distances(model: Predictor, task: Task, seed: int) -> dict[str, Tensor]:
    """Mean squared distance to dMMSE and to ridge, divided by d, at every context length [points]."""
    prompt = task.sample(TESTED, POOL_POINTS, fresh(seed))
    said = model.predict(prompt.xs, prompt.ys)
    answers = {"dmmse": POOL.bayes(), "ridge": FRESH.bayes()}
    return {name: spd(said, answer.predict(prompt.xs, prompt.ys), DIM) for name, answer in answers.items()}


def _follows_mixture(budget: str, seed: int) -> tuple[Evidence, dict[str, Tensor]]:
    train = partial(learner, points=POINTS, steps=MIXTURE_STEPS[budget], seed=seed)
    found = distances(train(MIXTURE), seed)
    one_sided = distances(train(ONE_SIDED), seed)
    checks = _mixture_checks(found)
    evidence = Evidence(
        kind="empirical",
        statement=FOLLOWS_MIXTURE,
        checks=checks,
        control=Control("a learner of one component, on prompts of both", _mixture_checks(one_sided)),
        seed=seed,
        budget=budget,
        decided=budget == "full" or all(check.passes for check in checks),
        notes="; ".join(
            f"k={k}: " + ", ".join(f"{name} {curve[k]:.3f}" for name, curve in found.items()) for k in range(POINTS)
        )
        + f"; {MIXTURE_STEPS[budget]} steps.",
    )
    return evidence, found


def _mixture_checks(found: dict[str, Tensor]) -> tuple[Check, ...]:
    pairs = (("own", 0), ("own", 1), ("ols", 1))
    names = {"own": "own component", "ols": "least squares"}
    return tuple(
        Check(
            f"distance to the mixture over that to {names[other]}, k = {k}",
            (found["mixture"][k] / found[other][k]).item(),
            "<=",
            0.3,
        )
        for other, k in pairs
    )


def _diversity(budget: str, seed: int) -> tuple[Evidence, dict[str, dict[str, Tensor]]]:
    train = partial(learner, points=POOL_POINTS, steps=POOL_STEPS[budget], seed=seed)
    learners = {"M = 4": train(POOL), "M = ∞": train(FRESH)}
    found = {name: pool_distances(model, FRESH, seed) for name, model in learners.items()}
    at_home = pool_distances(learners["M = 4"], POOL, seed)
    checks = _pool_checks(found)
    swapped = dict(zip(found, reversed(found.values()), strict=True))
    evidence = Evidence(
        kind="empirical",
        statement=DIVERSITY,
        checks=checks,
        control=Control("the two learners swapped", _pool_checks(swapped)),
        seed=seed,
        budget=budget,
        decided=budget == "full" or all(check.passes for check in checks),
        notes="; ".join(f"{name}: {_means(curves)}" for name, curves in found.items())
        + f"; M = 4 on prompts of its own tasks: {_means(at_home)}; {POOL_STEPS[budget]} steps.",
    )
    return evidence, found


def _pool_checks(found: dict[str, dict[str, Tensor]]) -> tuple[Check, ...]:
    few, many = (curves["ridge"].mean() / curves["dmmse"].mean() for curves in found.values())
    return (
        Check("M = 4: distance to ridge over that to dMMSE", few.item(), ">=", 2.0),
        Check("M = ∞: distance to dMMSE over that to ridge", (1 / many).item(), ">=", 2.0),
    )


def _means(curves: dict[str, Tensor]) -> str:
    return ", ".join(f"{name} {curve.mean():.3f}" for name, curve in curves.items())


def _draw(found: dict[str, Tensor], pools: dict[str, dict[str, Tensor]]) -> object:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.3), layout="constrained")
    left, right = figure.subplots(1, 2)
    _draw_mixture(left, found)
    _draw_pools(right, pools)
    return figure


def _draw_mixture(axes, found: dict[str, Tensor]) -> None:
    styles = {
        "mixture": ("o-", "posterior mean of the mixture"),
        "own": ("s--", "… of the prompt's own component"),
        "ols": ("^:", "least squares"),
    }
    for name, curve in found.items():
        style, label = styles[name]
        axes.semilogy(range(len(curve)), curve, style, label=label)
    axes.set(xlabel="pairs before, k", ylabel="squared distance of the learner", title="A mixture of two Gaussians")
    axes.set_ylim(top=3 * max(curve.max() for curve in found.values()))
    axes.legend(fontsize="small", title="to the", title_fontsize="small")


def _draw_pools(axes, pools: dict[str, dict[str, Tensor]]) -> None:
    names = {"dmmse": "dMMSE, the posterior mean over 4 tasks", "ridge": "ridge, that over all tasks"}
    for offset, (answer, label) in zip((-0.2, 0.2), names.items(), strict=True):
        heights = [curves[answer].mean().item() for curves in pools.values()]
        bars = axes.bar([i + offset for i in range(len(heights))], heights, 0.4, label=label)
        axes.bar_label(bars, fmt="%.3f", fontsize="small")
    axes.set(
        xlabel="training tasks",
        ylabel="squared distance of the learner / d",
        title="Few tasks or many",
        xticks=range(len(pools)),
        xticklabels=list(pools),
    )
    axes.set_ylim(top=1.5 * axes.get_ylim()[1])
    axes.legend(fontsize="small", title="to", title_fontsize="small")


def _gather(budget: str, seed: int) -> Evidence:
    derived = tuple(registry.run_all(slug=SLUG, budget=budget, seed=seed))
    (mixture, found), (diversity, pools) = _follows_mixture(budget, seed), _diversity(budget, seed)
    return Evidence(
        kind="empirical",
        statement=WHOLE,
        seed=seed,
        budget=budget,
        parts=(*derived, mixture, diversity),
        figure=lambda: _draw(found, pools),
    )


CLAIM = Claim(WHOLE, "empirical", _gather)
