"""Pages about programs in weights: one program with all that is known of it, and the library as a catalogue."""

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import get_args

from microtome.lab.rasp import picture
from microtome.lab.rasp.compiled import Compiled
from microtome.lab.rasp.compiler import compile
from microtome.lab.rasp.errors import RaspError
from microtome.lab.rasp.graph import draw as draw_program
from microtome.lab.rasp.growth import LONGEST, SHORTEST, Kind, growth
from microtome.lab.rasp.library import Example
from microtome.lab.rasp.printing import source
from microtome.lab.rasp.values import Value
from microtome.lab.rasp.verify import Report
from microtome.lab.report import Code, Facts, Page, Picture, Prose, Table
from microtome.lab.report.blocks import Cell

MEASURES = ("layers", "heads", "d_model", "d_mlp", "parameters", "seconds to compile")


def program_page(compiled: Compiled, tokens: Sequence[Value], report: Report) -> Page:
    """The program, its graph, its stream on one input, its columns, and what was proved and tested of it.

    Args:
        tokens: the input that is shown.
        report: of `compiled.verify()`.

    Raises:
        InputError: as calling `compiled`.
    """
    name, certificate = compiled.program.label, compiled.certificate
    setting = compiled.lowered.plan.setting
    page = Page(
        f"{name}, in weights",
        f"A RASP program, compiled to a transformer that {certificate}. Run, it {report}.",
    )
    page.section(
        "The program",
        Facts({**dict(zip(MEASURES[:-1], _measures(compiled), strict=True)), "inputs run": report.inputs}),
        Code(source(compiled.program)),
        Picture(
            draw_program(compiled.program),
            "Inputs are on the left, the program is on the right, and each arrow leads from a result to its reader.",
            f"The graph of the program {name}.",
        ),
    )
    page.section(
        "The residual stream",
        Code(f"{list(tokens)!r} → {compiled(tokens)!r}"),
        Picture(
            picture.draw(compiled, tokens),
            "Rows are named directions with their column in brackets, columns are positions, and a panel follows each "
            "sub-layer. A green frame marks what the sub-layer adds; where a row is grey the stream does not hold it.",
            "Heat maps of the residual stream after the embedding and after each sub-layer.",
        ),
        *_table(("columns", "directions", "held"), directions(compiled), "What each column holds, and when."),
    )
    page.section("What each head and neuron does", Code(compiled.explain()))
    margins = [(f"{h.layer}.{h.head}", h.label, h.margin, h.leakage) for h in certificate.heads]
    headings = ("head", "computes", "margin in nats", "largest attention elsewhere")
    page.section(
        "What was proved",
        Prose(
            f"The model {certificate}. Its vocabulary is {', '.join(map(repr, setting.vocab))}; its attention is "
            f"{'causal' if setting.causal else 'bidirectional'}."
        ),
        *_table(headings, margins, "By how much each head prefers the keys that it should attend to."),
    )
    return page


def _table(headings: Sequence[str], rows: Sequence[Sequence[Cell]], caption: str) -> tuple[Table, ...]:
    """A table, or nothing where it would have no rows."""
    return (Table(headings, rows, caption),) if rows else ()


def directions(compiled: Compiled) -> list[tuple[str, str, str]]:
    """For directions of one variable that come and go together: their columns, their names, and when they are held."""
    lives = compiled.lowered.plan.allocation.lives
    rows = [("0", "sink, the mark of the position in front of every input", "throughout")] if compiled.sink else []
    # By identity: `==` between s-ops makes an s-op.
    for _, group in groupby(lives, key=lambda life: (*map(id, life.direction.sops), life.born, life.cleared)):
        alike = sorted(group, key=lambda life: life.column)
        first, cleared = alike[0].born, alike[0].cleared
        held = f"{_sublayer(first)} to {'the end' if cleared is None else _sublayer(cleared - 1)}"
        names = ", ".join(life.direction.name for life in alike)
        rows.append((_ranges([life.column for life in alike]), names, held))
    return rows


def _sublayer(half_layer: int) -> str:
    if half_layer == 0:
        return "embedding"
    return f"{'attention' if half_layer % 2 else 'MLP'} {(half_layer - 1) // 2}"


def _ranges(numbers: Sequence[int]) -> str:
    """Ascending numbers, runs of them as first-last."""
    runs = [[n for _, n in run] for _, run in groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0])]
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def catalogue_page(examples: Iterable[Example], max_len: int) -> Page:
    """Every program compiled for inputs of up to `max_len` tokens, by origin and name.

    Raises:
        ValueError: for a max_len below 1.
    """
    if max_len < 1:
        raise ValueError(f"the longest input, max_len, must have at least 1 token, not {max_len}")
    by_origin = sorted(examples, key=lambda example: (example.origin, example.name))
    rows = {example: _catalogued(example, max_len) for example in by_origin}
    made = [row for row in rows.values() if row[1] is not None]
    grown = Counter(row[7] for row in made)
    page = Page(
        "RASP programs in weights",
        f"{len(rows)} programs, each compiled to a transformer for inputs of 1 to {max_len} tokens; "
        f"{len(made)} could be.",
    )
    page.section(
        "All together",
        Facts(
            {
                "programs": len(rows),
                "compiled": len(made),
                "parameters": sum(row[5] for row in made),
                "to compile all": (f"{sum(row[6] for row in made):.1f}", "seconds"),
                **{f"{kind} in max_len": count for kind in get_args(Kind) if (count := grown[kind])},
            }
        ),
        Prose(
            "Growth is how many neurons and named directions a program needs by the length of its longest input, "
            f"max_len, measured at max_len {SHORTEST} and twice that up to at most {LONGEST}. Where it is more than "
            "linear, the operation that grew most is named."
        ),
    )
    for origin, group in groupby(by_origin, key=lambda example: example.origin):
        columns = ("name", *MEASURES, "growth", "tokens", "attention", "what")
        page.section(origin, Table(columns, [rows[example] for example in group], f"The programs of {origin}."))
    return page


def _catalogued(example: Example, max_len: int) -> tuple[Cell, ...]:
    """One row; without measures, and with the reason, where the program cannot be compiled."""
    setting = len(example.vocab), "causal" if example.causal else "both ways"
    start = time.perf_counter()
    try:
        compiled = compile(example.program, vocab=example.vocab, max_len=max_len, causal=example.causal)
        measured = [*_measures(compiled), time.perf_counter() - start]
        found = growth(compiled)
    except RaspError as error:
        return example.name, *[None] * len(MEASURES), None, *setting, f"{example.summary}\nNot compiled: {error}"
    about = example.summary
    if found.kind not in ("constant", "linear"):
        about += f"\n{found.kind.capitalize()}, because of {found.because}."
    return example.name, *measured, found.kind, *setting, about


def _measures(compiled: Compiled) -> tuple[int, ...]:
    """All of MEASURES but the time."""
    cfg = compiled.model.cfg
    return cfg.n_layers, cfg.n_heads, cfg.d_model, cfg.d_mlp or 0, sum(p.numel() for p in compiled.model.parameters())
