"""The language models of "A Survey of Mamba" (2024, slug `survey_mamba`): Mamba (Gu & Dao 2023) and Mamba-2 (Dao & Gu
2024) at published sizes.

Blocks of RMSNorm and mixer without a feed-forward, no positions, one table for embedding and unembedding, whose 50,277
tokens are padded to 50,280. Embeddings start as N(0, 0.02²), everything else as the mixers have it. Under
`torch.device("meta")` a model is built without memory.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch

from microtome.lab.zoo.compose import sequence
from microtome.lab.zoo.stems.tokens import TokenModel

EMBEDDING_STD = 0.02


def language_model(
    d_model: int,
    n_layers: int,
    *,
    mixer: str | Mapping[str, Any] = "mamba",
    n_heads: int | None = None,
    d_vocab: int = 50_280,
    seed: int = 0,
) -> TokenModel:
    """A language model of selective state spaces.

    Args:
        d_model, n_layers: width of the stream, number of blocks.
        mixer: `mamba` or `mamba2`, with their options.
        n_heads: what Mamba's channels are summed up into by the readings, d_model/64 unless it is given; Mamba-2 has
            its own heads, by `d_head`.
        d_vocab: tokens.
        seed: of the parameters; the default generator is left as it was.
    """
    model = sequence(
        stem={"name": "tokens", "d_vocab": d_vocab, "unembed_bias": False, "tied": True},
        mixer=mixer,
        position="none",
        norm="rmsnorm",
        feedforward="none",
        d_model=d_model,
        n_layers=n_layers,
        n_heads=max(1, d_model // 64) if n_heads is None else n_heads,
        seed=seed,
    )
    with torch.no_grad():
        model.embed.weight *= EMBEDDING_STD
    return model


VARIANTS = {
    "mamba_130m": partial(language_model, 768, 24),
    "mamba_370m": partial(language_model, 1024, 48),
    "mamba2_130m": partial(language_model, 768, 24, mixer={"name": "mamba2", "d_head": 64}),
}
