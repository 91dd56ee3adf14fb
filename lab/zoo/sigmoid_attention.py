"""The language model of "Theory, Analysis, and Best Practices for Sigmoid Self-Attention" (Ramapuram et al. 2025, slug
`sigmoid_attention`) at the size whose parameters are published: one pre-norm block of width 384 with 12 heads and
QK-norm, no biases in linear maps, ALiBi, untied embeddings of 32,100 tokens; weights start as truncated N(0, 0.02²).
"""

from functools import partial

from microtome.lab.zoo.compose import sequence
from microtome.lab.zoo.config import Init
from microtome.lab.zoo.transformer import SequenceModel


def language_model(
    n_layers: int = 1, *, d_vocab: int = 32_100, n_ctx: int = 2048, b: float | None = None, seed: int = 0
) -> SequenceModel:
    """A causal model; b None gives −log n_ctx, −7.62 at 2,048 positions."""
    return sequence(
        stem={"name": "tokens", "d_vocab": d_vocab, "unembed_bias": False},
        mixer={"name": "sigmoid_attention", "bias": False, "qk_norm": True, "b": b},
        position="alibi",
        feedforward={"name": "gelu", "bias": False},
        init=Init("truncated", std=0.02, embed_std=0.02),
        d_model=384,
        n_heads=12,
        n_layers=n_layers,
        n_ctx=n_ctx,
        seed=seed,
    )


VARIANTS = {"one_block": language_model, "length_64": partial(language_model, n_ctx=64, b=-10.0)}
