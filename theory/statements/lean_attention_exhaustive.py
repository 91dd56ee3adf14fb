"""LeanAttention's deal of tiles, for every number of tiles and of thread blocks up to a size.

Source: Sanovar et al., "Lean Attention: Hardware-Aware Scalable Attention Mechanism for the Decode-Phase of
Transformers" (2024), section 4.2.
"""

from collections.abc import Callable, Iterator

from microtome.kernels.lean_attention import Schedule
from microtome.theory.claim import Claim
from microtome.theory.evidence import Check, Control, Evidence
from microtome.theory.statement import Statement

FAIR = Statement(
    name="a fair deal of all tiles",
    text="The CTAs' ranges cut [0, T) without gap or overlap, their lengths differ by one tile at most, and they cut "
    "the output tiles into at most outputs + G − 1 segments.",
    hypotheses=("every T up to 24 (quick) or 160 (full), every G up to T, outputs of 1, 3, 7 or T tiles each, the "
                "last one shorter",),
    source="Sanovar et al., Lean Attention (2024), section 4.2",
    slug="lean_attention",
)  # fmt: skip

Spans = Callable[[Schedule], list[range]]


def lean_spans(deal: Schedule) -> list[range]:
    return [deal.span(cta) for cta in range(deal.grid)]


def full_spans(deal: Schedule) -> list[range]:
    """Everyone takes ⌈T/G⌉ tiles while there are any: fixed work, the control."""
    return [
        range(min(deal.total, at), min(deal.total, at + deal.longest))
        for at in range(0, deal.grid * deal.longest, deal.longest)
    ]


def deals(largest: int) -> Iterator[Schedule]:
    """Every deal of the hypotheses."""
    for total in range(1, largest + 1):
        for each in sorted({min(total, n) for n in (1, 3, 7, total)}):
            tiles = (each,) * (total // each) + ((total % each,) if total % each else ())
            yield from (Schedule(tiles, grid) for grid in range(1, total + 1))


def gaps(deal: Schedule, spans: Spans) -> int:
    """How often a range does not begin where the one before ended, or the last does not end at T."""
    ends = [0, *(span.stop for span in spans(deal))]
    begins = [*(span.start for span in spans(deal)), deal.total]
    return sum(a != b for a, b in zip(ends, begins, strict=True))


def imbalance(deal: Schedule, spans: Spans) -> int:
    """Longest range less shortest."""
    loads = [len(span) for span in spans(deal)]
    return max(loads) - min(loads)


def excess_segments(deal: Schedule) -> int:
    """Segments beyond outputs + G − 1; not positive if the bound holds."""
    return sum(len(list(deal.segments(cta))) for cta in range(deal.grid)) - (len(deal.tiles) + deal.grid - 1)


def _fair(budget: str, seed: int) -> Evidence:
    every = list(deals({"quick": 24, "full": 160}[budget]))

    def checks(spans: Spans) -> tuple[Check, ...]:
        return (
            Check("gaps and overlaps", sum(gaps(deal, spans) for deal in every), "==", 0),
            Check("largest difference of loads, tiles", max(imbalance(deal, spans) for deal in every), "<=", 1),
        )

    return Evidence(
        kind="exhaustive",
        statement=FAIR,
        checks=(
            *checks(lean_spans),
            Check("segments beyond outputs + G − 1", max(map(excess_segments, every)), "<=", 0),
        ),
        control=Control("everyone takes ⌈T/G⌉ tiles while there are any", checks(full_spans)),
        budget=budget,
        notes=f"{len(every)} deals.",
    )


CLAIMS = (Claim(FAIR, "exhaustive", _fair),)
