"""`microtome predict`: what a trained learner and exact Bayes say of a user's own rows."""

from pathlib import Path
from typing import Annotated, Any

import typer

from microtome.lab.commands.prompts import read_rows
from microtome.lab.commands.terminal import print_json, print_table

CALIBRATION_PROMPTS = 2000
CALIBRATION_SEED = 77


def predict_rows(
    run: Annotated[Path, typer.Argument(help="Folder of a run of `microtome train icl`.")],
    prompt: Annotated[Path, typer.Option(help="CSV with the columns x1, x2, …, y; the last y may be empty.")],
    level: Annotated[float, typer.Option(help="Probability inside the intervals.")] = 0.9,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Predict every y of a prompt from the rows above it, by the learner and by exact Bayes.

    The learner's interval has the width that held so many labels on prompts of the law that it was trained on; that of
    Bayes is its posterior predictive. Of labels ±1 both give the probability of +1.
    """
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, not {level}.")
    from microtome.lab.tasks import catalogue
    from microtome.lab.train import load

    loaded = load(run)
    described = loaded.resolved["objective"].get("task", {})
    if described.get("name") not in catalogue.classes():
        raise ValueError(f"the run in {run} learnt no law of (x, y) prompts, so that it predicts none.")
    task = catalogue.build(described)
    rows = read_rows(prompt, task.dim)
    longest = loaded.model.spec.shape.n_ctx // 2
    if len(rows.ys) > longest:
        raise ValueError(f"{prompt} has {len(rows.ys)} rows, and the learner takes prompts of at most {longest}.")
    table = (_signs if task.signs else _numbers)(task, loaded.model, rows, level)
    _warn(rows, task)
    if as_json:
        print_json(table)
        return
    shown = [_in_words(row, level) for row in table]
    print_table(tuple(shown[0]), [tuple(row.values()) for row in shown], flexible="y")


def _numbers(task: Any, model: Any, rows: Any, level: float) -> list[dict[str, Any]]:
    import torch

    from microtome.lab.bayes import Probabilistic, intervals

    xs, ys = _tensors(rows)
    own = task.sample(CALIBRATION_PROMPTS, len(rows.ys), torch.Generator().manual_seed(CALIBRATION_SEED))
    width = intervals.half_widths(model, own.xs, own.ys, level)
    learner = model.predict(xs, ys).mean[0]
    columns = {"y": rows.ys, "learner": learner, "learner low": learner - width, "learner high": learner + width}
    exact = _exact(task)
    if exact is not None:
        columns["Bayes"] = exact.predict(xs, ys).mean[0]
        if isinstance(exact, Probabilistic):
            low, high = intervals.central(exact.law(xs, ys), level)
            columns |= {"Bayes low": low[0], "Bayes high": high[0]}
    return _table(columns)


def _signs(task: Any, model: Any, rows: Any, level: float) -> list[dict[str, Any]]:
    from microtome.lab.bayes import Odds

    xs, ys = _tensors(rows)
    if not (ys.abs() == 1).all():
        raise ValueError("this learner's labels are −1 and +1; a row has another y.")
    columns = {"y": rows.ys, "learner P(+1)": (1 + Odds(model).predict(xs, ys).mean[0]) / 2}
    exact = _exact(task)
    if exact is not None:
        columns["Bayes P(+1)"] = (1 + exact.predict(xs, ys).mean[0]) / 2
    return _table(columns)


def _exact(task: Any) -> Any:
    try:
        return task.bayes()
    except ValueError as why:
        typer.echo(f"no exact answer here: {why}", err=True)
        return None


def _tensors(rows: Any) -> tuple[Any, Any]:
    """xs [1 points dim] and ys [1 points]; what is asked for stands as 1, which nobody reads."""
    import torch

    return torch.tensor([rows.xs]), torch.tensor([[1.0 if y is None else y for y in rows.ys]])


def _warn(rows: Any, task: Any) -> None:
    known = {y for y in rows.ys if y is not None}
    if len(known) == 1 and len(rows.ys) > 2 and not task.signs:
        constant = f"every y of this prompt is {known.pop():g}"
        typer.echo(f"{constant}: a constant is rare under the law that was learnt.", err=True)


def _table(columns: dict[str, Any]) -> list[dict[str, Any]]:
    plain = {name: values if isinstance(values, list) else values.tolist() for name, values in columns.items()}
    return [{"row": i + 1, **{name: values[i] for name, values in plain.items()}} for i in range(len(plain["y"]))]


def _in_words(row: dict[str, Any], level: float) -> dict[str, str]:
    """A row of the table for people, with each interval in one cell."""
    cells = {"row": str(row["row"]), "y": "?" if row["y"] is None else f"{row['y']:g}"}
    for name, value in row.items():
        if name in ("row", "y") or name.endswith(" high"):
            continue
        if name.endswith(" low"):
            cells[f"{100 * level:g} %" + " " * len(cells)] = f"{value:.4g} … {row[name[:-4] + ' high']:.4g}"
        else:
            cells[name] = f"{value:.4g}"
    return cells
