"""The claim of URPE (Luo et al. 2022): relative positions inside the softmax cannot tell where a token stands, and a
Toeplitz factor after it can.

Two pre-norm layers (d = 32, 4 heads) with a learned bias b_{j−i} are trained on two tasks of the paper at a small size,
with and without the factor C, and with the same scalars as log|C| inside the softmax, which must stay at the level of
the bias alone.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from microtome.lab import zoo
from microtome.lab.tasks import EvenTokenPrediction, PositionIdentification, TokenTask
from microtome.lab.train import TokenPrediction, TrainConfig
from microtome.lab.zoo.parts import Shape
from microtome.lab.zoo.positions import relative
from microtome.theory import registry
from microtome.theory.claim import Claim
from microtome.theory.claims._fitting import fit, fresh
from microtome.theory.evidence import Check, Control, Evidence
from microtome.theory.statement import Statement

SLUG = "urpe"
PAPER = "Luo et al., Your Transformer May Not be as Powerful as You Expect (2022)"
LENGTH, VOCAB, STEPS = 8, 16, 500
TASKS: dict[str, TokenTask] = {
    "position": PositionIdentification(VOCAB, LENGTH),
    "even tokens": EvenTokenPrediction(VOCAB, LENGTH),
}

POSITION = Statement(
    name="position identification",
    text="URPE finds a token's position with accuracy at least 0.95; relative positions alone stay at 2/n or below.",
    hypotheses=(
        f"2 pre-norm layers, d = 32, 4 heads, n = {LENGTH}, {VOCAB} random tokens",
        f"{STEPS} steps of 64, Adam 3e-3",
    ),
    source=f"{PAPER}, section 5, Position Identification",
    slug=SLUG,
)
EVEN = Statement(
    name="even token prediction",
    text="URPE predicts the even tokens with accuracy at least 0.9 and at least 0.2 above relative positions alone; "
    "half of the targets are a constant.",
    hypotheses=POSITION.hypotheses,
    source=f"{PAPER}, section 5, Even Token Prediction",
    slug=SLUG,
)
WHOLE = Statement(
    name="URPE is more powerful than relative positions",
    text="No relative-position transformer can write down where a token stands; a Toeplitz factor after softmax can.",
    hypotheses=("as in its parts",),
    source=PAPER,
    slug=SLUG,
)


class LogFactorPosition(relative.RelativePosition):
    """The bias b_{j−i} plus log|c_{j−i}|, c starting at one: URPE's scalars inside the softmax, the control."""

    def __init__(self, options: "LogFactor", shape: Shape):
        super().__init__(options, shape)
        self.factor = nn.Parameter(torch.ones_like(self.weight))

    def bias(self, queries: Int[Tensor, " query"], n_keys: int) -> Float[Tensor, "head query key"]:
        inside = relative.toeplitz_rows(self.factor.abs().log(), self.longest, queries, n_keys)
        return super().bias(queries, n_keys) + inside


@dataclass(frozen=True)
class LogFactor(relative.Part):
    """As the relative bias."""

    def build(self, shape: Shape) -> LogFactorPosition:
        return LogFactorPosition(self, shape)


MODELS: dict[str, dict] = {
    "URPE": {"mixer": "urpe", "position": "relative"},
    "relative bias": {"mixer": "softmax", "position": "relative"},
    "log|C| inside": {"mixer": "softmax", "position": LogFactor()},
}


def accuracy(parts: dict, task: TokenTask, seed: int, steps: int = STEPS) -> float:
    """Share of targets found on 1,024 fresh sequences after training."""
    model = zoo.sequence(
        d_vocab=task.d_vocab,
        d_model=32,
        n_layers=2,
        n_heads=4,
        n_ctx=LENGTH,
        causal=False,
        seed=seed,
        **parts,
    )
    fit(
        model,
        TokenPrediction(task, 64),
        TrainConfig(steps=steps, lr=3e-3, optimizer="adam", seed=seed, checkpoint_every=steps),
    )
    batch = task.sample(1024, fresh(seed))
    with torch.no_grad():
        return (model(batch.tokens).argmax(-1) == batch.targets).float().mean().item()


def _trained(budget: str, seed: int) -> tuple[Evidence, ...]:
    tasks = ("position",) if budget == "quick" else tuple(TASKS)
    found = {task: {name: accuracy(parts, TASKS[task], seed) for name, parts in MODELS.items()} for task in tasks}
    parts = [_position(found["position"], budget, seed)]
    if "even tokens" in found:
        parts.append(_even(found["even tokens"], budget, seed))
    return tuple(parts)


def _position(found: dict[str, float], budget: str, seed: int) -> Evidence:
    name = "accuracy of URPE"
    return Evidence(
        kind="empirical",
        statement=POSITION,
        checks=(
            Check(name, found["URPE"], ">=", 0.95),
            Check("accuracy of the relative bias", found["relative bias"], "<=", 2 / LENGTH),
        ),
        control=Control(
            "the same scalars as log|C| inside the softmax",
            (Check(name, found["log|C| inside"], ">=", 0.95),),
        ),
        seed=seed,
        budget=budget,
        notes=f"log|C| inside reaches {found['log|C| inside']:.3f}; a guess is {1 / LENGTH:.3f}.",
    )


def _even(found: dict[str, float], budget: str, seed: int) -> Evidence:
    name, gain = "accuracy of URPE", "gain over the relative bias"
    base, control = found["relative bias"], found["log|C| inside"]
    return Evidence(
        kind="empirical",
        statement=EVEN,
        checks=(Check(name, found["URPE"], ">=", 0.9), Check(gain, found["URPE"] - base, ">=", 0.2)),
        control=Control(
            "the same scalars as log|C| inside the softmax",
            (Check(name, control, ">=", 0.9), Check(gain, control - base, ">=", 0.2)),
        ),
        seed=seed,
        budget=budget,
        notes=f"relative bias {base:.3f}, log|C| inside {control:.3f}.",
    )


def _gather(budget: str, seed: int) -> Evidence:
    proofs = tuple(registry.run_all(slug=SLUG, budget=budget, seed=seed))
    trained = _trained(budget, seed)
    return Evidence(
        kind="empirical",
        statement=WHOLE,
        seed=seed,
        budget=budget,
        parts=(*proofs, *trained),
        figure=lambda: _draw(trained),
        notes="" if budget == "full" else "the quick budget leaves even token prediction out.",
    )


def _draw(trained: tuple[Evidence, ...]):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.5, 3.6), layout="constrained")
    axes = figure.subplots()
    for i, evidence in enumerate(trained):
        measured = list(evidence.measured.values())
        is_gain = evidence.statement is EVEN
        bars = {
            "URPE": measured[0],
            "relative bias": measured[0] - measured[1] if is_gain else measured[1],
            "log|C| inside": evidence.control.checks[0].measured,
        }
        for j, (name, value) in enumerate(bars.items()):
            bar = axes.bar(i + 0.27 * (j - 1), value, 0.25, color=f"C{j}", label=name if i == 0 else None)
            axes.bar_label(bar, fmt="%.2f", fontsize=8)
    axes.set_xticks(range(len(trained)), [e.statement.name for e in trained])
    axes.set(ylabel="accuracy on fresh sequences", ylim=(0, 1.12), title="Where does a token stand?")
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize="small")
    return figure


CLAIM = Claim(WHOLE, "empirical", _gather)
