"""The claim of LeanAttention (Sanovar et al. 2024): equal runs of tiles keep every thread block busy in decoding, where
one block a head (FlashAttention-2) and equal splits of each head (FlashDecoding) leave some idle.

A simulator counts tiles: P slots work at once, a tile takes one unit of time, and the makespan is when the last block
ends. What partial results cost is left out, as it is for the fixed splits, which need a second launch for theirs. The
times of the paper's GPUs are not reproduced here.
"""

from dataclasses import dataclass

from microtome.kernels.lean_attention import schedule
from microtome.kernels.lean_attention.schedule import MULTIPROCESSORS, Schedule
from microtome.theory import registry
from microtome.theory.claim import Claim
from microtome.theory.evidence import Check, Control, Evidence
from microtome.theory.statement import Statement

SLUG = "lean_attention"
PAPER = "Sanovar et al., Lean Attention (2024)"
SPLITS_AT_MOST = 128


@dataclass(frozen=True)
class Case:
    """`batch` sequences, `heads` each, `tiles` LeanTiles of keys an output."""

    batch: int
    heads: int
    tiles: int

    @property
    def outputs(self) -> int:
        return self.batch * self.heads

    def __str__(self) -> str:
        return f"B={self.batch}, H={self.heads}, n={self.tiles}"


CASES = (Case(1, 32, 64), Case(1, 56, 512), Case(2, 56, 64), Case(1, 12, 2048))
DIVISIBLE = Case(1, MULTIPROCESSORS, 64)
RAGGED = (1024, 16384, 512, 8192, 2048, 256, 4096, 700)
RAGGED_HEADS, RAGGED_TILE = 12, 256

OCCUPANCY = Statement(
    name="makespan of decoding",
    text="Dealing tiles evenly ends within 1.02 of the ideal T/P, at least 1.9 times sooner than one block a head and "
    "at least 1.1 times sooner than equal splits of each head.",
    hypotheses=(
        f"P = {MULTIPROCESSORS} slots, a tile is one unit of time, merging costs nothing",
        "; ".join(map(str, CASES)),
        "equal splits: the fewest whose last wave is filled to 0.85 of the best, none from 0.8·P outputs on",
    ),
    source=f"{PAPER}, section 5",
    slug=SLUG,
)
DIVISIBILITY = Statement(
    name="nothing to gain where heads fill the GPU",
    text="With as many outputs as slots, one block a head is as fast: the speed-up is exactly 1.",
    hypotheses=(f"P = {MULTIPROCESSORS} slots", str(DIVISIBLE)),
    source=f"{PAPER}, section 5",
    slug=SLUG,
)
RAGGEDNESS = Statement(
    name="ragged sequences are dealt evenly",
    text="Over sequences of unequal lengths CTA loads differ by one tile at most, while padding to the longest does at "
    "least 3.9 times the tiles.",
    hypotheses=(f"lengths {', '.join(map(str, RAGGED))}, {RAGGED_HEADS} heads, tiles of {RAGGED_TILE} keys",),
    source=f"{PAPER}, section 5, heterogeneous contexts",
    slug=SLUG,
)
WHOLE = Statement(
    name="stream-K decode attention",
    text="Softmax attention can be cut into equal runs of tiles across heads and sequences, exactly and without idle "
    "thread blocks.",
    hypotheses=("as in its parts",),
    source=PAPER,
    slug=SLUG,
)


def lean(case: Case, slots: int = MULTIPROCESSORS) -> int:
    """⌈T/P⌉: the makespan of an even deal with a CTA a slot."""
    return Schedule((case.tiles,) * case.outputs, min(slots, case.outputs * case.tiles)).longest


