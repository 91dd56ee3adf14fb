"""The claim of Combiner (Ren et al. 2021): every key is reached at the cost of a sparse pattern.

One layer (d = 32, 2 heads) is trained to name a label that stands at a random place, never the last, of an early
segment. Full attention and Combiner-Fixed find it; the sparse pattern of the same cost that Combiner starts from, own
segment and the last position of each earlier one, cannot see it. The logits that a query makes are counted as the code
makes them.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from microtome.lab import zoo
from microtome.lab.tasks.label_recall import LabelRecall
from microtome.lab.train import TokenPrediction, TrainConfig
from microtome.lab.zoo.mixers import softmax
from microtome.lab.zoo.mixers._visible import VisibleMixer
from microtome.lab.zoo.parts import Shape
from microtome.lab.zoo.transformer import SequenceModel
from microtome.theory import registry
from microtome.theory.claim import Claim
from microtome.theory.claims._fitting import fit, fresh
from microtome.theory.evidence import Check, Control, Evidence
from microtome.theory.statement import Statement

SLUG = "combiner"
PAPER = "Ren et al., Combiner: Full Attention Transformer with Sparse Computation Cost (2021)"
SEGMENT, STEPS = 8, 250
TASK = LabelRecall(labels=10, length=64, segment=SEGMENT)

RECALL = Statement(
    name="full support at sparse cost",
    text="One layer of Combiner-Fixed names a label in an early segment with accuracy at least 0.95; the sparse "
    "pattern of the same cost stays at 0.2 or below.",
    hypotheses=(
        f"n = {TASK.length}, w = {SEGMENT}, d = 32, 2 heads, {TASK.labels} labels, the label never ends its segment",
        f"{STEPS} steps of 64 sequences, Adam 1e-2",
    ),
    source=f"{PAPER}, section 3",
    slug=SLUG,
)
WHOLE = Statement(
    name="full attention as a conditional expectation",
    text="Direct keys and regions reach every position, and a query makes w + n/w logits.",
    hypotheses=("as in its parts",),
    source=PAPER,
    slug=SLUG,
)


class LastOfSegmentMixer(VisibleMixer):
    """Own segment, and the last position of each earlier one: the fixed sparse pattern, the control."""

    def sees(self, queries: Int[Tensor, " query"], keys: Int[Tensor, " key"], n: int) -> Bool[Tensor, "query key"]:
        return (queries // SEGMENT)[:, None].eq(keys // SEGMENT) | (keys % SEGMENT == SEGMENT - 1)

    def _tiles(self, n: int, device: torch.device) -> list[tuple[slice, Int[Tensor, " column"]]]:
        return [(slice(0, n), torch.arange(n, device=device))]


@dataclass(frozen=True)
class LastOfSegment(softmax.Part):
    """As softmax attention."""

    def build(self, shape: Shape) -> LastOfSegmentMixer:
        return LastOfSegmentMixer(self, shape)


MODELS = {
    "Combiner-Fixed": {"name": "combiner", "pattern": "fixed", "segment": SEGMENT},
    "full attention": "softmax",
    "fixed sparse": LastOfSegment(),
}


def trained(mixer, seed: int, steps: int = STEPS) -> SequenceModel:
    """One layer with learned positions."""
    model = zoo.sequence(
        d_vocab=TASK.d_vocab, mixer=mixer, d_model=32, n_heads=2, n_layers=1, n_ctx=TASK.length, seed=seed
    )
    config = TrainConfig(steps=steps, lr=1e-2, optimizer="adam", seed=seed, checkpoint_every=steps)
    fit(model, TokenPrediction(TASK, 64), config)
    return model


@torch.no_grad()
def accuracy(model: SequenceModel, seed: int) -> float:
    """Share of labels named on 1,024 fresh sequences."""
    batch = TASK.sample(1024, fresh(seed))
    return (model(batch.tokens)[:, -1].argmax(-1) == batch.targets[:, -1]).float().mean().item()


def _recall(budget: str, seed: int) -> tuple[Evidence, dict[str, SequenceModel]]:
    chosen = [name for name in MODELS if budget == "full" or name != "full attention"]
    models = {name: trained(MODELS[name], seed) for name in chosen}
    found = {name: accuracy(model, seed) for name, model in models.items()}
    name = "accuracy"
    evidence = Evidence(
        kind="empirical",
        statement=RECALL,
        checks=(
            Check(name, found["Combiner-Fixed"], ">=", 0.95),
            Check("accuracy of the sparse pattern", found["fixed sparse"], "<=", 0.2),
        ),
        control=Control(
            "regions replaced by each earlier segment's last token", (Check(name, found["fixed sparse"], ">=", 0.95),)
        ),
        seed=seed,
        budget=budget,
        notes=f"A guess has odds {1 / TASK.labels:.2f}."
        + (f" Full attention reaches {found['full attention']:.3f}." if budget == "full" else ""),
    )
    return evidence, models


def _gather(budget: str, seed: int) -> Evidence:
    measured = tuple(registry.run_all(slug=SLUG, budget=budget, seed=seed))
    recall, models = _recall(budget, seed)
    return Evidence(
        kind="empirical",
        statement=WHOLE,
        seed=seed,
        budget=budget,
        parts=(*measured, recall),
        figure=lambda: _draw(models, recall, seed),
        notes="" if budget == "full" else "the quick budget leaves full attention out, which nothing is held against.",
    )


def _draw(models: dict[str, SequenceModel], recall: Evidence, seed: int):
    from microtome.lab.report.style import drawing

    tokens = TASK.sample(1, fresh(seed)).tokens
    place = int((tokens[0] < TASK.labels).nonzero()[0])
    name = "blocks.0.attn.hook_effective_pattern"
    with drawing(3.2 * len(models) - 0.2, 3.4) as figure:
        for axes, (title, model) in zip(figure.subplots(1, len(models)), models.items(), strict=True):
            pattern = model.run_with_cache(tokens, names_filter=name)[1][name][0].mean(0)
            image = axes.imshow(pattern.clamp(min=1e-4).log10(), cmap="viridis", vmin=-4, vmax=0)
            axes.axvline(place, color="tab:red", linewidth=0.8)
            axes.set(title=title, xlabel="key (red: the label)", ylabel="query")
            axes.grid(False)
        figure.colorbar(image, ax=axes, shrink=0.8, label="log₁₀ weight, mean of heads")
    return figure


CLAIM = Claim(WHOLE, "empirical", _gather)
