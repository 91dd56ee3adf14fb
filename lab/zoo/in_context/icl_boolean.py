"""The in-context learners of "Understanding In-Context Learning in Transformers and LLMs by Learning to Learn Discrete
Functions" (Bhattamishra, Patel, Blunsom and Kanade 2024, slug `icl_boolean`).

A GPT-2 backbone without dropout: pre-norm blocks, learned positions, tanh GELU, weights N(0, 0.02²). Inputs and labels
are tokens of dim coordinates, x and [y, 0…0], read in by one linear map; one logit is read out at each x, the log odds
of +1. The unused token table of GPT-2 is left out.

`frozen` is the paper's test of what pretraining gives: attention and feed-forward of a backbone stay as they are, and
only two-layer maps into and out of it and its LayerNorms are trained. The paper takes the pretrained GPT-2, whose
weights are not part of this package; here a backbone is whatever learner is given, a fresh one being the control.
"""

import copy
from functools import partial

import torch
from torch import nn

from microtome.lab.zoo.compose import sequence
from microtome.lab.zoo.transformer import SequenceModel


def learner(
    n_layers: int = 12,
    d_model: int = 256,
    n_heads: int = 8,
    *,
    dim: int = 28,
    points: int = 40,
    init: str = "normal",
    seed: int = 0,
) -> SequenceModel:
    """An in-context learner for prompts of up to `points` pairs with x in {±1}^dim; its outputs are log odds.

    `init` "fan_in" suits narrow models better: GPT-2's standard deviation of 0.02 is that of wide ones.
    """
    return sequence(
        stem={"name": "regression", "dim": dim, "padded": True},
        init=init,
        d_model=d_model,
        n_layers=n_layers,
        n_heads=n_heads,
        n_ctx=2 * points,
        seed=seed,
    )


def frozen(backbone: SequenceModel, width: int = 256, seed: int = 0) -> SequenceModel:
    """A copy of an in-context learner of which only LayerNorms and new two-layer maps in and out can be trained.

    Args:
        backbone: a model of `learner`; it is left as it is.
        width: hidden units of the two new maps, at least 1.
        seed: of the new maps; the default generator is left as it was.

    Raises:
        ValueError: if width is below 1.
    """
    if width < 1:
        raise ValueError(f"width must be at least 1, not {width}.")
    model = copy.deepcopy(backbone).requires_grad_(False)
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            module.requires_grad_(True)
    d_model = model.spec.shape.d_model
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model.embed = nn.Sequential(nn.Linear(model.width, width), nn.ReLU(), nn.Linear(width, d_model))
        model.unembed = nn.Sequential(nn.Linear(d_model, width), nn.ReLU(), nn.Linear(width, 1))
    return model


VARIANTS = {
    "base": learner,
    "small": partial(learner, n_layers=6, d_model=128, n_heads=4, dim=20, points=150),
}