def flash_attention_2(case: Case, slots: int = MULTIPROCESSORS) -> int:
    """One block an output, wave after wave."""
    return -(-case.outputs // slots) * case.tiles


def flash_decoding(case: Case, slots: int = MULTIPROCESSORS) -> int:
    """Every output in s equal splits, wave after wave, with the s of `splits`."""
    s = splits(case, slots)
    return -(-case.outputs * s // slots) * -(-case.tiles // s)


def splits(case: Case, slots: int = MULTIPROCESSORS) -> int:
    """The fewest splits whose waves are filled to 0.85 of what the best number of splits fills."""
    if case.outputs >= 0.8 * slots:
        return 1
    filled = {}
    for s in range(1, min(SPLITS_AT_MOST, slots, case.tiles) + 1):
        waves = case.outputs * s / slots
        filled[s] = waves / -(-case.outputs * s // slots)
    best = max(filled.values())
    return next(s for s, share in filled.items() if share >= 0.85 * best)


def _checks(cases: tuple[Case, ...]) -> tuple[Check, ...]:
    found = []
    for case in cases:
        mine = lean(case)
        found += [
            Check(f"{case}: lean over ideal", mine / (case.outputs * case.tiles / MULTIPROCESSORS), "<=", 1.02),
            Check(f"{case}: one block a head over lean", flash_attention_2(case) / mine, ">=", 1.9),
            Check(f"{case}: equal splits over lean", flash_decoding(case) / mine, ">=", 1.1),
        ]
    return tuple(found)


def ragged_deal(lengths: tuple[int, ...] = RAGGED) -> Schedule:
    return schedule(lengths, RAGGED_HEADS, RAGGED_TILE)


def _ragged_checks(lengths: tuple[int, ...]) -> tuple[Check, ...]:
    deal = ragged_deal(lengths)
    loads = [len(deal.span(cta)) for cta in range(deal.grid)]
    padded = len(deal.tiles) * max(deal.tiles)
    return (
        Check("largest difference of loads, tiles", max(loads) - min(loads), "<=", 1),
        Check("tiles of the padded batch over ours", padded / deal.total, ">=", 3.9),
    )


def _parts(budget: str) -> tuple[Evidence, ...]:
    deal = ragged_deal()
    return (
        Evidence(
            kind="numeric",
            statement=OCCUPANCY,
            checks=_checks(CASES),
            control=Control(f"as many heads as slots ({DIVISIBLE})", _checks((DIVISIBLE,))),
            budget=budget,
        ),
        Evidence(
            kind="numeric",
            statement=DIVISIBILITY,
            checks=(Check("speed-up", flash_attention_2(DIVISIBLE) / lean(DIVISIBLE), "==", 1),),
            control=Control(str(CASES[0]), (Check("speed-up", flash_attention_2(CASES[0]) / lean(CASES[0]), "==", 1),)),
            budget=budget,
        ),
        Evidence(
            kind="numeric",
            statement=RAGGEDNESS,
            checks=(Check("tiles, T", deal.total, "==", 1560), *_ragged_checks(RAGGED)),
            control=Control("every sequence as long as the longest", _ragged_checks((max(RAGGED),) * len(RAGGED))),
            budget=budget,
            notes=f"{deal.grid} CTAs of {deal.longest - 1} or {deal.longest} tiles.",
        ),
    )


def _gather(budget: str, seed: int) -> Evidence:
    return Evidence(
        kind="numeric",
        statement=WHOLE,
        seed=seed,
        budget=budget,
        parts=(*registry.run_all(slug=SLUG, budget=budget, seed=seed), *_parts(budget)),
        figure=_draw,
        notes="the simulator counts tiles; it is no time on a GPU.",
    )


def _draw():
    from microtome.lab.report.lean_attention import draw_schedule
    from microtome.lab.report.style import COLOURS, drawing

    small = schedule((2300, 700, 5000), 2, RAGGED_TILE, 5)
    methods = {
        "even deal (lean)": lean,
        "equal splits (FlashDecoding)": flash_decoding,
        "one block a head (FlashAttention-2)": flash_attention_2,
    }
    with drawing(5.6, 6.4) as figure:
        above, below = figure.subplots(2, height_ratios=(3, 4))
        every = (*CASES, DIVISIBLE)
        for i, (name, makespan) in enumerate(methods.items()):
            over = [makespan(case) / (case.outputs * case.tiles / MULTIPROCESSORS) for case in every]
            bars = above.bar([x + 0.28 * (i - 1) for x in range(len(every))], over, 0.27, color=COLOURS[i], label=name)
            above.bar_label(bars, fmt="%.2f", fontsize=7)
        above.axhline(1, color="black", linewidth=0.8)
        above.set_xticks(range(len(every)), [str(c).replace(", n", ",\nn") for c in every], fontsize=7.5)
        above.set(ylabel="makespan over T/P", title=f"Decoding on {MULTIPROCESSORS} slots, in tiles")
        above.set_ylim(0, 1.45 * above.get_ylim()[1])
        above.legend(loc="upper left", fontsize=8)
        above.grid(axis="x", visible=False)
        draw_schedule(below, small)
        below.set_title(f"A ragged batch of 3 sequences and 2 heads over {small.grid} CTAs")
        return figure


CLAIM = Claim(WHOLE, "numeric", _gather)
