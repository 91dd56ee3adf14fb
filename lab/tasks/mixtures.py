"""Prompts from several classes of functions, one class a prompt.

"Hierarchical mixtures" of Panwar, Ahuja & Goyal (2024, "In-context learning through the Bayesian prism", slug
`icl_bayesian_prism`, section 3): dense with sparse or sign-vector regression, with decision trees, trees with networks.
Their code draws the class once a batch; here every prompt draws its own, which is the law that their posterior is of.
"""

import functools
import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from microtome.lab.bayes import Predictor
from microtome.lab.tasks.draw import Draw
from microtome.lab.tasks.inputs import Inputs
from microtome.lab.tasks.priors import check_weights
from microtome.lab.tasks.protocol import Prompt, Task


@dataclass(frozen=True)
class Mixture(Task):
    """Every prompt is one of one component's, drawn with the weights.

    Attributes:
        tasks: the components, each with Gaussian `inputs` of one law, so that only the labels tell them apart, and with
            a `label_std`.
        weights: the components' probabilities, positive and summing to 1.
        normalise: divides each component's labels by their standard deviation.
        prefix: the first point of a prompt names its component c: x is the c-th unit vector and y is 0. It is one of
            the prompt's `points`.

    Raises:
        TypeError: if a component is no such task.
        ValueError: if the components differ in dim or inputs or have a prefix themselves, the weights are no
            probabilities, or there are more components than unit vectors for a prefix.
    """

    tasks: tuple[Task, ...]
    weights: tuple[float, ...]
    normalise: bool = True
    prefix: bool = False

    def __post_init__(self):
        check_weights(self.weights, len(self.tasks), "tasks")
        for task in self.tasks:
            if not _can_be_mixed(task):
                raise TypeError(
                    f"a component must be a task with Gaussian inputs and a label_std, not {type(task).__name__}."
                )
            if isinstance(task, Mixture) and task.prefix:
                raise ValueError("a mixture with a prefix cannot be a component.")
        if len({(task.dim, task.inputs) for task in self.tasks}) > 1:
            raise ValueError("the components must have the same dim and the same inputs.")
        if self.prefix and len(self.tasks) > self.dim:
            raise ValueError(
                f"a prefix in {self.dim} dimensions names at most {self.dim} tasks, not {len(self.tasks)}."
            )

    @property
    def dim(self) -> int:
        return self.tasks[0].dim

    @property
    def inputs(self) -> Inputs:
        """The law of x, but for a prefix."""
        return self.tasks[0].inputs

    @property
    def scales(self) -> tuple[float, ...]:
        """What each component's labels are divided by."""
        return tuple(_label_std(task) if self.normalise else 1.0 for task in self.tasks)

    @property
    def label_std(self) -> float:
        """Standard deviation of a label (but for a prefix), noise included."""
        stds = [task.label_std / scale for task, scale in zip(self.tasks, self.scales, strict=True)]
        return math.sqrt(sum(weight * std**2 for weight, std in zip(self.weights, stds, strict=True)))

    def narrowed(self, size: int) -> "Mixture":
        """Every component at this size; see `Task.narrowed`."""
        return replace(self, tasks=tuple(task.narrowed(size) for task in self.tasks))

    def _prompt(self, batch: int, points: int, draw: Draw) -> Prompt:
        """Latents: "component" [batch], and each latent that all components have in one shape.

        Raises:
            ValueError: if a prefix leaves no point.
        """
        if self.prefix and points < 2:
            raise ValueError("prompts with a prefix have at least 2 points, of which it is the first.")
        component = draw.choices(self.weights, batch)
        rows, parts = [], []
        for index, (task, scale) in enumerate(zip(self.tasks, self.scales, strict=True)):
            of_task = (component == index).nonzero().flatten()
            # One prompt even of a component that was not drawn, so that the latents' names do not depend on the draw.
            part = task._prompt(max(1, len(of_task)), points - self.prefix, draw)
            rows.append(of_task)
            parts.append(part if scale == 1 else Prompt(part.xs, part.ys / scale, part.latents))
        prompt = _together(parts, rows)
        xs, ys = self._named(prompt, component) if self.prefix else (prompt.xs, prompt.ys)
        return Prompt(xs, ys, prompt.latents | {"component": component})

    def _named(self, prompt: Prompt, component: Tensor) -> tuple[Tensor, Tensor]:
        name = torch.nn.functional.one_hot(component, self.dim).to(prompt.xs.dtype)
        return torch.cat([name[:, None], prompt.xs], dim=1), torch.nn.functional.pad(prompt.ys, (1, 0))

    def bayes(self) -> Predictor:
        """The exact posterior predictive: the components' posteriors, each weighed by its evidence, or the one that
        the prefix names.

        Raises:
            ValueError: if a component has none, with what to use instead.
        """
        from microtome.lab.bayes.mixture import BayesMixture
        from microtome.lab.bayes.rescaled import Prefixed, Rescaled

        pairs = zip(self.tasks, self.scales, strict=True)
        components = tuple(task.bayes() if scale == 1 else Rescaled(task.bayes(), 1 / scale) for task, scale in pairs)
        return Prefixed(components) if self.prefix else BayesMixture(components, self.weights)


def _can_be_mixed(task: object) -> bool:
    # The class is asked, as the spread of some inputs' labels is unknown, which a mixture need not mind.
    gaussian = isinstance(getattr(task, "inputs", None), Inputs)
    return isinstance(task, Task) and gaussian and hasattr(type(task), "label_std")


@functools.lru_cache(maxsize=32)  # that of a pool reads the whole pool
def _label_std(task: Task) -> float:
    return task.label_std


def _together(parts: list[Prompt], rows: list[Tensor]) -> Prompt:
    """The prompts of all parts in one batch, each in its row, with the latents that they share."""
    shared = set.intersection(*({(name, value.shape[1:]) for name, value in part.latents.items()} for part in parts))
    latents = {name: _placed([part.latents[name] for part in parts], rows) for name, _ in sorted(shared)}
    xs, ys = _placed([part.xs for part in parts], rows), _placed([part.ys for part in parts], rows)
    return Prompt(xs, ys, latents)


def _placed(parts: list[Tensor], rows: list[Tensor]) -> Tensor:
    """Entry rows[i][j] is parts[i][j]; what a part has beyond its rows is left out."""
    whole = parts[0].new_empty(sum(map(len, rows)), *parts[0].shape[1:])
    for part, places in zip(parts, rows, strict=True):
        whole[places] = part[: len(places)]
    return whole
