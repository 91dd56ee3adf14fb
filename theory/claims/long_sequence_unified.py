"""The claim of the unified view (2023): one template for all mixers, exact attention over many workers, and that long
context helps where a model can use it.

The last is trained: one layer of S4D, one of convolution and two of softmax attention copy what was read d positions
before (8 tokens), on windows of d/4 to 2d positions. The answer lies outside windows of d or less. A convolution that
reaches back d/4 positions is the control. At the full budget d = 256, at the quick one d = 16.
"""

from dataclasses import dataclass

import torch

from microtome.lab import zoo
from microtome.lab.tasks.delayed_copy import DelayedCopy
from microtome.lab.train import TokenPrediction, TrainConfig
from microtome.theory import registry
from microtome.theory.claim import Claim
from microtome.theory.claims._fitting import fit, fresh
from microtome.theory.evidence import Check, Control, Evidence
from microtome.theory.statement import Statement
from microtome.theory.statements.long_sequence_unified_numeric import PAPER, SLUG

VOCAB = 8
CHANCE = 1 / VOCAB
SSM, CONVOLUTION, ATTENTION, SHORT = "S4D", "convolution", "softmax attention", "short convolution"


@dataclass(frozen=True)
class Scale:
    """The sizes of one budget.

    Attributes:
        delay: d.
        width: of the stream.
        d_state: of S4D; Δ is 2/d_state, so that its frequencies reach from 0 to π a position.
        steps: of training, for every model and window alike.
        batch: windows of 2d positions a step; shorter windows are as many more.
        contexts: lengths of windows, the last of them 2d.
    """

    delay: int
    width: int
    d_state: int
    steps: int
    batch: int
    contexts: tuple[int, ...]


SCALES = {
    "quick": Scale(16, 32, 32, 80, 16, (16, 32)),
    "full": Scale(256, 32, 512, 240, 8, (64, 128, 256, 512)),
}

LONG_CONTEXT = Statement(
    name="long context helps",
    text="A state-space layer and a convolution copy what was read d positions before with accuracy at least 0.9 when "
    "the window is longer than d, and are at chance when it is not.",
    hypotheses=(
        f"one layer, {VOCAB} tokens, windows of d/4, d/2, d and 2d (d and 2d at the quick budget)",
        "Adam 1e-2, the same number of steps and tokens for every window",
        "d = 256 at the full budget, 16 at the quick one",
    ),
    source=f"{PAPER}, abstract",
    slug=SLUG,
)
WHOLE = Statement(
    name="a unified view of long-sequence models",
    text="One template holds for every mixer, attention distributed over workers is exact, and long context helps.",
    hypotheses=("as in its parts",),
    source=PAPER,
    slug=SLUG,
)


def parts(scale: Scale) -> dict[str, dict]:
    """What each model is made of."""
    step = 2 / scale.d_state
    ssm = {"name": "s4d", "d_state": scale.d_state, "dt_min": step, "dt_max": step}
    convolution = {"name": "convolution", "width": 2 * scale.delay}
    short = {"name": "convolution", "width": scale.delay // 4}
    return {
        SSM: {"mixer": ssm, "position": "none", "n_layers": 1},
        CONVOLUTION: {"mixer": convolution, "position": "none", "n_layers": 1},
        ATTENTION: {"mixer": "softmax", "position": "learned", "n_layers": 2},
        SHORT: {"mixer": short, "position": "none", "n_layers": 1},
    }


def accuracy(model: str, context: int, scale: Scale, seed: int) -> float:
    """Share of the second half of fresh windows that is copied rightly, after training on windows of this length."""
    task = DelayedCopy(VOCAB, scale.delay, context)
    built = zoo.sequence(
        d_vocab=VOCAB, d_model=scale.width, n_heads=4, n_ctx=2 * scale.delay, seed=seed, **parts(scale)[model]
    )
    batch = scale.batch * 2 * scale.delay // context
    config = TrainConfig(
        steps=scale.steps, lr=1e-2, schedule="cosine", warmup=0.05, clip=1.0, seed=seed, checkpoint_every=scale.steps
    )
    fit(built, TokenPrediction(task, batch), config)
    drawn = task.sample(2 * batch, fresh(seed))
    with torch.no_grad():
        right = (built(drawn.tokens).argmax(-1) == drawn.targets).float()
    return ((right * drawn.weights).sum() / drawn.weights.sum()).item()


def _trained(budget: str, seed: int) -> Evidence:
    scale = SCALES[budget]
    long, short = scale.contexts[-1], scale.contexts[:-1]
    found = {
        model: {context: accuracy(model, context, scale, seed) for context in scale.contexts}
        for model in (SSM, CONVOLUTION, ATTENTION)
    }
    control = {long: accuracy(SHORT, long, scale, seed)}
    names = {model: f"accuracy of {model} on windows of 2d" for model in (SSM, CONVOLUTION)}
    outside = max(found[model][context] for model in names for context in short)
    return Evidence(
        kind="empirical",
        statement=LONG_CONTEXT,
        checks=(
            *(Check(name, found[model][long], ">=", 0.9) for model, name in names.items()),
            Check("largest accuracy on windows of d or less", outside, "<=", 2 * CHANCE),
        ),
        control=Control(
            "a convolution that reaches back d/4 positions",
            (Check(names[CONVOLUTION], control[long], ">=", 0.9),),
        ),
        seed=seed,
        budget=budget,
        figure=lambda: _draw({**found, SHORT: control}, scale),
        notes=f"d = {scale.delay}, {scale.steps} steps; softmax attention reaches {found[ATTENTION][long]:.3f} on "
        f"windows of 2d; a guess is {CHANCE:.3f}.",
    )


def _gather(budget: str, seed: int) -> Evidence:
    measured = tuple(registry.run_all(slug=SLUG, budget=budget, seed=seed))
    trained = _trained(budget, seed)
    return Evidence(
        kind="empirical",
        statement=WHOLE,
        seed=seed,
        budget=budget,
        parts=(*measured, trained),
        figure=trained.figure,
    )


def _draw(found: dict[str, dict[int, float]], scale: Scale):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.5, 3.6), layout="constrained")
    axes = figure.subplots()
    for i, (model, by_context) in enumerate(found.items()):
        # The first two lie on each other, so that the one below is the wider.
        axes.plot(
            list(by_context), list(by_context.values()), f"C{i}o-", lw=max(6 - 2 * i, 1), ms=12 - 3 * i, label=model
        )
    axes.axhline(CHANCE, color="grey", linestyle=":", label="a guess")
    axes.axvline(scale.delay, color="grey", linestyle="--", linewidth=1)
    axes.annotate("delay", (scale.delay, 1.02), ha="center", annotation_clip=False)
    axes.set_xscale("log", base=2)
    axes.set_xticks(scale.contexts, [str(context) for context in scale.contexts])
    axes.set(xlabel="window in training, positions", ylabel="accuracy on fresh windows", ylim=(0, 1.08))
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize="small")
    return figure


CLAIM = Claim(WHOLE, "empirical", _gather)
