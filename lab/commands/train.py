"""`microtome train icl`: an in-context learner of linear functions, beside the exact answer."""

from pathlib import Path
from typing import Annotated, Any

import typer

from microtome.lab.commands.terminal import print_table

PROMPTS_OF_THE_TEST = 1000


def train_icl(
    dim: Annotated[int, typer.Option(help="Dimensions of x.")] = 8,
    steps: Annotated[int, typer.Option(help="Optimiser steps, each on 64 new prompts of 2 dim + 1 pairs.")] = 2000,
    d_model: Annotated[int, typer.Option(help="Width of the residual stream.")] = 64,
    layers: Annotated[int, typer.Option(help="Number of blocks.")] = 3,
    heads: Annotated[int, typer.Option(help="Heads of a block.")] = 2,
    seed: Annotated[int, typer.Option(help="Seed of parameters and data.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder of the run.")] = Path("runs/icl"),
    resume: Annotated[bool, typer.Option("--resume", help="Take up the run in that folder.")] = False,
) -> None:
    """Train a transformer to learn linear functions in context, and compare it with exact Bayes."""
    if not resume and (out / "run.json").exists():
        raise ValueError(f"{out} already holds a run; add --resume to take it up, or choose another folder with --out")

    from microtome.lab import tasks, train, zoo

    task, points = tasks.LinearRegression(dim), 2 * dim + 1
    model = zoo.sequence(dim=dim, d_model=d_model, n_layers=layers, n_heads=heads, n_ctx=2 * points, seed=seed)
    config = train.TrainConfig(steps=steps, schedule="cosine", warmup=0.05, clip=1.0, seed=seed)
    run = train.train(model, train.InContextRegression(task, batch=64, points=points), config, out, resume=resume)
    if run.status == "finished":
        _compare(run, task, points)
        typer.echo(f"run in {run.path}")


def _compare(run: Any, task: Any, points: int) -> None:
    """Prints the squared error of a run's model on new prompts of the task, after dim and after 2·dim pairs."""
    import torch

    from microtome.lab import bayes

    prompt = task.sample(PROMPTS_OF_THE_TEST, points, torch.Generator().manual_seed(run.config.seed + 1))
    answers = {
        "transformer": run.model,
        "exact Bayes": task.bayes(),
        "averaging": bayes.Averaging(),
    }
    rows = []
    for name, predictor in answers.items():
        error = bayes.squared_error(predictor.predict(prompt.xs, prompt.ys), prompt.ys).mean(0)
        rows.append((name, f"{error[task.dim]:.4f}", f"{error[-1]:.4f}"))
    headings = ("squared error after", f"{task.dim} pairs", f"{points - 1} pairs")
    print_table(headings, rows, flexible=headings[0])
