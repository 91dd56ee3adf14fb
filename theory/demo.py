"""The demonstration behind `make demo`: one program, one learner, the theorems at hand, and one page about them.

Four acts, each with its sentence on the terminal: (a) a RASP program becomes weights and is held against its
interpreter on every input; (b) a transformer learns linear regression in context beside exact Bayes, its attention
entropy tracked; (c) every theory check runs at its quick budget; (d) all of it goes onto one self-contained page.
"""

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from rich.console import Console
from torch import Tensor

from microtome.lab import bayes, rasp, zoo
from microtome.lab.rasp import library, picture
from microtome.lab.rasp.compiled import Compiled
from microtome.lab.rasp.verify import Report
from microtome.lab.report import Code, Curve, Facts, Page, Picture, Prose, Table, excess_figure, risk_figure
from microtome.lab.tasks import LinearRegression
from microtome.lab.train import InContextRegression, Run, TrainConfig, train
from microtome.probes import EntropyTracker
from microtome.theory import registry
from microtome.theory.evidence import Evidence

DIM, NOISE_STD, POINTS, BATCH = 5, 0.5, 16, 64
STEPS = {False: 3000, True: 300}
TEST_PROMPTS = 4000
SEED = 0
ROLES = {"exact Bayes": "bayes", "transformer": "model"}
MADE = ("learner", "report.html", "risk.png")
GOAL = 0.5
"""The learner's excess risk at 2·dim pairs must be below this share of that of averaging."""


@dataclass(frozen=True)
class Learnt:
    """What the training left: the run, its tracker, and each predictor's measures on the same fresh prompts.

    `risks` are mean squared errors [points], `excesses` those above exact Bayes with bootstrap intervals.
    """

    run: Run
    tracker: EntropyTracker
    risks: dict[str, Float[Tensor, " points"]]
    excesses: dict[str, bayes.Interval]
    seconds: float

    @property
    def share(self) -> float:
        """The learner's excess risk at 2·dim pairs over that of averaging."""
        at = 2 * DIM
        return float(self.excesses["transformer"].mean[at] / self.excesses["averaging"].mean[at])


def run(out: Path | str = Path("runs/demo"), quick: bool = False) -> Path:
    """Runs the four acts and returns the page's path; `quick` trains a tenth as long, to look around.

    A demo folder that stands is replaced. Raises ValueError if `out` holds something else, and KeyboardInterrupt when
    the training was interrupted; its run is then whole and can be loaded.
    """
    out, console = Path(out), Console()
    _clear(out)
    start = time.perf_counter()
    console.print("[bold](a)[/] a program becomes weights")
    compiled = rasp.compile(library.make_reverse(rasp.tokens), vocab="abc", max_len=5)
    report = compiled.verify()
    console.print(f"    reverse: {compiled!r}\n    {report}")
    console.print("[bold](b)[/] a transformer learns linear regression in context, beside exact Bayes")
    learnt = _learn(out / "learner", quick)
    reached = "reached" if learnt.share < GOAL else "missed"
    console.print(
        f"    {learnt.run.step} steps in {learnt.seconds:.0f} s; excess risk over Bayes at {2 * DIM} pairs is "
        f"{learnt.share:.1%} of averaging's (goal: under {GOAL:.0%}, {reached})"
    )
    console.print("[bold](c)[/] theorems and constructions, each with a control that must fail")
    evidences = []
    for evidence in registry.run_all(budget="quick", seed=SEED):
        evidences.append(evidence)
        console.print(
            f"    {evidence.verdict:12} {evidence.statement.slug}: {evidence.statement.name} ({evidence.kind})"
        )
    page = _page(compiled, report, learnt, evidences).write(out / "report.html")
    _risks(learnt).savefig(out / "risk.png", dpi=160, bbox_inches="tight", pad_inches=0.2)
    console.print(f"[bold](d)[/] everything on one page, after {time.perf_counter() - start:.0f} s:")
    console.print(f"    {page.resolve()}", soft_wrap=True)
    return page


