"""Every law of prompts survives the way through plain values, and is drawn by name."""

import dataclasses
import json

import pytest
import torch

from microtome.lab.tasks import Inputs, LinearRegression, Spectrum, catalogue


def plain(cls: type) -> object:
    """A task of the class with four dimensions wherever it needs a number; None if it needs more than that."""
    needed = [f.name for f in dataclasses.fields(cls) if f.default is f.default_factory is dataclasses.MISSING]
    try:
        return cls(**dict.fromkeys(needed, 4))
    except TypeError:
        return None


TASKS = {name: task for name, cls in catalogue.classes().items() if (task := plain(cls)) is not None}
every_task = pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)


def test_the_catalogue_is_not_empty() -> None:
    assert {"LinearRegression", "Conjunction", "Fourier", "SignVector", "DecisionTree"} <= set(TASKS)


@every_task
def test_a_description_is_json_and_builds_the_same_task(task) -> None:
    assert catalogue.build(json.loads(json.dumps(catalogue.describe(task)))) == task


@every_task
def test_labels_are_signs_where_the_task_says_so(task, generator: torch.Generator) -> None:
    prompt = task.sample(8, 6, generator)
    assert prompt.xs.shape == (8, 6, task.dim)
    assert bool((prompt.ys.abs() == 1).all()) == task.signs


def test_parts_within_parts() -> None:
    task = LinearRegression(2, inputs=Inputs(Spectrum((1.0, 2.0), "fixed", 3), query="orthogonal"))
    assert catalogue.build(catalogue.describe(task)) == task
    mixture = {
        "name": "mixture",
        "weights": [0.5, 0.5],
        "tasks": [{"name": "sign_vector", "dim": 3}, {"name": "linear-regression", "dim": 3}],
    }
    assert [type(each).__name__ for each in catalogue.build(mixture).tasks] == ["SignVector", "LinearRegression"]


def test_names_are_read_kindly_and_wrong_ones_get_a_sentence() -> None:
    assert catalogue.task_class("linear_regression") is catalogue.task_class("LinearRegression") is LinearRegression
    with pytest.raises(ValueError, match=r"no task is called 'linear_regresion' \(did you mean LinearRegression or"):
        catalogue.task_class("linear_regresion")
