"""Every law of prompts by name, found by looking, and laws as plain values that a file can hold.

describe(LinearRegression(8, noise_std=0.5))  ->  {"name": "LinearRegression", "dim": 8, "noise_std": 0.5, …}
build({"name": "linear_regression", "dim": 8, "noise_std": 0.5})  ->  LinearRegression(8, noise_std=0.5)
"""

import dataclasses
import difflib
import importlib
import inspect
import pkgutil
import types
import typing
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from microtome.lab import tasks
from microtome.lab.spelling import near
from microtome.lab.tasks.protocol import Task


@cache
def classes() -> dict[str, type[Task]]:
    """The tasks of (x, y) prompts by class name, in alphabetical order."""
    found: dict[str, type[Task]] = {}
    for info in pkgutil.walk_packages(tasks.__path__, f"{tasks.__name__}."):
        for name, value in vars(importlib.import_module(info.name)).items():
            concrete = inspect.isclass(value) and issubclass(value, Task) and not inspect.isabstract(value)
            if concrete and dataclasses.is_dataclass(value) and value.__module__ == info.name:
                found[name] = value
    return dict(sorted(found.items()))


def task_class(name: str) -> type[Task]:
    """The class with this name; case and underscores do not matter.

    Raises:
        ValueError: if there is none, with the nearest names.
    """
    by_name = {_plain(known): known for known in classes()}
    if _plain(name) not in by_name:
        matches = difflib.get_close_matches(_plain(name), by_name, n=3)
        hint = f" (did you mean {' or '.join(by_name[match] for match in matches)}?)" if matches else ""
        raise ValueError(f"no task is called {name!r}{hint}; there are {', '.join(classes())}.")
    return classes()[by_name[_plain(name)]]


def describe(task: Any) -> Any:
    """A task, or what it is made of, as plain values: mappings, lists, strings and numbers."""
    if isinstance(task, Task):
        return {"name": type(task).__name__, **_fields(task)}
    if dataclasses.is_dataclass(task):
        return _fields(task)
    return [describe(each) for each in task] if isinstance(task, tuple) else task


def build(description: Any) -> Task:
    """The task that a description stands for; attributes that are not named keep their defaults.

    Raises:
        ValueError: if the name or an attribute is unknown, one is missing or of the wrong kind, or the law impossible.
    """
    if not isinstance(description, Mapping) or not isinstance(description.get("name"), str):
        raise ValueError(
            f"a task is a mapping with a name, such as {{name: linear_regression, dim: 8}}, not {description!r}."
        )
    options = {key: value for key, value in description.items() if key != "name"}
    return _construct(task_class(description["name"]), options)


def _fields(value: Any) -> dict[str, Any]:
    return {field.name: describe(getattr(value, field.name)) for field in dataclasses.fields(value) if field.init}


def _construct(cls: type, options: Mapping[str, Any]) -> Any:
    allowed = {field.name: field for field in dataclasses.fields(cls) if field.init}
    for name in options:
        if name not in allowed:
            raise ValueError(f"{cls.__name__} has no {name!r}{near(name, allowed)}; it has {', '.join(allowed)}.")
    missing = [
        name
        for name, field in allowed.items()
        if name not in options and field.default is field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ValueError(f"{cls.__name__} needs {' and '.join(missing)}.")
    hints = typing.get_type_hints(cls)
    return cls(**{name: _decoded(cls, name, value, hints[name]) for name, value in options.items()})


def _decoded(cls: type, name: str, value: Any, hint: Any) -> Any:
    """A plain value as the annotation wants it."""
    inside = _alternatives(hint)
    if isinstance(value, Mapping):
        if "name" in value:
            return build(value)
        made = [each for each in inside if dataclasses.is_dataclass(each)]
        if len(made) != 1:
            raise ValueError(f"{name} of {cls.__name__} cannot be a mapping without a name.")
        return _construct(made[0], value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        element = next((typing.get_args(each)[0] for each in inside if typing.get_origin(each) is tuple), Any)
        return tuple(_decoded(cls, name, each, element) for each in value)
    if float in inside and type(value) is int:
        return float(value)
    plain = tuple(each for each in inside if each in (int, float, str, bool, types.NoneType))
    if len(plain) == len(inside) and not isinstance(value, plain):
        wanted = " or ".join("nothing" if each is types.NoneType else each.__name__ for each in plain)
        raise ValueError(f"{name} of {cls.__name__} must be {wanted}, not {value!r}.")
    return value


def _alternatives(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint) if typing.get_origin(hint) in (types.UnionType, typing.Union) else (hint,)


def _plain(name: str) -> str:
    return name.replace("_", "").replace("-", "").lower()
