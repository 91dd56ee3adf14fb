"""A whole in-context learning run as plain values, as a YAML file has them: a task, a model, the options of training.

task: {name: linear_regression, dim: 8, noise_std: 0.5}
points: 17
batch: 64
model: {mixer: softmax, d_model: 64, n_layers: 3, n_heads: 2}
train: {steps: 2000, lr: 0.001, schedule: cosine}
curriculum: {dims: {start: 2, end: 8, interval: 100}, points: {start: 5, end: 17, increment: 2, interval: 100}}
"""

import dataclasses
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from microtome.lab.spelling import near
from microtome.lab.tasks import catalogue
from microtome.lab.tasks.protocol import Task
from microtome.lab.train.config import TrainConfig
from microtome.lab.train.curriculum import Curriculum, Ramp
from microtome.lab.train.objective import InContextClassification, InContextRegression

SECTIONS = ("task", "points", "batch", "first", "curriculum", "model", "train")
GIVEN = ("stem", "dim", "n_ctx", "d_vocab", "causal")
"""Options of `zoo.sequence` that follow from the task."""


@dataclass(frozen=True)
class Recipe:
    """What decides an in-context learning run.

    Attributes:
        task: the law of prompts.
        points: pairs a prompt.
        model: options of `zoo.sequence`, without those that follow from the task.
        train: options of training.
        batch: prompts a step.
        first: the pairs before this one enter the context only; for labels ±1.
        curriculum: shorter and narrower prompts at first, or None.
    """

    task: Task
    points: int
    model: Mapping[str, Any]
    train: TrainConfig
    batch: int = 64
    first: int = 0
    curriculum: Curriculum | None = None

    def objective(self) -> InContextRegression:
        """Squared error, or the logistic loss where labels are ±1.

        Raises:
            ValueError: if the sizes do not fit, or `first` is given for labels that are not ±1.
        """
        if self.task.signs:
            return InContextClassification(self.task, self.batch, self.points, self.first, self.curriculum)
        if self.first:
            raise ValueError(f"first is for labels ±1; {type(self.task).__name__} has real ones.")
        return InContextRegression(self.task, self.batch, self.points, self.curriculum)

    def learner(self) -> Any:
        """The model, with the parameters it starts from.

        Raises:
            ValueError: for an option that `zoo.sequence` has not, or if the zoo refuses the model.
        """
        from microtome.lab import zoo

        options = inspect.signature(zoo.sequence).parameters
        _known("model", self.model, [option for option in options if option not in GIVEN])
        return zoo.sequence(dim=self.task.dim, n_ctx=2 * self.points, **self.model)


def read(path: Path) -> dict[str, Any]:
    """The sections of a YAML file.

    Raises:
        ValueError: if the file is missing, is no YAML, or has a section that is not in `SECTIONS`.
    """
    try:
        sections = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}.") from error
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        raise ValueError(f"{path} is no YAML{f', line {where.line + 1}' if where else ''}.") from error
    if not isinstance(sections, dict):
        raise ValueError(f"{path} must hold the sections {', '.join(SECTIONS)}, of which task is needed.")
    return sections


def assigned(words: list[str]) -> dict[str, Any]:
    """What `train.lr=0.01` and the like say; values are read as YAML.

    Raises:
        ValueError: for a word without `=`, or whose value is no YAML.
    """
    values = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise ValueError(f"an assignment reads section.option=value, such as train.lr=0.01, not {word!r}.")
        try:
            values[name.strip()] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ValueError(f"the value of {word!r} is no YAML.") from error
    return values


def override(sections: dict[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Sections with `values` put in, whose keys are like "train.lr".

    Raises:
        ValueError: for a value in something that has no parts.
    """
    sections = _copied(sections)
    for name, value in values.items():
        *path, last = name.split(".")
        place = sections
        for part in path:
            place = place.setdefault(part, {})
            if not isinstance(place, dict):
                raise ValueError(f"{name} would stand in {part}, which is not a section.")
        place[last] = value
    return sections


def make(sections: Mapping[str, Any]) -> Recipe:
    """The recipe of these sections; what is left out keeps its default, and points are 2·dim + 1.

    Raises:
        ValueError: naming the section or option at fault.
    """
    _known("the recipe", sections, SECTIONS)
    if "task" not in sections:
        raise ValueError("a recipe needs a task, such as {name: linear_regression, dim: 8}.")
    task = catalogue.build(sections["task"])
    train = _section(sections, "train")
    _known("train", train, [field.name for field in dataclasses.fields(TrainConfig)])
    model = _section(sections, "model")
    for option in GIVEN:
        if option in model:
            raise ValueError(f"{option} of the model follows from the task; leave it out.")
    curriculum = _section(sections, "curriculum")
    return Recipe(
        task,
        _whole("points", sections.get("points", 2 * task.dim + 1)),
        model,
        _trained(train),
        _whole("batch", sections.get("batch", 64)),
        _whole("first", sections.get("first", 0)),
        _curriculum(curriculum) if curriculum else None,
    )


def _trained(options: Mapping[str, Any]) -> TrainConfig:
    defaults, chosen = TrainConfig(steps=1), {"steps": 2000, **options}
    for name, value in options.items():
        like = 0.0 if name == "clip" else getattr(defaults, name)
        if not isinstance(like, int | float) or (name == "clip" and value is None):
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"train.{name} must be a number, not {value!r}.")
        chosen[name] = type(like)(value) if isinstance(like, float) else _whole(f"train.{name}", value)
    if "betas" in options:
        chosen["betas"] = _pair("train.betas", options["betas"])
    return TrainConfig(**chosen)


def _curriculum(ramps: Mapping[str, Any]) -> Curriculum:
    _known("curriculum", ramps, ("dims", "points"))
    if set(ramps) != {"dims", "points"}:
        raise ValueError("a curriculum has two ramps, dims and points.")
    for name, ramp in ramps.items():
        _known(f"curriculum.{name}", ramp, [field.name for field in dataclasses.fields(Ramp)])
        for option in ("start", "end"):
            if option not in ramp:
                raise ValueError(f"curriculum.{name} needs {option}.")
        for option, value in ramp.items():
            _whole(f"curriculum.{name}.{option}", value)
    return Curriculum(**{name: Ramp(**ramp) for name, ramp in ramps.items()})


def _section(sections: Mapping[str, Any], name: str) -> dict[str, Any]:
    section = sections.get(name) or {}
    if not isinstance(section, Mapping):
        raise ValueError(f"{name} must be a mapping of options, not {section!r}.")
    return dict(section)


def _known(what: str, options: Any, allowed: Any) -> None:
    if not isinstance(options, Mapping):
        raise ValueError(f"{what} must be a mapping of options, not {options!r}.")
    for name in options:
        if name not in allowed:
            raise ValueError(f"{what} has no {name!r}{near(str(name), allowed)}; there are {', '.join(allowed)}.")


def _whole(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{name} must be a whole number, not {value!r}.")
    return value


def _pair(name: str, value: Any) -> tuple[float, float]:
    if not isinstance(value, Sequence) or [type(each) in (int, float) for each in value] != [True, True]:
        raise ValueError(f"{name} must be two numbers, not {value!r}.")
    return float(value[0]), float(value[1])


def _copied(sections: Any) -> Any:
    return {key: _copied(value) for key, value in sections.items()} if isinstance(sections, dict) else sections
