"""Small language models of "Stable, Fast and Accurate: Kernelized Attention with Relative Positional Encoding" (Luo et
al. 2021, slug `nprf`): normalised positive random features and a learned Toeplitz factor in every layer, no other
positions. The sizes are the lab's; the paper's own could not be verified.
"""

from functools import partial

from microtome.lab.zoo.compose import sequence
from microtome.lab.zoo.transformer import SequenceModel


def language_model(
    d_model: int,
    n_layers: int,
    n_heads: int,
    features: int,
    *,
    d_vocab: int = 50_257,
    n_ctx: int = 512,
    causal: bool = True,
    seed: int = 0,
) -> SequenceModel:
    """A pre-norm model of tokens, causal, or bidirectional for masked tokens."""
    return sequence(
        d_vocab=d_vocab,
        mixer={"name": "nprf", "features": features},
        position="none",
        d_model=d_model,
        n_layers=n_layers,
        n_heads=n_heads,
        n_ctx=n_ctx,
        causal=causal,
        seed=seed,
    )


VARIANTS = {
    "tiny": partial(language_model, d_model=64, n_layers=2, n_heads=2, features=32),
    "small": partial(language_model, d_model=256, n_layers=6, n_heads=8, features=64),
}
