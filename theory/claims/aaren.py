"""The claim of "Attention as an RNN" (Feng et al. 2024): a learned query makes attention a recurrence with a state of
one size, made in parallel by an associative scan, and costs little quality.

The scan and the state are checked without training. Then two layers (d = 32, post-norm) learn the mean and the largest
of all vectors read so far, as Aaren and as a causal transformer of equal size; Aaren that is started anew every eight
tokens must do worse.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from microtome.lab import zoo
from microtome.lab.train import TrainConfig
from microtome.lab.train.objective import Batch
from microtome.theory import registry
from microtome.theory.claim import Claim
from microtome.theory.claims._fitting import fit
from microtome.theory.evidence import Check, Control, Evidence
from microtome.theory.statement import Statement

SLUG = "aaren"
PAPER = "Feng et al., Attention as an RNN (2024)"
DIM, LENGTH, BATCH, WINDOW = 8, 32, 32, 8
STEPS = {"quick": 30, "full": 250}
LAST = {"quick": 10, "full": 40}
"""Over how many last losses is averaged."""

Vectors = Float[Tensor, "batch points dim"]

QUALITY = Statement(
    name="Aaren learns what is asked of prefixes",
    text="After equal steps Aaren's loss is at most 1.1 times the causal transformer's on prefix means and at most 1.3 "
    "times on running maxima.",
    hypotheses=(
        f"2 layers, d = 32, 4 heads, {LENGTH} vectors from N(0, I) in R^{DIM}",
        f"{STEPS['full']} Adam steps of {BATCH} at 3e-3, mean of the last {LAST['full']} losses",
    ),
    source=f"{PAPER}, section 4",
    slug=SLUG,
)
WHOLE = Statement(
    name="attention is a recurrence",
    text="With one learned query a layer, attention over all prefixes is an associative scan and a recurrence of "
    "constant size, and learns as well as a transformer.",
    hypotheses=("as in its parts",),
    source=PAPER,
    slug=SLUG,
)


def prefix_mean(xs: Vectors) -> Vectors:
    """The mean of what has been read."""
    return xs.cumsum(1) / torch.arange(1, xs.shape[1] + 1, device=xs.device)[:, None]


def running_maximum(xs: Vectors) -> Vectors:
    """The largest that has been read, coordinate by coordinate."""
    return xs.cummax(1).values


TASKS = {"prefix mean": prefix_mean, "running maximum": running_maximum}


@dataclass
class OfPrefixes:
    """Mean squared error of a function of every prefix of vectors from N(0, I); keeps all losses in order."""

    task: str
    losses: list[float]

    def batch(self, step: int, generator: torch.Generator) -> Batch:
        xs = torch.randn(BATCH, LENGTH, DIM, generator=generator)
        return Batch((xs,), TASKS[self.task](xs))

    def loss(self, model: nn.Module, batch: Batch) -> Float[Tensor, ""]:
        loss = F.mse_loss(model(*batch.inputs), batch.targets)
        self.losses.append(loss.item())
        return loss

    def describe(self) -> dict[str, Any]:
        return {"name": self.task, "batch": BATCH, "length": LENGTH, "dim": DIM}


class Restarted(nn.Module):
    """A model that forgets everything after every WINDOW vectors."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, xs: Vectors) -> Vectors:
        parts = xs.unflatten(1, (LENGTH // WINDOW, WINDOW)).flatten(0, 1)
        return self.model(parts).unflatten(0, (len(xs), -1)).flatten(1, 2)


def loss_of(model: nn.Module, task: str, budget: str, seed: int) -> float:
    """The mean of the last losses of a training run; the model is trained in place."""
    objective = OfPrefixes(task, [])
    fit(model, objective, TrainConfig(steps=STEPS[budget], lr=3e-3, seed=seed, checkpoint_every=STEPS[budget]))
    last = objective.losses[-LAST[budget] :]
    return sum(last) / len(last)


def learner(mixer: str, seed: int) -> nn.Module:
    """Two layers of the mixer over vectors, untrained."""
    return zoo.build(SLUG, "small", dim=DIM, mixer=mixer, seed=seed)


def losses(budget: str, seed: int) -> dict[str, dict[str, float]]:
    """By task, of Aaren, of the transformer, and of Aaren started anew every WINDOW vectors."""
    return {
        task: {
            "Aaren": loss_of(learner("aaren", seed), task, budget, seed),
            "transformer": loss_of(learner("softmax", seed), task, budget, seed),
            "restarted": loss_of(Restarted(learner("aaren", seed)), task, budget, seed),
        }
        for task in TASKS
    }


def _checks(found: dict[str, dict[str, float]], which: str) -> tuple[Check, ...]:
    bounds = {"prefix mean": 1.1, "running maximum": 1.3}
    return tuple(
        Check(f"loss on {task} over the transformer's", each[which] / each["transformer"], "<=", bounds[task])
        for task, each in found.items()
    )


def _quality(budget: str, seed: int) -> Evidence:
    found = losses(budget, seed)
    worse = tuple(
        Check(f"loss on {task} restarted every {WINDOW}, over Aaren's", each["restarted"] / each["Aaren"], ">=", 2)
        for task, each in found.items()
    )
    checks = (*_checks(found, "Aaren"), *worse)
    return Evidence(
        kind="empirical",
        statement=QUALITY,
        checks=checks,
        control=Control(f"Aaren that forgets every {WINDOW} vectors", _checks(found, "restarted")),
        seed=seed,
        budget=budget,
        decided=budget == "full" or all(check.passes for check in checks),
        figure=lambda: _draw(found),
        notes="; ".join(
            f"{task}: " + ", ".join(f"{name} {loss:.4f}" for name, loss in each.items()) for task, each in found.items()
        ),
    )


def _draw(found: dict[str, dict[str, float]]) -> object:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.5, 3.4), layout="constrained")
    axes = figure.subplots()
    for j, name in enumerate(("Aaren", "transformer", "restarted")):
        heights = [each[name] for each in found.values()]
        label = f"Aaren, restarted every {WINDOW}" if name == "restarted" else name
        bars = axes.bar([i + 0.27 * (j - 1) for i in range(len(found))], heights, 0.25, label=label)
        axes.bar_label(bars, fmt="%.2g", fontsize=8)
    axes.set_xticks(range(len(found)), list(found))
    axes.set(ylabel="mean squared error, last losses", yscale="log", title="Learning a function of every prefix")
    axes.legend(fontsize="small")
    axes.margins(y=0.15)
    return figure


def _gather(budget: str, seed: int) -> Evidence:
    proofs = tuple(registry.run_all(slug=SLUG, budget=budget, seed=seed))
    quality = _quality(budget, seed)
    return Evidence(
        kind="empirical",
        statement=WHOLE,
        seed=seed,
        budget=budget,
        parts=(*proofs, quality),
        figure=quality.figure,
    )


CLAIM = Claim(WHOLE, "empirical", _gather)
