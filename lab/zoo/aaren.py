"""Stacks of Aaren (Feng et al. 2024, "Attention as an RNN", slug `aaren`): transformer encoder layers, normalised after
each sub-layer, whose attention asks with one learned token a layer.

`layer` is the published comparison: one layer of width 512 with a feed-forward of 2,048 has 3,152,896 parameters, 512
more than the transformer's, which are the token. A model reads vectors and writes one at each place; with tokens in
place of vectors (`d_vocab`), `streaming.Stream` reads it step by step with a state that does not grow.
"""

from functools import partial

from microtome.lab.zoo.compose import sequence
from microtome.lab.zoo.transformer import SequenceModel


def learner(
    n_layers: int,
    d_model: int,
    n_heads: int,
    *,
    dim: int = 16,
    d_vocab: int | None = None,
    mixer: str = "aaren",
    position: str = "none",
    seed: int = 0,
) -> SequenceModel:
    """A causal stack over vectors in R^dim, or over tokens if `d_vocab` is given.

    Args:
        n_layers, d_model, n_heads: its size; the feed-forward is four times as wide as the stream.
        dim: of the vectors read and written.
        d_vocab: tokens instead.
        mixer: `aaren`, or `softmax` for the transformer that it is compared with.
        position: a position part; without one the order of the past is invisible to Aaren.
        seed: of the parameters.
    """
    stem = {"name": "vectors", "dim": dim} if d_vocab is None else {"name": "tokens", "d_vocab": d_vocab}
    return sequence(
        stem=stem,
        mixer=mixer,
        position=position,
        norm={"name": "layernorm", "placement": "post", "final": False},
        feedforward="relu",
        d_model=d_model,
        n_layers=n_layers,
        n_heads=n_heads,
        seed=seed,
    )


VARIANTS = {
    "layer": partial(learner, 1, 512, 8),
    "small": partial(learner, 2, 32, 4),
}
