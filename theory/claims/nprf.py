"""The claim of "Stable, Fast and Accurate" (Luo et al. 2021): normalised random features are stable, the Fourier
transform makes relative positions cheap, and relative positions make the method accurate.

The first two are checks of `theory/statements/nprf_numeric`. The third trains one layer to copy the previous token,
with b and without: normalised features alone cannot single out one of 128 positions.
"""

import torch

from microtome.lab import zoo
from microtome.lab.tasks.previous_token import PreviousToken
from microtome.lab.train import TokenPrediction, TrainConfig
from microtome.lab.zoo.transformer import SequenceModel
from microtome.theory import registry
from microtome.theory.claim import Claim
from microtome.theory.claims._fitting import fit, fresh
from microtome.theory.evidence import Check, Control, Evidence
from microtome.theory.statement import Statement

SLUG = "nprf"
PAPER = "Luo et al., Stable, Fast and Accurate: Kernelized Attention with Relative Positional Encoding (2021)"
TASK = PreviousToken(vocab=4, length=128)
STEPS = 120

ACCURATE = Statement(
    name="relative positions make it accurate",
    text="One layer with b copies the previous token with accuracy at least 0.95, and at most 0.4 without b.",
    hypotheses=(
        f"n = {TASK.length}, {TASK.vocab} tokens, d = m = 16, one head, bidirectional, no feed-forward",
        f"{STEPS} steps of 16 sequences, Adam 3e-2",
    ),
    source=f"{PAPER}, ablation of relative positions",
    slug=SLUG,
)
WHOLE = Statement(
    name="kernelised attention with relative positions is stable, fast and accurate",
    text="Unit length bounds the features' variance, e^b restores the sharpness, and the transform makes it cheap.",
    hypotheses=("as in its parts",),
    source=PAPER,
    slug=SLUG,
)


def trained(with_b: bool, seed: int, steps: int = STEPS) -> SequenceModel:
    """One layer after training; without b its relative positions stay at zero."""
    model = zoo.sequence(
        d_vocab=TASK.d_vocab,
        mixer={"name": "nprf", "features": 16},
        position="none",
        norm="none",
        feedforward="none",
        d_model=16,
        n_layers=1,
        n_heads=1,
        n_ctx=TASK.length,
        causal=False,
        seed=seed,
    )
    model.blocks[0].attn.b.requires_grad_(with_b)
    config = TrainConfig(steps=steps, lr=3e-2, seed=seed, checkpoint_every=steps)
    fit(model, TokenPrediction(TASK, 16), config)
    return model


@torch.no_grad()
def accuracy(model: SequenceModel, seed: int) -> float:
    """Share of previous tokens found in 128 fresh sequences."""
    batch = TASK.sample(128, fresh(seed))
    right = (model(batch.tokens).argmax(-1) == batch.targets) * batch.weights
    return (right.sum() / batch.weights.sum()).item()


def _accurate(budget: str, seed: int) -> tuple[Evidence, dict[str, SequenceModel]]:
    models = {"with b": trained(True, seed), "without b": trained(False, seed)}
    found = {name: accuracy(model, seed) for name, model in models.items()}
    name = "accuracy with b"
    evidence = Evidence(
        kind="empirical",
        statement=ACCURATE,
        checks=(
            Check(name, found["with b"], ">=", 0.95),
            Check("accuracy without b", found["without b"], "<=", 0.4),
        ),
        control=Control("b kept at zero", (Check(name, found["without b"], ">=", 0.95),)),
        seed=seed,
        budget=budget,
        notes=f"A guess is right with odds {1 / TASK.vocab:.2f}.",
    )
    return evidence, models


def _gather(budget: str, seed: int) -> Evidence:
    measured = tuple(registry.run_all(slug=SLUG, budget=budget, seed=seed))
    accurate, models = _accurate(budget, seed)
    return Evidence(
        kind="empirical",
        statement=WHOLE,
        seed=seed,
        budget=budget,
        parts=(*measured, accurate),
        figure=lambda: _draw(models, accurate, seed),
        notes="Both budgets run the same checks.",
    )


def _draw(models: dict[str, SequenceModel], accurate: Evidence, seed: int):
    from microtome.lab.report.style import drawing

    tokens = TASK.sample(1, fresh(seed)).tokens
    shown = slice(40, 64)
    name = "blocks.0.attn.hook_effective_pattern"
    with drawing(9.0, 3.4) as figure:
        panels = figure.subplots(1, 3)
        for axes, (title, model), found in zip(panels, models.items(), accurate.checks, strict=False):
            pattern = model.run_with_cache(tokens, names_filter=name)[1][name][0, 0].numpy()
            image = axes.imshow(pattern[shown, shown], cmap="viridis", extent=(40, 64, 64, 40))
            axes.set(title=f"{title}: accuracy {found.measured:.2f}", xlabel="key", ylabel="query")
            axes.grid(False)
            figure.colorbar(image, ax=axes, shrink=0.8)
        b = models["with b"].blocks[0].attn.b.detach()[0]
        offsets = torch.arange(1 - TASK.length, TASK.length)
        near = offsets.abs() <= 12
        panels[2].plot(offsets[near].numpy(), b[near].numpy(), "o-")
        panels[2].set(xlabel="offset, key − query", ylabel="b", title="learned relative positions")
        return figure


CLAIM = Claim(WHOLE, "empirical", _gather)
