"""`microtome train icl`: an in-context learner on any task, beside the exact answer."""

from pathlib import Path
from typing import Annotated, Any

import typer

from microtome.lab.commands.terminal import print_table

PROMPTS_OF_THE_TEST = 1000
START = {
    "task": {"name": "linear_regression"},
    "model": {"d_model": 64, "n_layers": 3, "n_heads": 2},
    "train": {"steps": 2000, "schedule": "cosine", "warmup": 0.05, "clip": 1.0},
}


def train_icl(
    config: Annotated[Path | None, typer.Option(help="YAML: task, points, batch, model, train, curriculum.")] = None,
    task: Annotated[str | None, typer.Option(help="A law of prompts; `microtome tasks` lists them.")] = None,
    dim: Annotated[int | None, typer.Option(help="Dimensions of x; 8 unless the task has its own.")] = None,
    points: Annotated[int | None, typer.Option(help="Pairs of a prompt; 2 dim + 1 by default.")] = None,
    mixer: Annotated[str | None, typer.Option(help="How positions are mixed; `microtome zoo` lists the ways.")] = None,
    steps: Annotated[int | None, typer.Option(help="Optimiser steps, each on 64 new prompts; 2000 by default.")] = None,
    d_model: Annotated[int | None, typer.Option(help="Width of the residual stream; 64 by default.")] = None,
    layers: Annotated[int | None, typer.Option(help="Number of blocks; 3 by default.")] = None,
    heads: Annotated[int | None, typer.Option(help="Heads of a block; 2 by default.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of parameters and data; 0 by default.")] = None,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", help="Any other option: task.noise_std=0.5, train.lr=0.003, …")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the run.")] = Path("runs/icl"),
    resume: Annotated[bool, typer.Option("--resume", help="Take up the run in that folder.")] = False,
) -> None:
    """Train a model to learn functions in context, and compare it with exact Bayes.

    Flags win over the file, and --set over flags.
    """
    if not resume and (out / "run.json").exists():
        raise ValueError(f"{out} already holds a run; add --resume to take it up, or choose another folder with --out")

    from microtome.lab.train import recipe, train

    flags = {
        "task.name": task,
        "task.dim": dim,
        "points": points,
        "model.mixer": mixer,
        "model.d_model": d_model,
        "model.n_layers": layers,
        "model.n_heads": heads,
        "model.seed": seed,
        "train.steps": steps,
        "train.seed": seed,
    }
    sections = START if config is None else recipe.read(config)
    given = {name: value for name, value in flags.items() if value is not None}
    sections = recipe.override(sections, given | recipe.assigned(assignments or []))
    chosen = recipe.make(_with_dim(sections))
    run = train(chosen.learner(), chosen.objective(), chosen.train, out, resume=resume)
    if run.status == "finished":
        _compare(run.model, chosen)
        typer.echo(f"run in {run.path}")


def list_tasks() -> None:
    """The laws of prompts that a learner can be trained on."""
    from microtome.lab.tasks import catalogue

    paragraphs = {name: (cls.__doc__ or "").strip().split("\n\n")[0] for name, cls in catalogue.classes().items()}
    rows = [(name, " ".join(text.split())) for name, text in paragraphs.items()]
    print_table(("task", "what"), rows, flexible="what")


def _with_dim(sections: dict[str, Any]) -> dict[str, Any]:
    """The sections, with 8 dimensions where the task needs a number of them and none was given."""
    from dataclasses import MISSING, fields

    from microtome.lab.tasks import catalogue

    task = sections.get("task")
    if not isinstance(task, dict) or "dim" in task or not isinstance(task.get("name"), str):
        return sections
    needed = [f.name for f in fields(catalogue.task_class(task["name"])) if f.default is f.default_factory is MISSING]
    return {**sections, "task": {**task, "dim": 8}} if "dim" in needed else sections


def _compare(model: Any, chosen: Any) -> None:
    """Prints the error of a run's model on new prompts of the task, half way and at the end."""
    import torch

    from microtome.lab import bayes

    task, points = chosen.task, chosen.points
    prompt = task.sample(PROMPTS_OF_THE_TEST, points, torch.Generator().manual_seed(chosen.train.seed + 1))
    answers = {f"learner ({chosen.model.get('mixer', 'softmax')})": model}
    try:
        answers["exact Bayes"] = task.bayes()
    except ValueError as why:
        typer.echo(f"no exact answer here: {why}")
    answers["averaging"] = bayes.Averaging()
    loss, what = (bayes.zero_one_error, "error") if task.signs else (bayes.squared_error, "squared error")
    rows, half = [], points // 2
    for name, predictor in answers.items():
        error = loss(predictor.predict(prompt.xs, prompt.ys), prompt.ys).mean(0)
        rows.append((name, f"{error[half]:.4f}", f"{error[-1]:.4f}"))
    headings = (f"{what} after", f"{half} pairs", f"{points - 1} pairs")
    print_table(headings, rows, flexible=headings[0])
