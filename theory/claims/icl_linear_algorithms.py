"""The claim of "What learning algorithm is in-context learning?" (Akyürek et al. 2023): a trained learner predicts like
ridge regression at the noise level that it was trained under, and weights exist that carry out gradient descent and
ridge regression exactly.

The trained part: d = 2, prompts of 6 points, 3 layers 32 wide, learning rate 3e-3, 3,000 steps of 64 prompts, at noise
σ = ½ and σ = 0. Over the context lengths 1 ≤ k < d, which of the ridge predictors λ ∈ {1e-6, 1/16, ¼, 1, 4} is nearest?
"""

from torch import nn

from microtome.lab import zoo
from microtome.lab.bayes import Ridge
from microtome.lab.bayes.measures import mspd
from microtome.lab.tasks import LinearRegression
from microtome.lab.train import InContextRegression, TrainConfig
from microtome.theory import registry
from microtome.theory.claim import Claim
from microtome.theory.claims._fitting import fit, fresh
from microtome.theory.evidence import Check, Control, Evidence
from microtome.theory.statement import Statement

SLUG = "icl_linear_algorithms"
PAPER = "Akyürek et al., What learning algorithm is in-context learning? Investigations with linear models (2023)"
DIM, POINTS = 2, 6
LAMBDAS = (1e-6, 1 / 16, 1 / 4, 1.0, 4.0)
STEPS = {"quick": 1000, "full": 3000}

NEAREST = Statement(
    name="nearest ridge is Bayes' own",
    text="Trained at noise σ = ½ the learner is nearest to ridge with λ = ¼ = σ²/τ², trained without noise to "
    "λ → 0, each at least twice nearer than to λ = 1.",
    hypotheses=(
        "d = 2, 6 points, 3 layers, width 32, 2 heads, AdamW 3e-3",
        "3,000 steps of 64 prompts; 1,000 at the quick budget, which cannot refute",
        "mean squared prediction difference over context lengths 1 ≤ k < d on fresh prompts, divided by d",
    ),
    source=f"{PAPER}, section 4.3, figure 2",
    slug=SLUG,
)
WHOLE = Statement(
    name="in-context learners implement known algorithms",
    text="A trained learner predicts like the Bayesian ridge regression of its training law, and explicit weights "
    "carry out gradient descent and ridge regression.",
    hypotheses=("as in its parts",),
    source=PAPER,
    slug=SLUG,
)


def learner(noise_std: float, steps: int, seed: int) -> nn.Module:
    """A small learner trained at one noise level."""
    model = zoo.sequence(
        dim=DIM,
        norm={"name": "layernorm", "placement": "stream", "final": False},
        d_model=32,
        n_layers=3,
        n_heads=2,
        n_ctx=2 * POINTS,
        seed=seed,
    )
    objective = InContextRegression(LinearRegression(DIM, noise_std=noise_std), batch=64, points=POINTS)
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
    fit(model, objective, config)
    return model


def distances(model: nn.Module, noise_std: float, seed: int) -> dict[float, float]:
    """Mean squared prediction difference between the learner and each ridge, on 4,096 prompts of the noise level."""
    prompt = LinearRegression(DIM, noise_std=noise_std).sample(4096, POINTS, fresh(seed))
    said = model.predict(prompt.xs, prompt.ys)
    return {lam: mspd(said, Ridge(lam).predict(prompt.xs, prompt.ys), DIM).item() for lam in LAMBDAS}


def _nearest(budget: str, seed: int) -> Evidence:
    noisy, clean = (learner(sigma, STEPS[budget], seed) for sigma in (0.5, 0.0))
    own = {0.25: distances(noisy, 0.5, seed), 1e-6: distances(clean, 0.0, seed)}
    swapped = {0.25: distances(clean, 0.5, seed), 1e-6: distances(noisy, 0.0, seed)}
    return Evidence(
        kind="empirical",
        statement=NEAREST,
        checks=_checks(own),
        control=Control("the two learners swapped", _checks(swapped)),
        seed=seed,
        budget=budget,
        decided=budget == "full" or all(c.passes for c in _checks(own)),
        notes="; ".join(
            f"σ²={lam if lam > 1e-3 else 0:g}: " + ", ".join(f"λ={other:g} {d:.4f}" for other, d in row.items())
            for lam, row in own.items()
        )
        + f"; {STEPS[budget]} steps.",
        figure=lambda: _draw(own),
    )


def _checks(found: dict[float, dict[float, float]]) -> tuple[Check, ...]:
    checks = []
    for lam, row in found.items():
        law = "σ = ½" if lam == 0.25 else "σ = 0"
        others = min(d for other, d in row.items() if other != lam)
        checks.append(Check(f"{law}: distance to its own ridge over the nearest other", row[lam] / others, "<", 1.0))
        checks.append(Check(f"{law}: distance to its own ridge over that to λ = 1", row[lam] / row[1.0], "<=", 0.5))
    return tuple(checks)


def _draw(own: dict[float, dict[float, float]]):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    for lam, row in own.items():
        label = "trained at σ = ½" if lam == 0.25 else "trained at σ = 0"
        (line,) = axes.plot(list(row), list(row.values()), "o-", label=label)
        axes.axvline(lam, color=line.get_color(), linestyle=":", linewidth=1)
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="λ of the ridge predictor (dotted: Bayes' own)",
        ylabel="squared prediction difference / d",
        title="Which ridge regression does the learner follow?",
    )
    axes.legend(fontsize="small")
    return figure


def _gather(budget: str, seed: int) -> Evidence:
    constructions = tuple(registry.run_all(slug=SLUG, budget=budget, seed=seed))
    trained = _nearest(budget, seed)
    return Evidence(
        kind="empirical",
        statement=WHOLE,
        seed=seed,
        budget=budget,
        parts=(*constructions, trained),
        figure=trained.figure,
    )


CLAIM = Claim(WHOLE, "empirical", _gather)