def _clear(out: Path) -> None:
    """Removes what an earlier demo left, and nothing else."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file; the demo needs a folder.")
    strangers = [p.name for p in out.iterdir() if p.name not in MADE] if out.exists() else []
    if strangers:
        raise ValueError(
            f"{out} holds {', '.join(sorted(strangers)[:3])}, which no demo made; choose another folder with --out."
        )
    shutil.rmtree(out / "learner", ignore_errors=True)


def _learn(folder: Path, quick: bool) -> Learnt:
    task = LinearRegression(DIM, noise_std=NOISE_STD)
    model = zoo.sequence(dim=DIM, d_model=64, n_layers=3, n_heads=2, n_ctx=2 * POINTS, seed=SEED)
    tracker = EntropyTracker(model, every=10)
    config = TrainConfig(
        steps=STEPS[quick],
        lr=2e-3,
        warmup=0.1,
        schedule="cosine",
        clip=1.0,
        seed=SEED,
        log_every=25,
        checkpoint_every=500,
    )
    start = time.perf_counter()
    run = train(model, InContextRegression(task, BATCH, POINTS), config, folder, callbacks=[tracker])
    if run.status != "finished":
        raise KeyboardInterrupt
    seconds = time.perf_counter() - start
    prompt = task.sample(TEST_PROMPTS, POINTS, torch.Generator().manual_seed(SEED + 1))
    exact = task.bayes().predict(prompt.xs, prompt.ys)
    others = {
        "transformer": model,
        "ridge, λ = 2": bayes.Ridge(2.0),
        "least squares": bayes.OLS(),
        "gradient descent, 1 step": bayes.GradientDescent(1, 1 / (2 * POINTS)),
        "gradient descent, 20 steps": bayes.GradientDescent(20, 1 / (20 * DIM)),
        "averaging": bayes.Averaging(),
    }
    said = {name: predictor.predict(prompt.xs, prompt.ys) for name, predictor in others.items()}
    generator = torch.Generator().manual_seed(SEED + 2)
    excesses = {name: bayes.excess_risk(p, exact, prompt.ys, generator) for name, p in said.items()}
    risks = {"exact Bayes": exact, **said}
    risks = {name: bayes.squared_error(p, prompt.ys).mean(0) for name, p in risks.items()}
    return Learnt(run, tracker, risks, excesses, seconds)


def _page(compiled: Compiled, report: Report, learnt: Learnt, evidences: list[Evidence]) -> Page:
    verdicts = [e.verdict for e in evidences]
    page = Page(
        "Microtome: a first look",
        "One program compiled to weights, one transformer that learns in context beside the exact Bayesian answer, and "
        "the theorems at hand with controls that fail. Everything on this page was computed by the run that wrote it.",
    )
    page.section(
        "What was found",
        Facts(
            {
                "inputs on which the compiled program equals its interpreter": f"{report.inputs:,}"
                if report.equal
                else "differs",
                f"excess risk over Bayes at {2 * DIM} pairs, share of averaging's": f"{learnt.share:.1%}",
                "statements that hold": f"{verdicts.count('holds')} of {len(verdicts)}",
                "training time": f"{learnt.seconds:.0f} s",
            }
        ),
    )
    _program_section(page, compiled, report)
    _learner_section(page, learnt)
    _theory_section(page, evidences)
    return page


def _program_section(page: Page, compiled: Compiled, report: Report) -> None:
    cfg = compiled.model.cfg
    page.section(
        "A program becomes weights",
        Prose(
            f"The RASP program reverse was compiled to a transformer of {cfg.n_layers} layers, {cfg.n_heads} head(s) "
            f"each, with a residual stream of {cfg.d_model} columns. Run as a model, it {report}."
        ),
        Code(f"{compiled.program!r}\n\nreverse(['a', 'c', 'b', 'b']) = {compiled(['a', 'c', 'b', 'b'])}"),
        Picture(
            picture.draw(compiled, "acbb"),
            "The residual stream on the input a c b b: rows are named directions, with their column of the stream in "
            "brackets, columns are positions, and a panel follows each sub-layer. A green frame marks what it adds; "
            "where a row is grey, the stream does not hold it.",
            "Heat maps of the residual stream after the embedding and each attention and MLP layer.",
        ),
    )


def _learner_section(page: Page, learnt: Learnt) -> None:
    excesses = {
        name: Curve(e.mean.float(), e.low.float(), e.high.float(), ROLES.get(name, "baseline"))
        for name, e in learnt.excesses.items()
    }
    at = 2 * DIM
    rows = [
        (name, float(learnt.risks[name][DIM]), float(learnt.risks[name][at]), _interval(learnt.excesses.get(name), at))
        for name in learnt.risks
    ]
    collapses = len(learnt.tracker.collapses)
    page.section(
        "Learning in context, beside the exact answer",
        Prose(
            f"Prompts hold {POINTS} pairs (x, y) with y = w·x + noise, {DIM} dimensions, σ² = {NOISE_STD**2:g}, and a "
            f"new w each. A transformer of 3 layers was trained for {learnt.run.step} steps of {BATCH} prompts. On "
            f"{TEST_PROMPTS:,} fresh prompts its squared error above exact Bayes after {at} pairs is "
            f"{learnt.share:.1%} of that of averaging; the aim was under {GOAL:.0%}."
        ),
        Picture(
            _risks(learnt),
            "Mean squared error at every context length. No predictor can lie below exact Bayes on average.",
            "Curves of squared error against the number of pairs seen, for the transformer, exact Bayes and baselines.",
        ),
        Picture(
            excess_figure(excesses, DIM),
            "The same above exact Bayes, with 95 % bootstrap intervals over prompts.",
            "Curves of excess risk against the number of pairs seen.",
        ),
        Table(
            ("predictor", f"risk at {DIM} pairs", f"risk at {at} pairs", f"excess over Bayes at {at} pairs"),
            rows,
            "Squared errors on fresh prompts; intervals are 95 % bootstrap intervals over prompts.",
        ),
        Picture(
            learnt.tracker.figure(),
            "Attention entropy of every head while it trained, the spectral norm of its query-key product, the loss. "
            f"Heads that collapsed: {collapses}.",
            "Three panels over training steps: attention entropy, spectral norm and training loss.",
        ),
    )


def _risks(learnt: Learnt) -> Figure:
    curves = {name: Curve(risk, role=ROLES.get(name, "baseline")) for name, risk in learnt.risks.items()}
    return risk_figure(curves, DIM, NOISE_STD**2)


def _interval(interval: bayes.Interval | None, at: int) -> str | None:
    if interval is None:
        return None
    return f"{interval.mean[at]:.3f} ({interval.low[at]:.3f} to {interval.high[at]:.3f})"


def _theory_section(page: Page, evidences: list[Evidence]) -> None:
    rows = [(e.statement.slug, e.statement.text, e.kind, e.verdict, _checks(e.checks), _control(e)) for e in evidences]
    pictures = [(e, e.figure) for e in evidences if e.figure is not None]
    page.section(
        "Theorems and constructions",
        Prose(
            "Each statement is met by evidence of a named kind. A control for which the statement must not hold is "
            "put through the same checks: if it passes them too, the evidence is vacuous."
        ),
        Table(
            ("paper", "statement", "kind", "verdict", "measured", "control that must fail"),
            rows,
            "Evidence of this run.",
        ),
        *(Picture(draw(), f"{e.statement.name}: {e.statement.text}", e.statement.name) for e, draw in pictures),
    )


def _checks(checks) -> str:
    return "\n".join(f"{c.name} = {c.measured:.4g} ({c.threshold})" for c in checks)


def _control(evidence: Evidence) -> str | None:
    if evidence.control is None:
        return None
    return f"{evidence.control.description}: {_checks(evidence.control.checks)}"
