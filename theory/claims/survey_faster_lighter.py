"""The claim of the survey of faster and lighter transformers (2021): every method saves what it promises, and none wins
everywhere.

Fourteen methods beside plain attention, each by its own room of the lab. ELECTRA, which changes what is learned from,
is measured by the share of positions that carry a loss, and the experts against one feed-forward with as many
parameters. Seconds are left to benchmarks and accuracy to training.
"""

import math
from dataclasses import astuple, replace

import torch

from microtome.lab.tasks import RepeatedBlock
from microtome.lab.train.electra import ReplacedTokenDetection
from microtome.lab.zoo.compression import pruning
from microtome.lab.zoo.points import observer
from microtome.lab.zoo.segments import Segments
from microtome.lab.zoo.transformer import SequenceModel
from microtome.theory.claim import Claim
from microtome.theory.claims import _survey_faster_lighter as measure
from microtome.theory.claims._fitting import fresh
from microtome.theory.claims._survey_faster_lighter import MIXERS, Row, build, measured, tokens
from microtome.theory.evidence import Check, Control, Evidence
from microtome.theory.statement import Statement

SLUG = "survey_faster_lighter"
PAPER = "Fournier et al., A Practical Survey on Faster and Lighter Transformers (2021)"
LENGTHS = {"quick": (1024, [512, 1024]), "full": (1024, [512, 1024, 2048, 4096])}
SAVED, SLOPE, EXACT = 1.5, 1.3, 1e-6
BASELINE, CONTROL = "baseline", "mask only"
EXPERTS = 8
XL = {"mixer": "transformer_xl", "causal": True}
EXACT_ROWS = ("checkpointing", "reversible", "Transformer-XL")

TRADE = Statement(
    name="every method saves what it promises and none wins everywhere",
    text="Each of fourteen methods improves its own resource at least 1.5-fold over plain attention, sparse and "
    "factorised attention grow at most as n^1.3, exact methods differ by at most 1e-6, and no method is best in every "
    "column.",
    hypotheses=(
        "4 layers, d = 64, 4 heads, n = 1,024; slopes over 512 … 4,096 (full budget) or 1,024 (quick)",
        "operations of a training step, bytes kept for the backward pass, parameters; no seconds",
        f"window {measure.WINDOW} and one global token, rank {measure.RANK}, {measure.FEATURES} features, √n blocks",
    ),
    source=f"{PAPER}, taxonomy and its judgement by capacity, computation and memory",
    slug=SLUG,
)


COLUMNS = ("parameters", "bytes kept", "operations", "slope", "error")


def table(budget: str, seed: int) -> dict[str, Row]:
    """Every method's row, baseline and control included. Methods for any network have the baseline's slope, and an
    infinite error where they are another function altogether."""
    n, lengths = LENGTHS[budget]
    rows = {**_general(n, seed), **_mixers(n, lengths, seed), "Transformer-XL": _transformer_xl(n, lengths, seed)}
    same = measure.slope(lambda _: {}, lengths, seed)
    return {name: replace(row, slope=same if math.isnan(row.slope) else row.slope) for name, row in rows.items()}


def _general(n: int, seed: int) -> dict[str, Row]:
    inputs, plain = tokens(n, seed), build(n, seed)
    checkpointed, pruned = build(n, seed, depth="checkpointed"), build(n, seed)
    pruning.magnitude(pruned, 0.9)
    with torch.no_grad():
        out = plain(inputs)
        change = measure.distance(pruned(inputs), out)
    return {
        BASELINE: measured(plain, inputs, error=0.0),
        "checkpointing": measured(
            checkpointed, inputs, error=measure.distance(_gradient(checkpointed, inputs), _gradient(plain, inputs))
        ),
        "reversible": measured(build(n, seed, depth="reversible"), inputs, error=_rebuilding_error(seed)),
        "sharing": measured(build(n, seed, depth="shared"), inputs),
        "pruning": measured(pruned, inputs, error=change),
        "distillation": measured(build(n, seed, n_layers=measure.N_LAYERS // 2), inputs),
        "mixed precision": _mixed_precision(plain, inputs, out),
        "experts": measured(build(n, seed, feedforward={"name": "experts", "n_experts": EXPERTS, "k": 1}), inputs),
    }


def _mixed_precision(model: SequenceModel, inputs: torch.Tensor, out: torch.Tensor) -> Row:
    def run() -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return model(inputs)

    error = measure.distance(run().detach().float(), out)
    return Row(measure.stored(model), measure.kept_bytes(run, model), measure.operations(run), error=error)


def _gradient(model: SequenceModel, inputs: torch.Tensor) -> torch.Tensor:
    """All parameters' gradients of the sum of squares, in one row."""
    loss = model(inputs).square().sum()
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))])


def _rebuilding_error(seed: int) -> float:
    """How far reversible gradients are from those of keeping everything, which a hook that looks makes it do."""
    model, inputs = build(64, seed, depth="reversible").double(), tokens(64, seed)
    rebuilt = _gradient(model, inputs)
    with model.hooks(fwd_hooks=[("blocks.0.hook_resid_pre", observer(lambda tensor, hook: None))]):
        return measure.distance(rebuilt, _gradient(model, inputs))


def _mixers(n: int, lengths: list[int], seed: int) -> dict[str, Row]:
    """On the baseline's weights where the method has them."""
    inputs, plain = tokens(n, seed), build(n, seed)
    rows = {}
    for name, parts in MIXERS.items():
        model = measure.with_weights_of(build(n, seed, **parts(n)), plain)
        with torch.no_grad():
            error = measure.distance(model(inputs), plain(inputs))
        rows[name] = measured(model, inputs, slope=measure.slope(parts, lengths, seed), error=error)
    return rows


