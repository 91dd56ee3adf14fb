"""`microtome programs`: the library of RASP programs."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from microtome.lab.commands.terminal import print_json, print_table


def list_programs(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    html: Annotated[
        Path | None, typer.Option(help="Compile them all, and write a page with their sizes and growth.")
    ] = None,
    max_len: Annotated[int, typer.Option(help="The longest input that --html compiles them for.")] = 10,
) -> None:
    """The RASP programs of the library, each of which `microtome compile library:NAME` takes."""
    from microtome.lab.rasp import library

    examples = sorted(library.examples(), key=lambda example: (example.origin, example.name))
    if html is not None:
        from microtome.lab.rasp import page

        with Console(stderr=True).status(f"compiling {len(examples)} programs, each at several lengths"):
            written = page.catalogue_page(examples, max_len).write(html)
        typer.echo(f"page in {written}", err=as_json)
    if as_json:
        print_json(
            [
                {
                    "name": example.name,
                    "origin": example.origin,
                    "causal": example.causal,
                    "vocab": list(example.vocab),
                    "what": example.summary,
                }
                for example in examples
            ]
        )
    elif html is None:
        rows = [(e.name, e.origin, "causal" if e.causal else "", e.summary) for e in examples]
        print_table(("name", "origin", "mask", "what"), rows, flexible="what", clip=True)
