"""`microtome compile`: a program to weights, and what each direction of the residual stream means."""

import re
import runpy
import traceback
from pathlib import Path
from typing import Annotated, Any

import typer

from microtome.lab.commands.terminal import print_table
from microtome.lab.spelling import near

LIBRARY = "library:"
TOKENS = "tokens separated by commas; if all are whole numbers, they are numbers"


def compile_program(
    program: Annotated[str, typer.Argument(help="A Python file that defines `program`, or library:NAME.")],
    vocab: Annotated[str | None, typer.Option(help=f"What an input may hold: {TOKENS}.")] = None,
    max_len: Annotated[int, typer.Option(help="The longest input, in tokens.")] = 5,
    causal: Annotated[bool, typer.Option("--causal", help="Let a position see only itself and earlier ones.")] = False,
    example: Annotated[str | None, typer.Option("--input", help=f"An input to run it on: {TOKENS}.")] = None,
    figure: Annotated[Path | None, typer.Option(help="Draw the residual stream on that input.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page with all of it.")] = None,
) -> None:
    """Compile a RASP program to weights, hold it against its interpreter, and name its residual directions."""
    sop, allowed, masked = _load(program)
    allowed = allowed if vocab is None else _tokens(vocab)
    if allowed is None:
        raise ValueError("a program from a file needs its vocabulary: add --vocab with tokens, such as --vocab a,b,c")

    from microtome.lab import rasp
    from microtome.lab.rasp import page, picture

    compiled = rasp.compile(sop, vocab=allowed, max_len=max_len, causal=causal or masked)
    tokens = (allowed * max_len)[:max_len] if example is None else _tokens(example)
    values, report = compiled(tokens), compiled.verify()
    typer.echo(compiled.explain())
    print_table(("columns", "directions", "held"), page.directions(compiled), flexible="directions")
    typer.echo(f"proved: it {compiled.certificate}\ntested: it {report}\n{tokens} -> {values}")
    if figure is not None:
        figure.parent.mkdir(parents=True, exist_ok=True)
        picture.draw(compiled, tokens).savefig(figure, dpi=150)
        typer.echo(f"figure in {figure}")
    if html is not None:
        typer.echo(f"page in {page.program_page(compiled, tokens, report).write(html)}")
    raise typer.Exit(0 if report.equal else 1)


def _load(source: str) -> tuple[Any, list | None, bool]:
    """A program, with the vocabulary that it comes with, if any, and whether it needs the causal mask."""
    from microtome.lab.rasp import SOp, library

    if source.startswith(LIBRARY):
        name, examples = source.removeprefix(LIBRARY), {example.name: example for example in library.examples()}
        if name not in examples:
            hint = near(name, examples)
            raise ValueError(f"no example is called {name!r}{hint}; `microtome programs` lists all {len(examples)}")
        return examples[name].program, list(examples[name].vocab), examples[name].causal
    if not Path(source).is_file():
        raise ValueError(f"there is no file {source}; library:NAME takes an example program by name")
    try:
        names = runpy.run_path(source)
    except (Exception, SystemExit) as error:
        raise ValueError(_fault(source, error)) from error
    if not isinstance(names.get("program"), SOp):
        found = type(names["program"]).__name__ if "program" in names else "nothing"
        raise ValueError(f"{source} defines no s-op called `program`, which is what would be compiled, but {found}")
    return names["program"], None, False


def _fault(source: str, error: BaseException) -> str:
    """One sentence on why a file does not run, with its line that is at fault."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == source]
    message = str(error)
    if isinstance(error, SyntaxError) and error.filename == source:
        lines, message = [error.lineno], error.msg
    place = f"{source}:{lines[-1]}" if lines and lines[-1] else source
    return f"{place} does not run: {type(error).__name__}: {' '.join(message.split())}"


def _tokens(text: str) -> list[int] | list[str]:
    words = [word.strip() for word in text.split(",")]
    if not all(words):
        raise ValueError(f"there is an empty token in {text!r}; write tokens with one comma between them")
    return [int(word) for word in words] if all(re.fullmatch(r"-?\d+", word) for word in words) else words