def _transformer_xl(n: int, lengths: list[int], seed: int) -> Row:
    """Read in segments of n/8 with a memory as long; the error is that of a memory of everything, which is exact."""
    segment = n // 8

    def read(model: SequenceModel, inputs: torch.Tensor, memory: int = segment) -> torch.Tensor:
        reader = Segments(model, memory)
        return torch.cat([reader.push(part) for part in inputs.split(segment, 1)], dim=1)

    def cost(length: int) -> int:
        single = build(length, seed, n_layers=1, feedforward="none", **XL)
        return measure.operations(lambda: read(single, tokens(length, seed)))

    model, inputs = build(n, seed, **XL), tokens(n, seed)
    with torch.no_grad():
        error = measure.distance(read(model, inputs, memory=n), model(inputs))
    return Row(
        measure.stored(model),
        measure.kept_bytes(lambda: read(model, inputs[:, :segment]), model),
        measure.operations(lambda: read(model, inputs)),
        slope=math.log(cost(lengths[-1]) / cost(lengths[0])) / math.log(lengths[-1] / lengths[0]),
        error=error,
    )


def savings(rows: dict[str, Row], n: int, seed: int) -> dict[str, tuple[str, float]]:
    """Of every method, the resource that it promises and by what factor it is saved."""
    base, inputs = rows[BASELINE], tokens(n, seed)
    wide = build(n, seed, feedforward={"name": "gelu", "d_mlp": EXPERTS * 4 * measure.D_MODEL})
    whole = build(n, seed, **XL)
    _, masked, _ = ReplacedTokenDetection(RepeatedBlock(8, 64, 2), 64).batch(0, fresh(seed)).inputs
    found = {name: ("bytes kept", base.kept / rows[name].kept) for name in ("checkpointing", "reversible")}
    found["mixed precision"] = ("bytes kept", base.kept / rows["mixed precision"].kept)
    found |= {name: ("parameters", base.parameters / rows[name].parameters) for name in ("sharing", "pruning")}
    found |= {name: ("operations", base.operations / rows[name].operations) for name in ("distillation", *MIXERS)}
    dense, recurrent = (measure.operations(lambda m=model: m(inputs)) for model in (wide, whole))
    found["experts"] = ("operations at equal parameters", dense / rows["experts"].operations)
    found["Transformer-XL"] = ("operations against its own whole input", recurrent / rows["Transformer-XL"].operations)
    found["ELECTRA"] = ("positions without a loss", masked.numel() / masked.sum().item())
    return found


def best_everywhere(rows: dict[str, Row]) -> list[str]:
    """Methods that no other beats in any column."""
    values = {name: astuple(row) for name, row in rows.items()}
    least = [min(column) for column in zip(*values.values(), strict=True)]
    return [name for name, row in values.items() if all(a <= b for a, b in zip(row, least, strict=True))]


def _gather(budget: str, seed: int) -> Evidence:
    n, _ = LENGTHS[budget]
    rows = table(budget, seed)
    saved = savings(rows, n, seed)
    factor, growth = "operations saved by sparse attention", "slope of sparse attention"
    checks = [
        Check(f"{name}: {what} saved", ratio, ">=", SAVED) for name, (what, ratio) in saved.items() if name != CONTROL
    ]
    checks += [Check(f"{name}: slope", rows[name].slope, "<=", SLOPE) for name in MIXERS if name != CONTROL]
    checks += [Check(f"{name}: error", rows[name].error, "<=", EXACT) for name in EXACT_ROWS]
    checks.append(Check("methods that are best in every column", len(best_everywhere(rows)), "==", 0))
    control = (Check(factor, saved[CONTROL][1], ">=", SAVED), Check(growth, rows[CONTROL].slope, "<=", SLOPE))
    approximate = ", ".join(f"{name} {rows[name].error:.2f}" for name in MIXERS if name != CONTROL)
    return Evidence(
        kind="numeric",
        statement=TRADE,
        checks=tuple(checks),
        control=Control("a window made by masking dense scores", control),
        seed=seed,
        budget=budget,
        figure=lambda: _draw(rows),
        notes=f"n = {n}; plain attention's slope is {rows[BASELINE].slope:.2f}; relative errors on its weights: "
        f"{approximate}.",
    )


def _draw(rows: dict[str, Row]):
    from matplotlib.figure import Figure

    base = rows[BASELINE]
    ratios = [[row.parameters / base.parameters, row.kept / base.kept, row.operations / base.operations, row.slope]
              for row in rows.values()]  # fmt: skip
    cells = [[f"{p:.2f}", f"{k:.2f}", f"{o:.2f}", f"{s:.2f}"] for p, k, o, s in ratios]
    for cell, row in zip(cells, rows.values(), strict=True):
        cell.append("another function" if math.isinf(row.error) else f"{row.error:.1e}")
    figure = Figure(figsize=(8.5, 4.8), layout="constrained")
    axes = figure.subplots()
    axes.axis("off")
    axes.set_title("Relative to plain attention, but for the slope and the relative error", fontsize="medium")
    drawn = axes.table(cells, rowLabels=list(rows), colLabels=COLUMNS, cellLoc="center", bbox=(0, 0, 1, 1))
    for (i, j), cell in drawn.get_celld().items():
        if i and 0 <= j < 3:
            depth = max(-1.0, min(1.0, math.log2(ratios[i - 1][j]) / 2))
            cell.set_facecolor((1, 1 - depth, 1 - depth) if depth > 0 else (1 + depth, 1, 1 + depth))
            cell.set_alpha(0.5)
    return figure


CLAIM = Claim(TRADE, "numeric", _gather)
