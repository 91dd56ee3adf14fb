"""How much attention a head pays to given places: nearest-neighbour heads and prefix-matching (induction) heads.

The score of a head is the mean, over queries and prompts, of the attention that a query pays to its own set of keys; a
head counts as one of the kind from ½ on. Two scores of in-context learners of pairs, whose tokens are x̃₁ ỹ₁ x̃₂ ỹ₂ …,
come from "Understanding In-Context Learning in Transformers and LLMs by Learning to Learn Discrete Functions"
(Bhattamishra et al. 2024, icl_boolean):

- nearest neighbour: from x̃_k to the label ỹ_j of the earlier x_j of largest cosine;
- prefix: in a prompt that repeats itself, from x̃_k to the labels of the same pair in the copies before.

Read at the patterns of TransformerLens, `blocks.{i}.attn.hook_pattern`, or the effective ones of mixers without.
"""

import re
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from microtome.lab.bayes.boolean.nearest import most_similar
from microtome.lab.zoo.points import observer
from microtome.probes.sources import layer_of

THRESHOLD = 0.5
"""A head that gives this share of its attention counts."""


@dataclass(frozen=True)
class HeadScores:
    """Scores of all heads, each in [0, 1].

    Attributes:
        scores: [layer head].
    """

    scores: Float[Tensor, "layer head"]

    @property
    def heads(self) -> list[tuple[int, int]]:
        """Layer and head of those that count, the strongest first."""
        order = self.scores.flatten().argsort(descending=True).tolist()
        places = [divmod(place, self.scores.shape[1]) for place in order]
        return [place for place in places if self.scores[place] >= THRESHOLD]


def attention_to(model: nn.Module, inputs: tuple[Tensor, ...], keys: Bool[Tensor, "batch query key"]) -> HeadScores:
    """Mean attention to the keys that are true, over the queries that have any.

    Args:
        model: any HookedRootModule whose patterns are at TransformerLens' places.
        inputs: what the model is called with, positionally.
        keys: where each query is expected to look.

    Raises:
        ValueError: if no query has a key, the model has no patterns, or they have another shape than `keys`.
    """
    asked = keys.any(-1)
    if not asked.any():
        raise ValueError("no query has a key to look at, so there is no score; mark at least one.")
    sums: dict[int, Tensor] = {}

    def read(pattern: Float[Tensor, "batch head query key"], hook) -> None:
        if pattern.shape[0] != keys.shape[0] or pattern.shape[2:] != keys.shape[1:]:
            raise ValueError(
                f"{hook.name} has batch, query and key {[pattern.shape[0], *pattern.shape[2:]]}, "
                f"but the keys are {list(keys.shape)}."
            )
        sums[layer_of(hook.name)] = (pattern.detach() * keys[:, None]).sum((0, 2, 3)) / asked.sum()

    with torch.no_grad():
        model.run_with_hooks(*inputs, fwd_hooks=[(name, observer(read)) for name in _patterns(model)])
    return HeadScores(torch.stack([sums[layer] for layer in sorted(sums)]).float().cpu())


def nearest_neighbour_scores(
    model: nn.Module, xs: Float[Tensor, "batch points dim"], ys: Float[Tensor, "batch points"], start: int = 1
) -> HeadScores:
    """Attention from each x to the label of its nearest earlier neighbour.

    Args:
        model: an in-context learner called with (xs, ys), two tokens a pair.
        xs: inputs.
        ys: labels.
        start: the first point that is asked, from 1 to points − 1; 20 for the nearest-neighbour task.

    Raises:
        ValueError: if start leaves no point, or as `attention_to`.
    """
    points = xs.shape[1]
    if not 1 <= start < points:
        raise ValueError(f"start must lie between 1 and {points - 1}, so that a point is left, not {start}.")
    nearest = most_similar(xs)[0]
    place = torch.arange(points, device=xs.device)
    wanted = (place == nearest[..., None]) & (place >= start)[:, None]
    return attention_to(model, (xs, ys), _at_labels(wanted))


def prefix_scores(
    model: nn.Module,
    xs: Float[Tensor, "batch points dim"],
    ys: Float[Tensor, "batch points"],
    copies: int = 2,
) -> HeadScores:
    """Attention from each x of a repeated prompt to the labels of the same pair in all copies before.

    The paper averages over pairs of copies in place of summing, so that more than two copies there can never give a
    score of 1.

    Args:
        model: an in-context learner called with (xs, ys), two tokens a pair.
        xs: inputs of one copy.
        ys: labels of one copy.
        copies: how often the prompt is repeated, at least 2.

    Raises:
        ValueError: if there are fewer than two copies, or as `attention_to`.
    """
    if copies < 2:
        raise ValueError(f"copies must be at least 2, so that one has another before it, not {copies}.")
    batch, points, _ = xs.shape
    place = torch.arange(copies * points, device=xs.device)
    wanted = (place[:, None] % points == place % points) & (place[:, None] > place)
    return attention_to(
        model, (xs.repeat(1, copies, 1), ys.repeat(1, copies)), _at_labels(wanted.expand(batch, -1, -1))
    )


def _at_labels(wanted: Bool[Tensor, "batch point other"]) -> Bool[Tensor, "batch query key"]:
    """Queries at x tokens, keys at the label tokens of other points."""
    batch, points, _ = wanted.shape
    keys = wanted.new_zeros(batch, points, 2, points, 2)
    keys[:, :, 0, :, 1] = wanted
    return keys.flatten(3, 4).flatten(1, 2)


def _patterns(model: nn.Module) -> list[str]:
    """The hook of every layer's pattern."""
    for name in ("hook_pattern", "hook_effective_pattern"):
        found = [hook for hook in model.hook_dict if re.fullmatch(rf"blocks\.\d+\.\w+\.{name}", hook)]
        if found:
            return found
    raise ValueError("the model has neither blocks.*.attn.hook_pattern nor an effective pattern to read.")
