"""ByteTransformer's problem visitor, for every number of thread blocks up to a size.

Source: Zhai et al., "ByteTransformer: A High-Performance Transformer Boosted for Variable-Length Inputs" (2022),
section III-D.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import NamedTuple

from microtome.kernels.byte_transformer.visitor import LANES, Visit, score_tiles, visit
from microtome.theory.claim import Claim
from microtome.theory.evidence import Check, Control, Evidence
from microtome.theory.statement import Statement

BATCHES: tuple[tuple[int, ...], ...] = (
    (),
    (0, 0),
    (5, 2, 6),
    (300, 0, 129, 128),
    (1024, 512, 256, 128),
    (130,) * 40,
    (0,) * 35 + (200, 1) + (0,) * 33,
)
HEADS = (1, 3)

EVERY_TILE = Statement(
    name="the visitor finds every tile once",
    text="Over all thread blocks, the visitor gives each tile of each problem exactly once, whatever their number.",
    hypotheses=(
        f"{len(BATCHES)} batches, from none to 70 sequences of 0 to 1024 tokens, {' or '.join(map(str, HEADS))} heads",
        "1 to 8 thread blocks (quick) or 1 to 200 (full)",
        f"tiles of 128 by 128 scores, {LANES} problems a look-up",
    ),
    source="Zhai et al., ByteTransformer (2022), section III-D",
    slug="byte_transformer",
)

Visitor = Callable[[int, int, Sequence[int]], Iterator[Visit]]


def visit_without_carry(cta: int, grid: int, counts: Sequence[int]) -> Iterator[Visit]:
    """The control: a visitor that forgets, from one window of 32 problems to the next, how many tiles lay before."""
    for window in range(0, len(counts), LANES):
        for found in visit(cta, grid, counts[window : window + LANES]):
            yield Visit(window + found.problem, found.tile)


class Faults(NamedTuple):
    """Tiles missed, repeated or made up, and tiles that a thread block has beyond one more than another."""

    wrong: int
    uneven: int


def faults(counts: Sequence[int], grid: int, visitor: Visitor) -> Faults:
    """What the visits of all thread blocks have wrong."""
    visits = [[tuple(at) for at in visitor(cta, grid, counts)] for cta in range(grid)]
    found = [at for run in visits for at in run]
    wanted = {(problem, tile) for problem, n in enumerate(counts) for tile in range(n)}
    loads = [len(run) for run in visits]
    return Faults(
        len(wanted ^ set(found)) + len(found) - len(set(found)),
        max(0, max(loads) - min(loads) - 1),
    )


def _every_tile(budget: str, seed: int) -> Evidence:
    grids = range(1, {"quick": 9, "full": 201}[budget])
    cases = [(score_tiles(lengths, heads), grid) for lengths, heads, grid in product(BATCHES, HEADS, grids)]

    def checks(visitor: Visitor) -> tuple[Check, ...]:
        every = [faults(*case, visitor) for case in cases]
        return (
            Check("tiles missed, repeated or made up", sum(f.wrong for f in every), "==", 0),
            Check("tiles of uneven load", sum(f.uneven for f in every), "==", 0),
        )

    return Evidence(
        kind="exhaustive",
        statement=EVERY_TILE,
        checks=checks(visit),
        control=Control("a visitor that forgets the tiles of earlier windows", checks(visit_without_carry)),
        budget=budget,
        notes=f"{len(cases)} cases.",
    )


CLAIMS = (Claim(EVERY_TILE, "exhaustive", _every_tile),)
