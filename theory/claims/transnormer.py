"""The claim of "The Devil in Linear Transformer" (Qin et al. 2022): the denominator of linear attention makes its
gradients explode, a norm in its place does not; and linear attention dilutes what is near, local layers below restore
it.

The first is checked in `theory/statements/transnormer_numeric` and `…_symbolic`. For the second, four layers read the
sources of the standard library character by character: DiagAttention below NormAttention, NormAttention throughout,
linear attention with its denominator throughout, and the hybrid upside down, which is reported only: at this size it
stays within a few hundredths of a nat of the paper's order, and meets the bounds as well.
"""

import torch.nn.functional as F

from microtome.lab import zoo
from microtome.lab.tasks.source_text import SourceText
from microtome.lab.train import TokenPrediction, TrainConfig
from microtome.lab.zoo.depth import by_layer
from microtome.lab.zoo.mixers import diag_attention, linear_attention, norm_attention
from microtome.theory import registry
from microtome.theory.claim import Claim
from microtome.theory.claims._fitting import fit, fresh, loss_on_fresh
from microtome.theory.evidence import Check, Control, Evidence
from microtome.theory.statement import Statement
from microtome.theory.statements.transnormer_numeric import by_norm, by_sum, gradient_norms

SLUG = "transnormer"
PAPER = "Qin et al., The Devil in Linear Transformer (2022)"
LENGTH, STEPS = 128, 120

_LOCAL, _LINEAR, _SCALED = diag_attention.Part(block=16), norm_attention.Part(), linear_attention.Part()
HYBRID, NORMED, SCALED, REVERSED = "local then linear", "all NormAttention", "all scaled linear", "linear then local"
MIXERS = {
    HYBRID: (_LOCAL, _LOCAL, _LINEAR, _LINEAR),
    NORMED: (_LINEAR,) * 4,
    SCALED: (_SCALED,) * 4,
    REVERSED: (_LINEAR, _LINEAR, _LOCAL, _LOCAL),
}

DILUTION = Statement(
    name="local layers below undo the dilution",
    text="DiagAttention in the lower half of the layers and NormAttention in the upper reach a loss at least 0.05 nats "
    "below NormAttention throughout, and 0.1 nats below scaled linear attention throughout.",
    hypotheses=(
        f"4 layers, d = 48, 4 heads, T1, blocks of 16, windows of {LENGTH} characters of the standard library",
        f"{STEPS} steps of 16, Adam 3e-3; loss on fresh windows",
    ),
    source=f"{PAPER}, section 3.2 and table 6",
    slug=SLUG,
)
WHOLE = Statement(
    name="the devil in linear attention is its denominator and its dilution",
    text="Normalising the output instead of dividing by Σs keeps gradients bounded; local attention below keeps focus.",
    hypotheses=("as in its parts",),
    source=PAPER,
    slug=SLUG,
)


def loss(mixers: tuple, seed: int, steps: int = STEPS) -> float:
    """Nats a character on fresh windows after training."""
    model = zoo.sequence(
        d_vocab=128,
        depth=by_layer.Part(mixers),
        position="sinusoidal",
        norm="simple_rmsnorm",
        feedforward="glu",
        d_model=48,
        n_layers=4,
        n_heads=4,
        n_ctx=LENGTH,
        seed=seed,
    )
    objective = TokenPrediction(SourceText(LENGTH), 16)
    fit(model, objective, TrainConfig(steps=steps, lr=3e-3, seed=seed, checkpoint_every=steps))
    return loss_on_fresh(model, objective, seed)


def _dilution(budget: str, seed: int) -> tuple[Evidence, dict[str, float]]:
    losses = {name: loss(mixers, seed) for name, mixers in MIXERS.items()}
    name = "nats of NormAttention throughout above it"
    evidence = Evidence(
        kind="empirical",
        statement=DILUTION,
        checks=(
            Check(name, losses[NORMED] - losses[HYBRID], ">=", 0.05),
            Check("nats of scaled linear attention throughout above it", losses[SCALED] - losses[HYBRID], ">=", 0.1),
        ),
        control=Control(
            "scaled linear attention in the hybrid's place",
            (Check(name, losses[NORMED] - losses[SCALED], ">=", 0.05),),
        ),
        seed=seed,
        budget=budget,
        notes=", ".join(f"{name}: {nats:.3f}" for name, nats in losses.items()) + " nats a character.",
    )
    return evidence, losses


def _gather(budget: str, seed: int) -> Evidence:
    proofs = tuple(registry.run_all(slug=SLUG, budget=budget, seed=seed))
    undecided = Evidence("empirical", DILUTION, seed=seed, decided=False, notes="only the full budget trains.")
    dilution, losses = _dilution(budget, seed) if budget == "full" else (undecided, {})
    return Evidence(
        kind="empirical",
        statement=WHOLE,
        seed=seed,
        budget=budget,
        parts=(*proofs, dilution),
        figure=lambda: _draw(losses, seed),
    )


def _draw(losses: dict[str, float], seed: int):
    from microtome.lab.report.style import drawing

    with drawing(9.0 if losses else 5.6, 3.6) as figure:
        panels = figure.subplots(1, 2 if losses else 1, squeeze=False)[0]
        _draw_gradients(panels[0], seed)
        if losses:
            panels[1].plot(list(losses.values()), list(losses), "o", markersize=9)
            for name, nats in losses.items():
                panels[1].annotate(f"{nats:.3f}", (nats, name), (0, 9), textcoords="offset points", ha="center")
            panels[1].margins(x=0.2, y=0.25)
            panels[1].invert_yaxis()
            panels[1].set(xlabel="nats a character", title="Dilution")
        return figure


def _draw_gradients(axes, seed: int) -> None:
    """Each draw's gradient over the median one, sorted."""
    contestants = {
        "divided by Σs, φ = elu": (by_sum, F.elu),
        "divided by Σs, φ = 1 + elu": (by_sum, lambda x: 1 + F.elu(x)),
        "NormAttention, φ = elu": (by_norm, F.elu),
    }
    for name, (attend, activation) in contestants.items():
        norms = gradient_norms(attend, activation, fresh(seed))
        ordered = (norms / norms.median()).sort(descending=True).values.numpy()
        axes.plot(range(1, len(ordered) + 1), ordered, label=name)
    axes.set(
        xscale="log", yscale="log", xlabel="draw, largest first", ylabel="gradient over the median", title="Gradients"
    )
    axes.legend()


CLAIM = Claim(WHOLE, "empirical", _gather)
