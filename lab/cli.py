"""The front door: the command `microtome`.

It is the one file of the lab that knows every floor, and it opens a floor only inside the command that needs it, so
that `microtome --help` costs no torch.
"""

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.text import Text

from microtome.lab.commands.compile import compile_program
from microtome.lab.commands.mixers import list_mixers
from microtome.lab.commands.predict import predict_rows
from microtome.lab.commands.programs import list_programs
from microtome.lab.commands.terminal import coloured, print_error, print_json, print_table, print_text
from microtome.lab.commands.train import list_tasks, train_icl

app = typer.Typer(
    name="microtome",
    help="See what a transformer computes, and why: any mechanism, on any task, beside the exact answer.",
    no_args_is_help=True,
    add_completion=False,
    context_settings={"help_option_names": ["--help", "-h"]},
    pretty_exceptions_enable=False,
)
claims_app = typer.Typer(no_args_is_help=True, help="The claim of each paper, with the control that must fail.")
train_app = typer.Typer(no_args_is_help=True, help="Train a model; the run can be read, loaded and resumed.")
app.add_typer(claims_app, name="claims")
app.add_typer(train_app, name="train")

EXIT_CODES = {"holds": 0, "fails": 1, "vacuous": 1, "inconclusive": 3}

Budget = Annotated[Literal["quick", "full"], typer.Option(help="quick: seconds; full: at most three minutes each.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Seed = Annotated[int, typer.Option(help="Seed of everything random.")]


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Declares what `main` acts on, so that `--debug` may stand anywhere in the line."""


@app.command("demo")
def run_demo(
    out: Annotated[Path, typer.Option(help="Folder for the report and all that it is made from.")] = Path("runs/demo"),
    quick: Annotated[bool, typer.Option("--quick", help="A shorter training, to look around.")] = False,
) -> None:
    """Compile a program, train beside exact Bayes, track entropy, verify theorems; write one report."""
    from microtome.theory import demo

    demo.run(out=out, quick=quick)


@app.command("papers")
def list_papers(as_json: Json = False) -> None:
    """The papers of the house: what exists of each, and what its claim said last."""
    from microtome.lab.zoo import registry
    from microtome.theory import claims, ledger

    with Console(stderr=True).status("importing what stands for each paper"):
        standings = [registry.standing(paper) for paper in registry.papers()]
    verdicts, claimed = ledger.read_all(), claims.available()
    rows = [
        {
            **vars(standing.paper),
            "modules": list(standing.modules),
            "broken": dict(standing.broken),
            "claim": standing.paper.slug in claimed,
            "verdict": _last_verdict(verdicts, standing.paper.slug),
        }
        for standing in standings
    ]
    if as_json:
        print_json(rows)
        return
    print_table(("slug", "title", "here", "last verdict"), map(_paper_cells, rows), flexible="title", clip=True)
    for module, reason in (pair for standing in standings for pair in standing.broken):
        typer.secho(f"{module} does not import: {reason}", fg="red", err=True)


def _paper_cells(row: dict) -> tuple[str | Text, ...]:
    here = [module.split(".", 2)[2].removesuffix(f".{row['slug']}") for module in row["modules"]]
    claim = ["claim"] if row["claim"] else []
    broken = ["broken"] if row["broken"] else []
    return row["slug"], row["title"], "\n".join(here + claim + broken) or "–", coloured(row["verdict"])


def _last_verdict(verdicts: dict, slug: str) -> str | None:
    return verdicts[slug].verdict if slug in verdicts else None


@claims_app.command("list")
def list_claims(as_json: Json = False) -> None:
    """The papers that have a claim, what it states, and its last verdict."""
    from microtome.theory import claims, ledger

    verdicts = ledger.read_all()
    rows = [
        {
            "slug": claim.slug,
            "claim": claim.statement.text,
            "kind": claim.kind,
            "verdict": _last_verdict(verdicts, claim.slug),
        }
        for claim in map(claims.load, claims.available())
    ]
    if as_json:
        print_json(rows)
        return
    cells = ((row["slug"], row["claim"], row["kind"], coloured(row["verdict"])) for row in rows)
    print_table(("slug", "claim", "kind", "last verdict"), cells, flexible="claim")


@claims_app.command("run")
def run_claim(
    slug: Annotated[str, typer.Argument(help="The paper, e.g. urpe.")],
    budget: Budget = "quick",
    seed: Seed = 0,
    figure: Annotated[Path | None, typer.Option(help="Where to draw it [default: runs/figures/SLUG.png].")] = None,
) -> None:
    """Run one paper's claim. Exit code 0: it holds; 1: it does not; 3: the budget was too small to decide."""
    from microtome.theory import claims, ledger

    claim = claims.load(slug)
    with Console(stderr=True).status(f"{claim.statement.name} ({budget})"):
        evidence = claim.run(budget=budget, seed=seed)
    _print_evidence(evidence)
    typer.echo(f"verdict in {ledger.write(slug, evidence)}")
    if evidence.figure is not None:
        path = figure or ledger.default_folder() / "figures" / f"{slug}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        evidence.figure().savefig(path, dpi=150)
        typer.echo(f"figure in {path}")
    raise typer.Exit(EXIT_CODES[evidence.verdict])


@app.command("verify")
def verify(
    kind: Annotated[list[str] | None, typer.Option(help="Only this kind of evidence; may be repeated.")] = None,
    budget: Budget = "quick",
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Check the theorems, each by its kind of evidence. Exit codes as of `claims run`."""
    from microtome.theory import KINDS, registry

    found = []
    for claim in sorted(registry.listing(kind), key=lambda claim: KINDS.index(claim.kind)):
        with Console(stderr=True).status(f"{claim.slug}: {claim.statement.name}"):
            evidence = claim.run(budget=budget, seed=seed)
        found.append(evidence)
        if not as_json:
            _print_evidence(evidence, brief=evidence.verdict == "holds")
    if as_json:
        typer.echo("[" + ",\n".join(evidence.to_json() for evidence in found) + "]")
    else:
        counts = Counter(evidence.verdict for evidence in found)
        typer.echo(f"{len(found)} checks: {', '.join(f'{count} {verdict}' for verdict, count in counts.items())}")
    codes = {EXIT_CODES[evidence.verdict] for evidence in found}
    raise typer.Exit(min(codes - {0}, default=0))


def _print_evidence(evidence: Any, indent: int = 0, brief: bool = False) -> None:
    """One line on the evidence and, unless brief, what was measured, the control, and the parts it is made of."""
    statement, control = evidence.statement, evidence.control
    about = f"  {evidence.kind}  {statement.slug}: {statement.name} ({evidence.seconds:.1f} s)"
    print_text(coloured(evidence.verdict, about), indent)
    if brief:
        return
    print_text(statement.text, indent + 2)
    for check in evidence.checks:
        print_text(_measured(check), indent + 4)
    if control is not None:
        print_text(f"control, which must fail: {control.description}", indent + 2)
        for check in control.checks:
            print_text(_measured(check), indent + 4)
    if evidence.notes:
        print_text(evidence.notes, indent + 2)
    for part in evidence.parts:
        _print_evidence(part, indent + 2)


def _measured(check: Any) -> str:
    return f"{check.name}: {check.measured:.6g}, {'' if check.passes else 'not '}{check.threshold}"


@app.command("zoo")
def list_parts(as_json: Json = False) -> None:
    """The parts that each slot of a model can hold."""
    from microtome.lab.zoo import registry

    parts = {slot: registry.names(slot) for slot in registry.SLOTS}
    if as_json:
        print_json(parts)
    else:
        print_table(("slot", "parts"), ((slot, ", ".join(names)) for slot, names in parts.items()), flexible="parts")


app.command("compile")(compile_program)
app.command("programs")(list_programs)
app.command("tasks")(list_tasks)
app.command("mixers")(list_mixers)
train_app.command("icl")(train_icl)
app.command("predict")(predict_rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one command line; an error that the lab explains is one sentence and exit code 2."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        app([word for word in words if word != "--debug"])
    except Exception as error:
        if "--debug" in words or not _is_explained(error):
            raise
        print_error(error)
        sys.exit(2)


def _is_explained(error: Exception) -> bool:
    """Whether an error is one that the lab words for its users, rather than a fault of the lab."""
    if isinstance(error, KeyError):
        return " " in str(error.args[0])  # otherwise it holds a bare key
    return isinstance(error, ValueError | OSError) or type(error).__module__.startswith("microtome.")
