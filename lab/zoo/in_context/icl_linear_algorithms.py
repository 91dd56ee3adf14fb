"""The in-context learner of "What learning algorithm is in-context learning? Investigations with linear models"
(Akyürek et al. 2023, slug `icl_linear_algorithms`).

Blocks normalise the stream itself (x ← LN(x), x ← x + Attn(x), x ← LN(x), x ← x + MLP(x)), with no final norm and the
tanh GELU. The reported number of heads M divides twice: queries, keys and values are H/M wide in all, so that a head is
H/M² wide. Parameters start as U(±1/√fan_in). Prompts of 40 pairs and a query take 82 positions.
"""

from functools import partial

from microtome.lab.zoo.compose import sequence
from microtome.lab.zoo.transformer import SequenceModel


def learner(
    n_layers: int, d_model: int, n_heads: int, *, dim: int = 8, points: int = 41, seed: int = 0
) -> SequenceModel:
    """An in-context learner for prompts of up to `points` pairs with x in R^dim.

    Raises:
        ValueError: if d_model is not divisible by n_heads².
    """
    if d_model % n_heads**2:
        raise ValueError(
            f"a head is d_model/n_heads² wide here: {d_model} is not divisible by {n_heads}² = {n_heads**2}."
        )
    return sequence(
        dim=dim,
        mixer={"name": "softmax", "d_head": d_model // n_heads**2},
        norm={"name": "layernorm", "placement": "stream", "final": False},
        feedforward="gelu",
        position="learned",
        d_model=d_model,
        n_layers=n_layers,
        n_heads=n_heads,
        n_ctx=2 * points,
        seed=seed,
    )


VARIANTS = {
    "best": partial(learner, n_layers=16, d_model=512, n_heads=4),
    "one_layer": partial(learner, n_layers=1, d_model=64, n_heads=1),
    "two_layer": partial(learner, n_layers=2, d_model=64, n_heads=1),
}
