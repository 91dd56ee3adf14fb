"""Making a trained program shorter without making it worse: fewer variables in the classifier, whole numbers in it."""

import copy

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from microtome.lab.rasp.learned.data import Examples, tensors
from microtome.lab.rasp.learned.network import TransformerProgram
from microtome.lab.rasp.learned.points import FINEST


@torch.no_grad()
def simplified(model: TransformerProgram, examples: Examples) -> TransformerProgram:
    """A copy of a discrete network with a simpler classifier that finds at least as many of the examples' tags.

    Variables are taken out of the classifier as long as no tag is lost on balance, the last ones first; the remaining
    ones take over what a linear regression on the examples says they can. Modules that only the classifier read then
    drop out of the exported program. What is left is rounded to the coarsest power of two that loses no tag either;
    sums of such numbers are exact in floating point, so that the network and its program agree to the last tie.

    Raises:
        ValueError: if no example has a tag.
    """
    features, targets = _known(model, examples)
    weights = model.W_U.detach().double()
    least = _hits(features, weights, targets)
    gram = features.T @ features
    kept = torch.ones(len(weights), dtype=torch.bool)
    for variable in reversed(model.options.variables):
        if variable.name == "ones":
            continue
        own = torch.zeros_like(kept)
        own[variable.start : variable.stop] = True
        without = _passed_on(weights, gram, own, kept & ~own)
        if _hits(features, without, targets) >= least:
            weights, kept = without, kept & ~own
    for step in (2.0**-i for i in range(FINEST.bit_length())):
        rounded = (weights / step).round() * step
        if _hits(features, rounded, targets) >= least:
            weights = rounded
            break
    simple = copy.deepcopy(model)
    simple.W_U.copy_(weights)
    return simple


def _known(model: TransformerProgram, examples: Examples) -> tuple[Float[Tensor, "tag d_model"], Int[Tensor, " tag"]]:
    """The stream at the end wherever something is asked, and what should be said there."""
    found = tensors(examples, model.options)
    if not found.asked.any():
        raise ValueError("to simplify a network, give examples of which at least one word has a tag.")
    _, cache = model.run_with_cache(found.tokens, names_filter=f"blocks.{len(model.blocks) - 1}.hook_resid_post")
    (stream,) = cache.values()
    return stream[found.asked].double(), found.targets[found.asked]


def _passed_on(
    weights: Float[Tensor, "d_model d_vocab_out"],
    gram: Float[Tensor, "d_model d_model"],
    own: Bool[Tensor, " d_model"],
    others: Bool[Tensor, " d_model"],
) -> Float[Tensor, "d_model d_vocab_out"]:
    """The weights when the directions `own` are read no more and `others` take over their regression on them."""
    without = weights.clone()
    without[own] = 0
    taken = torch.linalg.pinv(gram[others][:, others], hermitian=True) @ gram[others][:, own]
    without[others] += taken @ weights[own]
    return without


def _hits(
    features: Float[Tensor, "tag d_model"], weights: Float[Tensor, "d_model d_vocab_out"], targets: Int[Tensor, " tag"]
) -> int:
    return int(((features @ weights)[:, 1:].argmax(-1) + 1 == targets).sum())
