"""The claim of "The Closeness of In-Context Learning and Weight Shifting for Softmax Regression" (Li et al. 2023): what
a step of gradient descent and what a self-attention layer do to the labels of a softmax regression is bounded alike,
and a trained layer predicts like one step.

The theorem and the identities hold, with R/2 in place of the theorem's constant. The trained part does not. It asks
for a cosine of at least 0.9 and a gap of at most 0.4·Var(b_q) after 2,000 steps of 256 prompts, n = 16, d = 2. As the
layer is printed, without biases, it averages labels like a kernel smoother and stays at a cosine near 0.8 and a gap
above 0.5, whatever the start. With biases it passes through the neighbourhood of the step, cosines up to 0.97, on its
way to something else: 1 − Σ b_j, which is the answer exactly, as the shares of a prompt add up to one. Then its error
is 0, the gap is the step's own error, near 0.4, and its sensitivity to the query's input vanishes, so that a cosine
says nothing. Where it stands on that way after 2,000 steps depends on the seed.
"""

from microtome.theory import registry
from microtome.theory.claim import Claim
from microtome.theory.claims._icl_softmax_regression import (
    SLUG,
    Closeness,
    best_rate,
    draw,
    held_out,
    step_error,
    train_layer,
)
from microtome.theory.evidence import Check, Control, Evidence
from microtome.theory.statement import Statement

PAPER = "Li et al., The Closeness of In-Context Learning and Weight Shifting for Softmax Regression (2023)"
JUDGED, LAST = 2000, 4000
QUICK = 200

SIZES = (
    "n = 16 pairs and a query, d = 2, A ~ N(0, 1/d), x* ~ N(0, I), b = f over context and query",
    "Adam 1e-2, 256 prompts a step; 200 steps at the quick budget, which cannot refute",
    "η of the step by line search on 8,192 training prompts; measured on 8,192 others",
)
CLOSE = Statement(
    name="a trained layer predicts like one step",
    text="After 2,000 steps the sensitivities ∂ŷ/∂a_q of the layer and of one tuned step have a mean cosine of at "
    "least 0.9, and the predictions differ by at most 0.4·Var(b_q) in mean square.",
    hypotheses=(*SIZES, "one head of softmax self-attention without biases, as printed"),
    source=f"{PAPER}, experiments",
    slug=SLUG,
)
CLOSE_BIASED = Statement(
    name="a trained layer with biases predicts like one step",
    text=CLOSE.text,
    hypotheses=(*SIZES, "the same layer with biases"),
    source=CLOSE.source,
    slug=SLUG,
)
SUM = Statement(
    name="with biases the layer learns one minus the sum of the shares",
    text="After 4,000 steps the layer's error is at most 0.01·Var(b_q), and its sensitivity to a_q at most 5% of the "
    "step's: it says 1 − Σ b_j, the exact answer, in which a_q does not occur.",
    hypotheses=(*SIZES, "the same layer with biases"),
    source="this laboratory's, on the paper's task",
    slug=SLUG,
)
WHOLE = Statement(
    name="in-context learning and weight shifting are close for softmax regression",
    text="Both move labels by at most R/2 times the shift, and a trained layer predicts like one step of descent.",
    hypotheses=("as in its parts",),
    source=PAPER,
    slug=SLUG,
)


def _close_checks(cosine: float, gap: float) -> tuple[Check, ...]:
    return (
        Check("mean cosine of the sensitivities to the query", cosine, ">=", 0.9),
        Check("squared difference of the predictions over Var(b_q)", gap, "<=", 0.4),
    )


def _close(statement: Statement, found: Closeness, others: dict[str, Closeness], **shared) -> Evidence:
    """`others` are the falsifiers; the nearest of them, measure by measure, must fail."""
    checks = _close_checks(found.cosine, found.gap)
    nearest = _close_checks(max(c.cosine for c in others.values()), min(c.gap for c in others.values()))
    return Evidence(
        kind="empirical",
        statement=statement,
        checks=checks,
        control=Control(f"the nearest of: {', '.join(others)}", nearest),
        decided=shared["budget"] == "full" or all(check.passes for check in checks),
        notes=f"error of the layer {found.error:.3f}·Var, distance of the sensitivities {found.distance:.2f} of the "
        f"step's, size {found.size:.2f} of it; "
        + "; ".join(f"{name}: cosine {c.cosine:.2f}, gap {c.gap:.2f}" for name, c in others.items()),
        **shared,
    )


def _sum_checks(found: Closeness) -> tuple[Check, ...]:
    return (
        Check("error over Var(b_q)", found.error, "<=", 0.01),
        Check("size of the sensitivity over the step's", found.size, "<=", 0.05),
    )


def _gather(budget: str, seed: int) -> Evidence:
    judged, last = (JUDGED, LAST) if budget == "full" else (QUICK, QUICK)
    shared = {"budget": budget, "seed": seed}
    rate = best_rate(seed)
    paths, parts = {}, []
    for statement, variant, steps in ((CLOSE, "layer", judged), (CLOSE_BIASED, "biased", last)):
        track = train_layer(variant, steps, seed, rate)
        paths[variant] = track.found
        others = {"the layer untrained": track.found[0], "a step uphill": track.uphill[judged]}
        parts.append(_close(statement, track.found[judged], others, **shared))
    checks = _sum_checks(paths["biased"][last])
    learnt = Evidence(
        kind="empirical",
        statement=SUM,
        checks=checks,
        control=Control("the layer without biases", _sum_checks(paths["layer"][judged])),
        decided=budget == "full" or all(check.passes for check in checks),
        **shared,
    )
    error = step_error(held_out(seed), rate)
    return Evidence(
        kind="empirical",
        statement=WHOLE,
        parts=(*registry.run_all(slug=SLUG, budget=budget, seed=seed), *parts, learnt),
        notes=f"η = {rate:.1f}; error of the step {error:.3f}·Var(b_q).",
        figure=lambda: draw(
            {{"layer": "as printed", "biased": "with biases"}[name]: path for name, path in paths.items()}, error
        ),
        **shared,
    )


CLAIM = Claim(WHOLE, "empirical", _gather)
