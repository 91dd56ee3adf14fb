"""The claim of ByteTransformer (Zhai et al. 2022): an encoder without padding gives the same output for the
operations of the valid tokens alone, and takes the less time the more padding there is.

A post-LN encoder of two layers (k = 256, 4 heads) runs batches of 8 sequences padded to 256 with masked attention, and
packed. Time is CPU time of one thread, in turns, at three shares α of valid tokens; it is taken at the full budget
only, and is not that of the paper's GPUs. Measured once, on cores that other work shared:
1.66 times as fast at α = 0.6, 3.3 at 0.3 and 0.88 at 1, where a profile of both runs gives the same work.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from microtome.kernels.byte_transformer import flops
from microtome.lab import zoo
from microtome.lab.zoo.byte_transformer import run_packed
from microtome.lab.zoo.stems.tokens import TokenModel
from microtome.theory import registry
from microtome.theory.claim import Claim
from microtome.theory.evidence import Check, Control, Evidence
from microtome.theory.statement import Statement
from microtome.theory.statements._operations import matrix_operations

SLUG = "byte_transformer"
PAPER = "Zhai et al., ByteTransformer (2022)"
BATCH, LONGEST = 8, 256
SHARES = (0.3, 0.6, 1.0)
ROUNDS = 9

_HYPOTHESES = (
    f"2 post-LN layers, k = 256, 4 heads, batch {BATCH} padded to {LONGEST}",
    "lengths uniform around α·L, as wide as fits",
)
SAME = Statement(
    name="packed output is the padded output",
    text="On valid rows the packed run differs from the padded one by less than 1e-4, and padding is exactly 0.",
    hypotheses=(*_HYPOTHESES, "α = 0.6, float32"),
    source=f"{PAPER}, section III",
    slug=SLUG,
)
OPERATIONS = Statement(
    name="operations of the valid tokens alone",
    text="The blocks' operations, counted while they run, are 24·T·k² + 4·k·Σ n² a layer packed and 24·B·L·k² + "
    "4·k·B·L² padded.",
    hypotheses=(*_HYPOTHESES, "α = 0.6; products of matrices counted, a multiplication and addition as 2"),
    source=f"{PAPER}, section III-E",
    slug=SLUG,
)
TIME = Statement(
    name="time falls with padding",
    text="At α = 0.6 the packed run is at least 1.3 times as fast; at α = 1 the two lie within 0.85 and 1.25 of each "
    "other; the padded run's time moves by 15 % at most with α.",
    hypotheses=(*_HYPOTHESES, "CPU time of one thread, medians of runs in turns"),
    source=f"{PAPER}, section IV",
    slug=SLUG,
)
WHOLE = Statement(
    name="an encoder without padding",
    text="Packing the valid tokens of a ragged batch leaves an encoder's output as it is and saves what padding costs.",
    hypotheses=("as in its parts",),
    source=PAPER,
    slug=SLUG,
)


@dataclass(frozen=True)
class Ragged:
    """A batch of tokens with its mask."""

    tokens: Int[Tensor, "batch pos"]
    mask: Bool[Tensor, "batch pos"]

    @property
    def lengths(self) -> list[int]:
        return self.mask.sum(1).tolist()


def draw(share: float, seed: int) -> Ragged:
    """Lengths uniform on α·L ± min(α, 1 − α)·L, of α = `share`."""
    generator = torch.Generator().manual_seed(seed)
    half = min(share, 1 - share)
    unit = 2 * torch.rand(BATCH, generator=generator) - 1
    lengths = (LONGEST * (share + half * unit)).round().long()
    tokens = torch.randint(1000, (BATCH, LONGEST), generator=generator)
    return Ragged(tokens, torch.arange(LONGEST) < lengths[:, None])


def padded(model: TokenModel, batch: Ragged) -> Tensor:
    return model(batch.tokens, mask=batch.mask)


def packed(model: TokenModel, batch: Ragged) -> Tensor:
    return run_packed(model, batch.tokens, batch.mask)


def unmasked(model: TokenModel, batch: Ragged) -> Tensor:
    """The control: padding is attended to."""
    return model(batch.tokens).masked_fill(~batch.mask[..., None], 0.0)


Run = Callable[[TokenModel, Ragged], Tensor]


def operations(run: Run, model: TokenModel, batch: Ragged, rows: int) -> int:
    """Operations of the blocks in one run whose readout has `rows` rows, as torch counts them."""
    return matrix_operations(lambda: run(model, batch)) - 2 * rows * model.cfg.d_model * model.cfg.d_vocab


def _same(model: TokenModel, batch: Ragged, budget: str, seed: int) -> Evidence:
    wanted = padded(model, batch)

    def checks(run: Run) -> tuple[Check, ...]:
        found = run(model, batch)
        return (
            Check("largest difference on valid rows", (found - wanted)[batch.mask].abs().max().item(), "<", 1e-4),
            Check("largest value at padding", found[~batch.mask].abs().max().item(), "==", 0),
        )

    return Evidence(
        kind="numeric",
        statement=SAME,
        checks=checks(packed),
        control=Control("the padded run without its mask", checks(unmasked)),
        seed=seed,
        budget=budget,
    )


def _operations(model: TokenModel, batch: Ragged, budget: str, seed: int) -> Evidence:
    width, layers = model.cfg.d_model, model.cfg.n_layers
    mine = operations(packed, model, batch, sum(batch.lengths))
    theirs = operations(padded, model, batch, BATCH * LONGEST)
    name = "packed: counted over formula"

    def over_formula(counted: int) -> float:
        return counted / (layers * flops.layer(batch.lengths, width))

    # Packing around the matrix products only: attention still works on the padded batch.
    attention = layers * 4 * width * (BATCH * LONGEST**2 - sum(n * n for n in batch.lengths))
    return Evidence(
        kind="numeric",
        statement=OPERATIONS,
        checks=(
            Check(name, over_formula(mine), "==", 1),
            Check("padded: counted over formula", theirs / (layers * flops.layer([LONGEST] * BATCH, width)), "==", 1),
            Check("ratio less formula", abs(mine / theirs - flops.ratio(batch.lengths, width, LONGEST)), "<=", 1e-12),
        ),
        control=Control(
            "packing around the products only, attention padded",
            (Check(name, over_formula(mine + attention), "==", 1),),
        ),
        seed=seed,
        budget=budget,
        notes=f"packed over padded: {mine / theirs:.4f}.",
    )


def times(model: TokenModel, batches: dict[float, Ragged]) -> dict[tuple[str, float], float]:
    """Median CPU seconds of each run at each share, in turns."""
    runs = {(run.__name__, share): (run, batch) for share, batch in batches.items() for run in (padded, packed)}
    taken: dict[tuple[str, float], list[float]] = {name: [] for name in runs}
    for round_ in range(ROUNDS + 1):
        for name, (run, batch) in runs.items():
            start = time.process_time()
            run(model, batch)
            if round_:  # the first warms up
                taken[name].append(time.process_time() - start)
    return {name: sorted(seconds)[ROUNDS // 2] for name, seconds in taken.items()}


def _time(model: TokenModel, budget: str, seed: int) -> Evidence:
    found = times(model, {share: draw(share, seed) for share in SHARES})
    gain = {share: found["padded", share] / found["packed", share] for share in SHARES}
    of_padded = [found["padded", share] for share in SHARES]
    faster = "padded time over packed"
    return Evidence(
        kind="empirical",
        statement=TIME,
        checks=(
            Check(faster, gain[0.6], ">=", 1.3),
            Check(f"{faster} at α = 1, at least", gain[1.0], ">=", 0.85),
            Check(f"{faster} at α = 1, at most", gain[1.0], "<=", 1.25),
            Check("padded time, largest over smallest", max(of_padded) / min(of_padded), "<=", 1.15),
        ),
        control=Control("α = 1, nothing to leave out", (Check(faster, gain[1.0], ">=", 1.3),)),
        seed=seed,
        budget=budget,
        notes=f"at α = {SHARES[0]} {gain[SHARES[0]]:.2f} times.",
        figure=lambda: _draw(found),
    )


def _untimed(seed: int) -> Evidence:
    return Evidence("empirical", TIME, seed=seed, decided=False, notes="only the full budget takes times.")


def _gather(budget: str, seed: int) -> Evidence:
    model, batch = zoo.build(SLUG, "small", seed=seed), draw(0.6, seed)
    with torch.no_grad():
        parts = [_same(model, batch, budget, seed), _operations(model, batch, budget, seed)]
        parts.append(_time(model, budget, seed) if budget == "full" else _untimed(seed))
    return Evidence(
        kind="empirical",
        statement=WHOLE,
        seed=seed,
        budget=budget,
        parts=(*registry.run_all(slug=SLUG, budget=budget, seed=seed), *parts),
        figure=parts[-1].figure or (lambda: _draw({})),
    )


def _draw(found: dict[tuple[str, float], float]):
    """Packed over padded against α: operations for short and long batches, and times where they were taken."""
    from microtome.lab.report.style import COLOURS, EXACT, drawing

    shares = [i / 20 for i in range(1, 21)]
    with drawing(5.6, 3.8) as figure:
        axes = figure.subplots()
        for colour, longest in zip(COLOURS, (128, 1024, 8192), strict=False):
            operations = [flops.ratio([round(a * longest)] * BATCH, 256, longest) for a in shares]
            axes.plot(shares, operations, color=colour, label=f"operations, L = {longest}")
        axes.plot(shares, shares, color=EXACT, linestyle=":", label="α")
        for share in SHARES if found else ():
            axes.plot(share, found["packed", share] / found["padded", share], "o", color="black", markersize=6)
        if found:
            axes.plot([], [], "o", color="black", label=f"CPU time, L = {LONGEST}")
        axes.set(
            xlabel="share α of valid tokens, all sequences equally long",
            ylabel="packed over padded",
            xlim=(0, 1.03),
            ylim=(0, 1.2),
            title="What padding costs an encoder layer of width 256",
        )
        axes.legend(loc="upper left")
        return figure


CLAIM = Claim(WHOLE, "empirical", _gather)
