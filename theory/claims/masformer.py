"""The claim of MASFormer (Zhang et al. 2023): one full layer among short-span ones carries what comes from far away.

Two things are asked of one decoder of four layers: the previous token at every place, and on the last eight places the
token of the first place, 88 to 95 steps away. Own blocks are eight positions long. The model without a full layer has
nothing to learn the second from: its gradient from the first position is exactly zero.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from microtome.lab import zoo
from microtome.lab.train import Batch, TrainConfig
from microtome.lab.zoo.depth import masformer
from microtome.theory.claim import Claim
from microtome.theory.claims._fitting import fit, fresh
from microtome.theory.evidence import Check, Control, Evidence
from microtome.theory.statement import Statement

SLUG = "masformer"
PAPER = "Zhang et al., Efficient Long-Range Transformers (2023)"
LENGTH, BLOCK, VOCAB, LAYERS, READERS, STEPS, BATCH = 96, 8, 8, 4, 8, 220, 32

WHOLE = Statement(
    name="one full layer carries the long range",
    text="With one full layer in the middle and own-block attention elsewhere a decoder learns both ranges to 0.95, "
    "within 0.03 of all layers full, at no more than 0.35 of the visible pairs.",
    hypotheses=(
        f"N = {LENGTH}, blocks of {BLOCK}, {VOCAB} tokens, {LAYERS} layers, d = 32, 2 heads, learned relative bias",
        f"Adam 5e-3, {STEPS} steps of {BATCH}",
        "short range: the previous token everywhere; long range: the first token, at the last 8 places",
    ),
    source=f"{PAPER}, section 3",
    slug=SLUG,
)
POLICIES: dict[str, str | masformer.Part] = {
    "one full layer": masformer.Part(full="middle", n_full=1, span=BLOCK),
    "none full": masformer.Part(n_full=0, span=BLOCK),
    "all full": "plain",
}


@dataclass(frozen=True)
class Scores:
    """Accuracies on fresh sequences, and the largest gradient of the last position's logits from the first token."""

    short: float
    long: float
    reach: float


class TwoRanges:
    """The mean of both cross entropies; the first 8 logits answer the short range, the last 8 the long one."""

    def batch(self, step: int, generator: torch.Generator) -> Batch:
        tokens = torch.randint(VOCAB, (BATCH, LENGTH), generator=generator)
        return Batch((tokens,), tokens)

    def loss(self, model: nn.Module, batch: Batch) -> Float[Tensor, ""]:
        short, long = answers(model, batch.targets)
        first = batch.targets[:, :1].expand(-1, READERS)
        return F.cross_entropy(short.mT, batch.targets[:, :-1]) + F.cross_entropy(long.mT, first)

    def describe(self) -> dict[str, Any]:
        return {"name": "two ranges", "length": LENGTH, "vocab": VOCAB, "batch": BATCH}


def answers(
    model: nn.Module, tokens: Int[Tensor, "batch pos"]
) -> tuple[Float[Tensor, "batch place vocab"], Float[Tensor, "batch reader vocab"]]:
    """Logits of the previous token at places 1 …, and of the first token at the last places."""
    logits = model(tokens)
    return logits[:, 1:, :VOCAB], logits[:, -READERS:, VOCAB:]


def decoder(depth: str | masformer.Part, seed: int) -> nn.Module:
    """The small decoder with a policy."""
    return zoo.sequence(
        d_vocab=2 * VOCAB,
        position="relative",
        depth=depth,
        d_model=32,
        n_layers=LAYERS,
        n_heads=2,
        n_ctx=LENGTH,
        seed=seed,
    )


def reach(model: nn.Module, tokens: Int[Tensor, "batch pos"]) -> float:
    """The largest absolute gradient of the last position's logits from the first position's embedding."""
    kept: dict[str, Tensor] = {}

    def keep(embedded: Tensor, hook) -> None:
        kept["x"] = embedded

    with torch.enable_grad():
        logits = model.run_with_hooks(tokens, fwd_hooks=[("hook_embed", keep)])
        (gradient,) = torch.autograd.grad(logits[:, -1].square().sum(), kept["x"])
    return gradient[:, 0].abs().max().item()


def scores(depth: str | masformer.Part, seed: int, steps: int = STEPS) -> Scores:
    """Trains the decoder with this policy and measures it."""
    model = decoder(depth, seed)
    fit(model, TwoRanges(), TrainConfig(steps=steps, lr=5e-3, optimizer="adam", seed=seed, checkpoint_every=steps))
    tokens = torch.randint(VOCAB, (512, LENGTH), generator=fresh(seed))
    with torch.no_grad():
        short, long = answers(model, tokens)
    return Scores(
        (short.argmax(-1) == tokens[:, :-1]).float().mean().item(),
        (long.argmax(-1) == tokens[:, :1]).float().mean().item(),
        reach(model, tokens[:8]),
    )


