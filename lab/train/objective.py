"""What a run minimises: where each step's data come from and the loss on them."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from microtome.lab.tasks import catalogue
from microtome.lab.tasks.protocol import Task, TokenTask, check_sizes
from microtome.lab.train.curriculum import Curriculum, Ramp


@dataclass(frozen=True)
class Batch:
    """The data of one step.

    Attributes:
        inputs: what the model is called with, positionally.
        targets: what its output is compared with.
        weights: of the targets, or None for equal weights.

    Raises:
        ValueError: if there are no targets.
    """

    inputs: tuple[Tensor, ...]
    targets: Tensor
    weights: Tensor | None = None

    def __post_init__(self):
        if self.targets.numel() == 0:
            raise ValueError(f"a batch needs at least one target; these have shape {tuple(self.targets.shape)}.")


@runtime_checkable
class Objective(Protocol):
    """Gives the data of any step, on demand and in any order, and the loss on them."""

    def batch(self, step: int, generator: torch.Generator) -> Batch:
        """The data of a step; all randomness from the generator, all tensors on its device."""
        ...

    def loss(self, model: nn.Module, batch: Batch) -> Float[Tensor, ""]:
        """The loss with its graph."""
        ...

    def describe(self) -> dict[str, Any]:
        """JSON values that tell this objective from others."""
        ...


class InContextRegression:
    """Mean squared error over all positions of a prompt, on fresh prompts each step.

    Source: Garg et al. (2022), equation 2, with the squared loss; the model is called `model(xs, ys)` and
    returns its prediction of each y from x and the pairs before.

    Args:
        task: what prompts are drawn from.
        batch: prompts a step.
        points: pairs a prompt.
        curriculum: fewer points and fewer non-zero coordinates of x at first; ends at `points` and
            `task.full_size`, the coordinates of most tasks. A prompt of d coordinates is one of `task.narrowed(d)`,
            padded with zeros.

    Raises:
        ValueError: if `batch` or `points` is below 1, the curriculum does not end at the full size, or the
            task does not exist in fewer dimensions.
    """

    def __init__(self, task: Task, batch: int, points: int, curriculum: Curriculum | None = None):
        check_sizes(batch=batch, points=points)
        self.task, self.size, self.points, self.curriculum = task, batch, points, curriculum
        if curriculum is not None:
            _check_end("points", curriculum.points, points)
            _check_end("dims", curriculum.dims, task.full_size)
            self._narrowed(curriculum.dims.start)

    def batch(self, step: int, generator: torch.Generator) -> Batch:
        """Prompts of the step: inputs (xs [batch points dim], ys [batch points]), targets ys."""
        if self.curriculum is None:
            prompt = self.task.sample(self.size, self.points, generator)
            return Batch((prompt.xs, prompt.ys), prompt.ys)
        dims, points = self.curriculum.dims.at(step), self.curriculum.points.at(step)
        prompt = self._narrowed(dims).sample(self.size, points, generator)
        xs = F.pad(prompt.xs, (0, self.task.dim - prompt.xs.shape[-1]))
        return Batch((xs, prompt.ys), prompt.ys)

    def loss(self, model: nn.Module, batch: Batch) -> Float[Tensor, ""]:
        """The mean of (ŷ − y)² over prompts and points.

        Raises:
            ValueError: if the model does not give one number a point.
        """
        return F.mse_loss(_predicted(model, batch), batch.targets)

    def describe(self) -> dict[str, Any]:
        curriculum = None if self.curriculum is None else dataclasses.asdict(self.curriculum)
        sizes = {"batch": self.size, "points": self.points, "curriculum": curriculum}
        return {"name": "in-context regression", "task": catalogue.describe(self.task), **sizes}

    def _narrowed(self, dims: int) -> Task:
        try:
            return self.task.narrowed(dims)
        except (TypeError, ValueError) as error:
            raise ValueError(f"the curriculum needs the task in {dims} dimensions, but {error}") from error


class InContextClassification(InContextRegression):
    """Logistic loss of labels ±1, where the model's number at each x is the log odds of +1, in nats.

    Source: Bhattamishra et al. (2024, icl_boolean): cross entropy averaged over positions.

    Args:
        task: what prompts are drawn from; its labels are ±1.
        batch: prompts a step.
        points: pairs a prompt.
        first: the pairs before this one enter the context only, not the loss.
        curriculum: as in `InContextRegression`.

    Raises:
        ValueError: as `InContextRegression`, and if no pair is left for the loss.
    """

    def __init__(self, task: Task, batch: int, points: int, first: int = 0, curriculum: Curriculum | None = None):
        super().__init__(task, batch, points, curriculum)
        least = points if curriculum is None else curriculum.points.start
        if not 0 <= first < least:
            raise ValueError(f"first must lie between 0 and {least - 1}, so that a pair is left, not {first}.")
        self.first = first

    def loss(self, model: nn.Module, batch: Batch) -> Float[Tensor, ""]:
        """The mean of log(1 + exp(−y·logit)) over prompts and points.

        Raises:
            ValueError: if the model does not give one number a point.
        """
        logits = _predicted(model, batch)[:, self.first :]
        return F.softplus(-batch.targets[:, self.first :] * logits).mean()

    def describe(self) -> dict[str, Any]:
        return super().describe() | {"name": "in-context classification", "first": self.first}


class TokenPrediction:
    """Weighted cross entropy of tokens: Σ wᵢ·(−log p(targetᵢ)) / Σ wᵢ, in nats.

    Args:
        task: what sequences, targets and weights are drawn from; weight 0 leaves a position out.
        batch: sequences a step.

    Raises:
        ValueError: if `batch` is below 1.
    """

    def __init__(self, task: TokenTask, batch: int):
        check_sizes(batch=batch)
        self.task, self.size = task, batch

    def batch(self, step: int, generator: torch.Generator) -> Batch:
        """Inputs (tokens [batch pos],), targets and weights [batch pos]."""
        drawn = self.task.sample(self.size, generator)
        return Batch((drawn.tokens,), drawn.targets, drawn.weights)

    def loss(self, model: nn.Module, batch: Batch) -> Float[Tensor, ""]:
        """The weighted mean over sequences and positions.

        Raises:
            ValueError: if the model does not give logits for each position.
        """
        logits = model(*batch.inputs)
        if logits.shape[:-1] != batch.targets.shape:
            raise ValueError(
                f"the model gives {list(logits.shape)} where targets are {list(batch.targets.shape)}; "
                "a token model gives logits [batch pos d_vocab]."
            )
        losses = F.cross_entropy(logits.flatten(0, -2), batch.targets.flatten(), reduction="none")
        weights = batch.weights.flatten()
        return (losses * weights).sum() / weights.sum()

    def describe(self) -> dict[str, Any]:
        return {"name": "token prediction", "task": described(self.task), "batch": self.size}


def _predicted(model: nn.Module, batch: Batch) -> Float[Tensor, "batch points"]:
    predicted = model(*batch.inputs)
    if predicted.shape != batch.targets.shape:
        raise ValueError(
            f"the model predicts {list(predicted.shape)} where ys are {list(batch.targets.shape)}; "
            "an in-context learner gives one number a point, [batch points]."
        )
    return predicted


def _check_end(name: str, ramp: Ramp, full: int) -> None:
    if ramp.end != full:
        raise ValueError(f"the curriculum's {name} must end at the full size {full}, not at {ramp.end}.")


def described(task: Any) -> dict[str, Any]:
    """A task that is a dataclass as plain values, with its name; for one of (x, y) prompts see `tasks.catalogue`."""
    return {"name": type(task).__name__, **dataclasses.asdict(task)}
