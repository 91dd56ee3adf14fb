"""Recipes: what a YAML file says is what is built, and what it cannot say gets one sentence."""

from pathlib import Path

import pytest
import yaml

from microtome.lab import train
from microtome.lab.tasks import Inputs, LinearRegression, Spectrum
from microtome.lab.train import recipe

WHOLE = """
task:
  {name: linear_regression, dim: 4, noise_std: 0.5, inputs: {covariance: {eigenvalues: [1, 2, 3, 4], rotation: none}}}
points: 9
batch: 16
model: {mixer: lstm, d_model: 16, n_layers: 1, n_heads: 2}
train: {steps: 5, lr: 0.003, betas: [0.9, 0.98], clip: 1}
curriculum: {dims: {start: 4, end: 4}, points: {start: 5, end: 9, increment: 2, interval: 2}}
"""


def test_a_file_says_everything(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(WHOLE)
    made = recipe.make(recipe.read(path))
    assert made.task == LinearRegression(4, 0.5, inputs=Inputs(Spectrum((1.0, 2.0, 3.0, 4.0), "none")))
    assert (made.points, made.batch, made.train.betas, made.train.clip) == (9, 16, (0.9, 0.98), 1)
    assert made.learner().spec.shape.n_ctx == 18
    run = train.train(made.learner(), made.objective(), made.train, tmp_path / "run", progress=False)
    assert run.status == "finished"


def test_assignments_win_and_leave_the_file_alone() -> None:
    sections = yaml.safe_load(WHOLE)
    changed = recipe.override(
        sections, recipe.assigned(["train.lr=0.1", "task.inputs.scale=3", "model.norm.name=rmsnorm"])
    )
    assert recipe.make(changed).train.lr == 0.1
    assert changed["task"]["inputs"]["scale"] == 3
    assert changed["model"]["norm"] == {"name": "rmsnorm"}
    assert sections == yaml.safe_load(WHOLE)


def test_defaults_follow_from_the_task() -> None:
    made = recipe.make({"task": {"name": "LinearRegression", "dim": 3}})
    assert (made.points, made.batch, made.curriculum, made.train.steps) == (7, 64, None, 2000)


TASK = {"name": "linear_regression", "dim": 3}


@pytest.mark.parametrize(
    ("sections", "sentence"),
    [
        ({}, "a recipe needs a task"),
        ({"tsk": TASK}, r"has no 'tsk' \(did you mean task\?\)"),
        ({"task": "linear"}, "a task is a mapping with a name"),
        ({"task": {"name": "linear"}}, "no task is called 'linear'"),
        ({"task": {"name": "linear_regression"}}, "LinearRegression needs dim"),
        ({"task": {**TASK, "noise": 1}}, r"LinearRegression has no 'noise' \(did you mean noise_std\?\)"),
        ({"task": {**TASK, "noise_std": "much"}}, "noise_std of LinearRegression must be float, not 'much'"),
        ({"task": {**TASK, "noise_std": -1.0}}, "noise_std must be finite and at least 0, not -1.0"),
        ({"task": {**TASK, "inputs": {"size": 3}}}, "Inputs has no 'size'"),
        ({"task": TASK, "points": 2.5}, "points must be a whole number, not 2.5"),
        ({"task": TASK, "train": {"lrr": 1}}, r"train has no 'lrr' \(did you mean lr\?\)"),
        ({"task": TASK, "train": {"lr": "fast"}}, "train.lr must be a number, not 'fast'"),
        ({"task": TASK, "train": {"betas": 0.9}}, "train.betas must be two numbers, not 0.9"),
        ({"task": TASK, "train": {"betas": [0.9, "much"]}}, "train.betas must be two numbers"),
        ({"task": TASK, "train": 3}, "train must be a mapping of options, not 3"),
        ({"task": TASK, "model": {"dim": 3}}, "dim of the model follows from the task"),
        ({"task": TASK, "curriculum": {"dims": {"start": 1, "end": 3}}}, "two ramps, dims and points"),
        ({"task": TASK, "curriculum": {"dims": {"begin": 1}, "points": {}}}, "curriculum.dims has no 'begin'"),
        ({"task": TASK, "curriculum": {"dims": {"start": 1}, "points": {}}}, "curriculum.dims needs end"),
        (
            {"task": TASK, "curriculum": {"dims": {"start": 1, "end": 2.5}, "points": {}}},
            "curriculum.dims.end must be a whole number, not 2.5",
        ),
    ],
)
def test_what_a_recipe_cannot_say_gets_a_sentence(sections: dict, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        recipe.make(sections)


def test_first_is_for_signs() -> None:
    with pytest.raises(ValueError, match="first is for labels ±1; LinearRegression has real ones"):
        recipe.make({"task": TASK, "first": 2}).objective()


def test_files_that_are_no_recipes_get_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    with pytest.raises(ValueError, match=r"run\.yaml cannot be read: No such file"):
        recipe.read(path)
    path.write_text("task: {name: [\n")
    with pytest.raises(ValueError, match=r"run\.yaml is no YAML, line 2"):
        recipe.read(path)
    path.write_text("- 3\n")
    with pytest.raises(ValueError, match="must hold the sections task, points"):
        recipe.read(path)
    with pytest.raises(ValueError, match=r"reads section\.option=value, such as train\.lr=0\.01, not 'lr'"):
        recipe.assigned(["lr"])
    with pytest.raises(ValueError, match=r"the value of 'task\.name=\[' is no YAML"):
        recipe.assigned(["task.name=["])
    with pytest.raises(ValueError, match=r"points\.more would stand in points, which is not a section"):
        recipe.override({"points": 3}, {"points.more": 1})


def test_options_that_the_model_has_not_get_a_sentence() -> None:
    with pytest.raises(ValueError, match=r"model has no 'mixr' \(did you mean mixer\?\); there are mixer, position"):
        recipe.make({"task": TASK, "model": {"mixr": "lstm"}}).learner()