def _checks(found: Scores, full: Scores | None, cost: float) -> tuple[Check, ...]:
    """The same for the claim and its control; without the full model its check is left out."""
    checks = (
        Check("long range", found.long, ">=", 0.95),
        Check("short range", found.short, ">=", 0.95),
        Check("visible pairs over all full", cost, "<=", 0.35),
    )
    return (
        checks if full is None else (*checks, Check("long range beside all full", found.long - full.long, ">=", -0.03))
    )


def _gather(budget: str, seed: int) -> Evidence:
    seeds = {"quick": (), "full": (seed, seed + 1)}[budget]
    if not seeds:
        return _untrained(seed)
    runs = {name: [scores(policy, s) for s in seeds] for name, policy in POLICIES.items()}
    worst = {name: _worst(found) for name, found in runs.items()}
    one, none, full = (worst[name] for name in POLICIES)
    blind = Scores(*(max(getattr(r, f) for r in runs["none full"]) for f in ("short", "long", "reach")))
    return Evidence(
        kind="empirical",
        statement=WHOLE,
        checks=(
            *_checks(one, full, _cost("one full layer")),
            Check("gradient from the first position, one full layer", one.reach, ">", 0),
            Check("long range of none full", blind.long, "<=", 0.25),
            Check("gradient from the first position, none full", blind.reach, "==", 0),
            Check("short range of none full", none.short, ">=", 0.8),
        ),
        control=Control("no layer full", _checks(blind, None, _cost("none full"))),
        seed=seed,
        budget=budget,
        notes=f"seeds {', '.join(map(str, seeds))}, the worst of each; a guess finds {1 / VOCAB:.3f}. Where blocks "
        f"begin no sparse layer sees the previous token; without a full layer {1 - 1 / BLOCK:.3f} can be known.",
        figure=partial(_draw, runs),
    )


def _worst(runs: list[Scores]) -> Scores:
    return Scores(*(min(getattr(r, f) for r in runs) for f in ("short", "long", "reach")))


def _cost(name: str) -> float:
    policy = POLICIES[name]
    return float(policy.fraction(LAYERS, LENGTH))


def _untrained(seed: int) -> Evidence:
    """What needs no training: reach and cost. The accuracies stay undecided."""
    tokens = torch.randint(VOCAB, (4, LENGTH), generator=fresh(seed))
    found = {name: reach(decoder(policy, seed), tokens) for name, policy in POLICIES.items()}
    return Evidence(
        kind="empirical",
        statement=WHOLE,
        checks=(
            Check("visible pairs over all full", _cost("one full layer"), "<=", 0.35),
            Check("gradient from the first position, one full layer", found["one full layer"], ">", 0),
            Check("gradient from the first position, none full", found["none full"], "==", 0),
        ),
        seed=seed,
        decided=False,
        notes="only the full budget trains.",
        figure=_draw_spans,
    )


def _draw(runs: dict[str, list[Scores]]):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.5, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    for i, (field, label) in enumerate((("short", "the previous token"), ("long", "the first token"))):
        means = [sum(getattr(r, field) for r in found) / len(found) for found in runs.values()]
        bars = left.bar([j + 0.36 * (i - 0.5) for j in range(len(runs))], means, 0.34, label=label)
        left.bar_label(bars, fmt="%.2f", fontsize=8)
    left.axhline(1 / VOCAB, color="0.5", linestyle=":", linewidth=1)
    left.set_xticks(range(len(runs)), list(runs))
    left.set(ylabel="accuracy on fresh sequences", ylim=(0, 1.3), title="What one full layer adds")
    left.legend(fontsize="small", loc="upper left", ncols=2)
    _picture(right)
    return figure


def _draw_spans():
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4, 3.6), layout="constrained")
    _picture(figure.subplots())
    return figure


def _picture(axes) -> None:
    """Visible pairs of a sparse layer, dark, within those of a full one."""
    places = torch.arange(LENGTH)
    causal = places <= places[:, None]
    own = causal & masformer.Span("block", BLOCK).sees(places, places)
    axes.imshow(causal.float() + own.float(), cmap="Blues", vmin=0, vmax=2.4)
    cost = _cost("one full layer")
    axes.set(xlabel="key", ylabel="query", title=f"one full layer of {LAYERS}: {cost:.2f} of the pairs")


CLAIM = Claim(WHOLE, "empirical", _gather)
