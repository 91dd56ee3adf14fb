"""The claim of sigmoid attention (Ramapuram et al. 2025): a logit bias of −log n makes it as gentle as softmax.

With b = 0 a row of n small scores weighs n/2, and so large are attention outputs at the first step; b = −log n brings
them to softmax's size. The Jacobian grows with the square of tokens only. What training makes of it is reported, not
asserted: after 400 steps plain sigmoid attention lags far behind softmax (2.13 nats against 0.13, and 2.19 with
QK-norm), and parity needs longer training.
"""

import torch

from microtome.lab import zoo
from microtome.lab.tasks import RepeatedBlock
from microtome.lab.train import TokenPrediction, TrainConfig
from microtome.theory import registry
from microtome.theory.claim import Claim
from microtome.theory.claims._fitting import fit, fresh, loss_on_fresh
from microtome.theory.evidence import Check, Control, Evidence
from microtome.theory.statement import Statement

SLUG = "sigmoid_attention"
PAPER = "Ramapuram et al., Theory, Analysis, and Best Practices for Sigmoid Self-Attention (2025)"
TASK = RepeatedBlock(vocab=16, block=16, repeats=8)
STEPS = 400
MIXERS: dict[str, dict] = {
    "softmax": {"name": "softmax"},
    "b = −log n": {"name": "sigmoid_attention"},
    "b = 0": {"name": "sigmoid_attention", "b": 0.0},
    "b = −log n, QK-norm": {"name": "sigmoid_attention", "qk_norm": True},
}
TRAINED = ("softmax", "b = −log n")

FIRST_STEP = Statement(
    name="attention outputs at the first step",
    text="Before training, the attention outputs of a causal model are a quarter to twice as large as softmax's with "
    "b = −log n, and at least 20 times as large with b = 0.",
    hypotheses=(
        "2 pre-norm layers, d = 64, 4 heads, no biases in attention; a block of 16 tokens out of 16 repeated 8 times",
        "norm of what the first layer's attention writes, mean over 64 sequences",
    ),
    source=f"{PAPER}, section 4",
    slug=SLUG,
)
WHOLE = Statement(
    name="sigmoid attention is softmax's equal once its bias is right",
    text="b = −log n gives a row of small scores the weight one, keeps outputs at softmax's size, and the map is "
    "Lipschitz with a constant quadratic in the norm of tokens.",
    hypotheses=("as in its parts",),
    source=PAPER,
    slug=SLUG,
)


def learner(mixer: dict, seed: int):
    """The copy model with one of the mixers; the same seed gives the same weights where their shapes agree."""
    return zoo.sequence(
        d_vocab=TASK.d_vocab, mixer={**mixer, "bias": False}, d_model=64, n_layers=2, n_ctx=TASK.length, seed=seed
    )


@torch.no_grad()
def output_norm(mixer: dict, seed: int) -> float:
    """Mean norm of what the first layer's attention writes."""
    tokens = TASK.sample(64, fresh(seed)).tokens
    name = "blocks.0.hook_attn_out"
    _, cache = learner(mixer, seed).run_with_cache(tokens, names_filter=name)
    return cache[name].norm(dim=-1).mean().item()


def final_loss(mixer: dict, seed: int) -> float:
    """Nats on fresh sequences after 400 steps of 16."""
    model, objective = learner(mixer, seed), TokenPrediction(TASK, batch=16)
    config = TrainConfig(steps=STEPS, lr=2e-3, optimizer="adam", seed=seed, checkpoint_every=STEPS)
    return loss_on_fresh(model, objective, seed) if fit(model, objective, config) else float("inf")


def _first_step(budget: str, seed: int) -> Evidence:
    norms = {name: output_norm(mixer, seed) for name, mixer in MIXERS.items()}
    ratios = {name: norm / norms["softmax"] for name, norm in norms.items()}
    names = ("output norm over softmax's, at least", "output norm over softmax's, at most")
    losses = {name: final_loss(MIXERS[name], seed) for name in TRAINED} if budget == "full" else {}
    return Evidence(
        kind="empirical",
        statement=FIRST_STEP,
        checks=(
            Check(names[0], ratios["b = −log n"], ">=", 0.25),
            Check(names[1], ratios["b = −log n"], "<=", 2.0),
            Check("output norm over softmax's at b = 0", ratios["b = 0"], ">=", 20.0),
        ),
        control=Control(
            "b = 0", (Check(names[0], ratios["b = 0"], ">=", 0.25), Check(names[1], ratios["b = 0"], "<=", 2.0))
        ),
        seed=seed,
        budget=budget,
        notes="the quick budget trains nothing."
        if not losses
        else f"loss after {STEPS} steps of 16, no threshold: "
        + ", ".join(f"{name}: {loss:.2f}" for name, loss in losses.items())
        + " nats.",
        figure=lambda: _draw(ratios, losses),
    )


def _draw(ratios: dict[str, float], losses: dict[str, float]):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    bars = left.barh(list(ratios), list(ratios.values()), color="C0")
    left.bar_label(bars, fmt="%.2g", padding=3)
    left.set(xscale="log", xlabel="output norm over softmax's", title="Before the first step", xlim=(0.2, 90))
    left.axvspan(0.25, 2.0, color="0.9", zorder=0)
    left.invert_yaxis()
    if losses:
        bars = right.barh(list(losses), list(losses.values()), color="C1")
        right.bar_label(bars, fmt="%.2f", padding=3)
        right.set(xlabel="loss (nats)", title=f"After {STEPS} steps (reported)", xlim=(0, 3.2))
        right.invert_yaxis()
    else:
        right.set_axis_off()
        right.text(0.5, 0.5, "training is part of the full budget", ha="center", color="0.4")
    return figure


def _gather(budget: str, seed: int) -> Evidence:
    parts = (*registry.run_all(slug=SLUG, budget=budget, seed=seed), _first_step(budget, seed))
    return Evidence(kind="empirical", statement=WHOLE, seed=seed, budget=budget, parts=parts, figure=parts[-1].figure)


CLAIM = Claim(WHOLE, "empirical", _gather)
