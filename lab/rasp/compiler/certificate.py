"""What the compiler proves of a program in weights, for every input up to its longest.

Scores are whole numbers of tiers held exactly in float32, so the attention of a head is exactly even over what it
should attend to and exactly 0 elsewhere: exp(−margin) is below float32's smallest number. What is left is the rounding
of the softmax's weights and of sums of values, which `infer` bounds, and which the neurons that read a number must
tell apart; where they could not, the program was refused.
"""

import math
from dataclasses import dataclass

import numpy as np

from microtome.lab.rasp.compiler.facts import same
from microtome.lab.rasp.compiler.operations import Form, Head
from microtome.lab.rasp.compiler.pipeline import Lowered

MAX_PAIRS = 2**22
"""Most pairs of values on which a margin is computed rather than taken from the scores' construction."""


@dataclass(frozen=True)
class HeadMargin:
    """How far a head's unselected keys lie below the selected ones.

    Attributes:
        layer, head: which head.
        label: what it computes.
        margin: the smallest difference, in nats.
        leakage: bound on the attention, of the keys that should have none, together.
    """

    layer: int
    head: int
    label: str
    margin: float
    leakage: float


@dataclass(frozen=True)
class Certificate:
    """What holds on every input of 1 to `max_len` tokens of the vocabulary.

    Attributes:
        max_len: the longest input.
        heads: the margin of each head.
        output_error: bound on the float32 error of numbers at the output; 0 where values are told apart.
        margin: by how much the right output beats every other, in logits; infinite where a number is read off.
        lower_bound: how few layers the order of operations allows; the model has as many.
        assumptions: what inputs must also satisfy; where one fails the program itself is not defined.
    """

    max_len: int
    heads: tuple[HeadMargin, ...]
    output_error: float
    margin: float
    lower_bound: int
    assumptions: tuple[str, ...]

    def __str__(self) -> str:
        kind = "decodes correctly" if self.output_error == 0 else f"is right to within {self.output_error:.1e}"
        text = f"{kind} on every input of 1 to {self.max_len} tokens"
        if self.heads:
            text += f"; the smallest attention margin is {min(h.margin for h in self.heads):.0f} nats"
        if self.assumptions:
            text += "; provided that " + "; that ".join(self.assumptions)
        return text


def certify(lowered: Lowered) -> Certificate:
    """Reads the bounds off the program in layers."""
    from microtome.lab.rasp.compiler.emit import TIER

    setting = lowered.plan.setting
    margins = []
    for i, layer in enumerate(lowered.plan.layers):
        for h, head in enumerate(layer.heads):
            # With more than one level, some key lies one tier below those that are attended to, and so does a sink.
            close = head.levels > 1 or (lowered.plan.sink and head.sink_score < 0)
            margin = TIER * (min(_margin(head), 1.0 if close else math.inf) - 2 * _error(head))
            # Below half of 2^−149, exp rounds to 0; above it, each such key has at most exp(−margin).
            leakage = 0.0 if margin > 150 * math.log(2) else setting.max_len * math.exp(-margin)
            margins.append(HeadMargin(i, h, head.label, margin, leakage))
    return Certificate(
        max_len=setting.max_len,
        heads=tuple(margins),
        output_error=lowered.readout.error,
        margin=lowered.readout.margin,
        lower_bound=lowered.schedule.lower_bound,
        assumptions=tuple(lowered.inference.assumptions),
    )


def _margin(head: Head) -> float:
    """In tiers: the least by which one failing term of the score lies below the highest score of its query."""
    margin = math.inf
    for q, k in head.products:
        margin = min(margin, _gap_below_best(q, k, head))
    for form in (head.by_query, head.by_key):
        if form.weights and not head.products:
            levels = np.unique(np.round(_values_of(form), 9))
            if len(levels) > 1:
                margin = min(margin, float(np.diff(levels).min()))
    return 1.0 if math.isinf(margin) else margin


def _error(head: Head) -> float:
    """In tiers: how far float32 may be off in one score, because classes were read off a rounded number."""
    total = 0.0
    for form in (head.by_query, head.by_key):
        total += sum(abs(w) * d.error for d, w in form.weights.items())
    for q, k in head.products:
        for form, other in ((q, k), (k, q)):
            largest = float(np.abs(_values_of(other)).max(initial=0.0))
            total += largest * sum(abs(w) * d.error for d, w in form.weights.items())
    return total


def _gap_below_best(q: Form, k: Form, head: Head) -> float:
    """The smallest difference between two scores that one query gives, over all values of what q and k read."""
    queries, keys = np.unique(np.round(_values_of(q), 9)), _key_points(k, head)
    if queries.size * len(keys) > MAX_PAIRS or not len(keys):
        return 1.0
    best = math.inf
    for value in queries:
        scores = np.unique(np.round(value * keys[:, 0] + keys[:, 1], 6))
        if len(scores) > 1:
            best = min(best, float(scores[-1] - scores[-2]))
    return best


def _key_points(k: Form, head: Head) -> np.ndarray:
    """(product form, key-only form) for each joint value of what both read, where one variable has both."""
    directions = {*k.weights, *(d for d in head.by_key.weights if _same_source(d, k))}
    sources = [d.sops for d in directions]
    if not sources or not all(same(s, sources[0]) for s in sources) or any(d.table is None for d in directions):
        return np.empty((0, 2))
    places = set.intersection(*(set(d.table) for d in directions))
    rows = []
    for place in places:
        product = k.bias + sum(w * d.table[place] for d, w in k.weights.items())
        alone = sum(w * d.table[place] for d, w in head.by_key.weights.items() if d in directions)
        rows.append((product, alone))
    return np.array(rows)


def _same_source(direction, form: Form) -> bool:
    return any(same(direction.sops, d.sops) for d in form.weights)


def _values_of(form: Form) -> np.ndarray:
    """All values that a form over directions of one variable can take; over several, those of each."""
    tables = [d.table for d in form.weights]
    if any(t is None for t in tables):
        return np.array([form.bias])
    places = set.intersection(*map(set, tables)) if tables else set()
    if not places:
        return np.array([form.bias])
    return np.array([form.bias + sum(w * d.table[p] for d, w in form.weights.items()) for p in places])
