"""The in-context learners of "In-context learning through the Bayesian prism" (Panwar, Ahuja & Goyal 2024, slug
`icl_bayesian_prism`): GPT-2 blocks on interleaved x and y, labels padded to the width of x (Garg et al. 2022).

GPT-2 starts linear maps at N(0, 0.02²). Prompts of 101 points take 202 positions. Many of the paper's runs add no
positions to the stream, yet their table of positions is there and counts among the parameters; `position="none"` leaves
it out, 202·d_model parameters less than published.
"""

from functools import partial

from microtome.lab.zoo.compose import sequence
from microtome.lab.zoo.transformer import SequenceModel


def learner(
    n_layers: int,
    d_model: int,
    n_heads: int,
    *,
    dim: int = 20,
    points: int = 101,
    position: str = "learned",
    seed: int = 0,
) -> SequenceModel:
    """An in-context learner for prompts of up to `points` pairs with x in R^dim."""
    return sequence(
        stem={"name": "regression", "dim": dim, "padded": True},
        position=position,
        init="normal",
        d_model=d_model,
        n_layers=n_layers,
        n_heads=n_heads,
        n_ctx=2 * points,
        seed=seed,
    )


VARIANTS = {
    "standard": partial(learner, n_layers=12, d_model=256, n_heads=8),
    "tiny": partial(learner, n_layers=3, d_model=64, n_heads=2),
    "small": partial(learner, n_layers=6, d_model=128, n_heads=4),
    "medium": partial(learner, n_layers=24, d_model=512, n_heads=16),
    "diversity": partial(learner, n_layers=8, d_model=128, n_heads=2, dim=8, points=16),
}
