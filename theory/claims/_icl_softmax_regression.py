"""Measures of the claim on softmax regression (Li et al. 2023): training the layer, and how near it is to one step."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from microtome.lab import zoo
from microtome.lab.bayes.softmax_regression import SoftmaxStep, line_search
from microtome.lab.tasks.protocol import Prompt
from microtome.lab.tasks.softmax_regression import SoftmaxRegression
from microtome.lab.train import Callback, InContextRegression, TrainConfig
from microtome.lab.train.objective import Batch
from microtome.lab.train.run import Run
from microtome.theory.claims._fitting import fit, fresh

SLUG = "icl_softmax_regression"
TASK, POINTS = SoftmaxRegression(2), 17
MARKS = (25, 50, 100, 200, 350, 500, 750, 1000, 1250, 1500, 1750, 2000, 2500, 3000, 3500, 4000)

Learner = Callable[[Tensor, Tensor], Tensor]
"""(xs [batch points dim], ys [batch points]) -> what it says of the last y, [batch]."""


class Closeness(NamedTuple):
    """A layer beside one step of gradient descent, at the query.

    Attributes:
        gap: E(ŷ_layer − ŷ_step)² over Var(b_q).
        cosine: mean cosine between ∂ŷ/∂a_q of the two.
        distance: mean ‖∂ŷ_layer/∂a_q − ∂ŷ_step/∂a_q‖ over the mean norm of the step's.
        size: mean ‖∂ŷ_layer/∂a_q‖ over that of the step's.
        error: E(ŷ_layer − b_q)² over Var(b_q).
    """

    gap: float
    cosine: float
    distance: float
    size: float
    error: float


class QueryRegression(InContextRegression):
    """Mean squared error at the last point alone, which is the one that the layer predicts."""

    def batch(self, step: int, generator: torch.Generator) -> Batch:
        """Inputs (xs [batch points dim], ys [batch points]), targets the last of ys [batch]."""
        whole = super().batch(step, generator)
        return Batch(whole.inputs, whole.targets[:, -1])

    def loss(self, model: nn.Module, batch: Batch) -> Float[Tensor, ""]:
        return F.mse_loss(model(*batch.inputs), batch.targets)

    def describe(self) -> dict[str, Any]:
        return super().describe() | {"name": "in-context regression of the query"}


class Track(Callback):
    """Measures the closeness at `MARKS` and at the start: `found` has it by step, `uphill` that to a step with −η.

    Args:
        prompt: what is measured on.
        rate: η of the step.
    """

    name = "closeness"

    def __init__(self, prompt: Prompt, rate: float):
        self.prompt, self.rate = prompt, rate
        self.found: dict[int, Closeness] = {}
        self.uphill: dict[int, Closeness] = {}

    def on_start(self, run: Run) -> None:
        self.model = run.model
        self._measure(0)

    def on_step_end(self, step: int, loss: Tensor) -> Mapping[str, Tensor | float] | None:
        if step + 1 in MARKS:
            self._measure(step + 1)
        return None

    def _measure(self, step: int) -> None:
        self.found[step] = closeness(self.model, self.prompt, self.rate)
        self.uphill[step] = closeness(self.model, self.prompt, -self.rate)


def best_rate(seed: int) -> float:
    """η by line search on 8,192 prompts of the training law."""
    prompt = TASK.sample(8192, POINTS, torch.Generator().manual_seed(seed))
    return line_search(prompt.xs, prompt.ys)


def train_layer(variant: str, steps: int, seed: int, rate: float) -> Track:
    """The way of a layer through so many steps of 256 prompts, Adam 1e-2."""
    model = zoo.build(SLUG, variant, dim=TASK.dim, seed=seed)
    track = Track(held_out(seed), rate)
    config = TrainConfig(steps=steps, lr=1e-2, seed=seed, log_every=steps, checkpoint_every=steps)
    fit(model, QueryRegression(TASK, batch=256, points=POINTS), config, callbacks=(track,))
    return track


def held_out(seed: int) -> Prompt:
    """8,192 prompts that training never drew."""
    return TASK.sample(8192, POINTS, fresh(seed))


def closeness(model: Learner, prompt: Prompt, rate: float) -> Closeness:
    """The three measures of the paper's experiments and the layer's own error, on these prompts."""
    step = SoftmaxStep(rate)
    answer = prompt.ys[:, -1]
    said, slope = sensitivity(lambda xs: model(xs, prompt.ys), prompt.xs)
    wanted, steps_slope = sensitivity(lambda xs: step.query(xs, prompt.ys[:, :-1]), prompt.xs)
    variance, size = answer.var(), steps_slope.norm(dim=-1).mean()
    return Closeness(
        gap=((said - wanted).square().mean() / variance).item(),
        cosine=F.cosine_similarity(slope, steps_slope, dim=-1, eps=1e-30).mean().item(),
        distance=((slope - steps_slope).norm(dim=-1).mean() / size).item(),
        size=(slope.norm(dim=-1).mean() / size).item(),
        error=((said - answer).square().mean() / variance).item(),
    )


def sensitivity(
    predict: Callable[[Tensor], Tensor], xs: Float[Tensor, "batch points dim"]
) -> tuple[Tensor, Float[Tensor, "batch dim"]]:
    """Predictions for the last point [batch], and their derivatives in its input."""
    leaf = xs.detach().clone().requires_grad_()
    said = predict(leaf)
    (slope,) = torch.autograd.grad(said.sum(), leaf)
    return said.detach(), slope[:, -1]


def step_error(prompt: Prompt, rate: float) -> float:
    """E(ŷ_step − b_q)² over Var(b_q)."""
    said = SoftmaxStep(rate).query(prompt.xs, prompt.ys[:, :-1])
    return ((said - prompt.ys[:, -1]).square().mean() / prompt.ys[:, -1].var()).item()


def draw(paths: dict[str, dict[int, Closeness]], steps_error: float) -> object:
    """Errors, cosine and sensitivity of both layers over training, beside the step's error."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.4), layout="constrained")
    errors, slopes = figure.subplots(1, 2)
    for (variant, path), style in zip(paths.items(), ("--", "-"), strict=True):
        steps = list(path)
        errors.plot(steps, [c.error for c in path.values()], style, color="C0", label=f"error, {variant}")
        errors.plot(steps, [c.gap for c in path.values()], style, color="C1", label=f"gap to the step, {variant}")
        slopes.plot(steps, [c.cosine for c in path.values()], style, color="C2", label=f"cosine, {variant}")
        slopes.plot(steps, [c.size for c in path.values()], style, color="C3", label=f"size, {variant}")
    errors.axhline(steps_error, color="black", linewidth=1, label="error of the step")
    errors.axhline(0.4, color="grey", linestyle=":", linewidth=1, label="0.4, most for the gap")
    errors.set(ylim=(0, 1.5), ylabel="squared difference / Var(b_q)", title="Predictions")
    slopes.axhline(0.9, color="grey", linestyle=":", linewidth=1, label="0.9, least for the cosine")
    slopes.set(ylim=(-0.1, 1.6), ylabel="cosine; size over the step's", title="Sensitivities ∂ŷ/∂a_q")
    for axes in (errors, slopes):
        axes.set_xlabel("training steps of 256 prompts")
        axes.legend(fontsize="x-small", ncols=2, loc="upper right")
    return figure
