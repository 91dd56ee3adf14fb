"""The in-context learner of "How do transformers learn in-context beyond simple functions? A case study on learning
with representations" (Guo et al. 2024, slug `icl_representations`).

A GPT-2: learned positions, LayerNorm before each sub-layer and at the end, the tanh GELU, feed-forwards four times as
wide. Prompts of 41 pairs with x in R^20 take 82 positions; `dynamics` reads a sequence of states, one a position, and
says the next. The small sizes are this laboratory's, for which its claim is calibrated.
"""

from functools import partial

from microtome.lab.zoo.compose import sequence
from microtome.lab.zoo.transformer import SequenceModel

_GPT2 = {"position": "learned", "norm": "layernorm", "feedforward": "gelu"}


def learner(n_layers: int, d_model: int, n_heads: int, *, dim: int, points: int, seed: int = 0) -> SequenceModel:
    """An in-context learner for prompts of up to `points` pairs with x in R^dim."""
    return sequence(dim=dim, d_model=d_model, n_layers=n_layers, n_heads=n_heads, n_ctx=2 * points, seed=seed, **_GPT2)


def continuer(n_layers: int, d_model: int, n_heads: int, *, dim: int, points: int, seed: int = 0) -> SequenceModel:
    """A learner of dynamical systems: sequences of up to `points` states in R^dim."""
    stem = {"name": "vectors", "dim": dim}
    return sequence(stem=stem, d_model=d_model, n_layers=n_layers, n_heads=n_heads, n_ctx=points, seed=seed, **_GPT2)


VARIANTS = {
    "full": partial(learner, n_layers=12, d_model=256, n_heads=8, dim=20, points=41),
    "small": partial(learner, n_layers=4, d_model=48, n_heads=4, dim=4, points=12),
    "dynamics": partial(continuer, n_layers=12, d_model=256, n_heads=8, dim=20, points=41),
}
