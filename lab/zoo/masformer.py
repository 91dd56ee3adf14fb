"""The decoders of "Efficient Long-Range Transformers: You Need to Attend More, but Not Necessarily at Every Layer"
(Zhang et al. 2023, slug `masformer`): GPT-Neo's shapes with mixed attention spans.

As in GPT-Neo, queries, keys and values have no bias, scores are not scaled, positions are learned, and the unembedding
is the embedding. Its own local layers are replaced. The published sizes are those of 2,048 positions; a longer `n_ctx`
needs a longer position table, which is d_model parameters more for each position.
"""

from functools import partial

from microtome.lab.zoo.compose import sequence
from microtome.lab.zoo.config import Init
from microtome.lab.zoo.stems.tokens import TokenModel


def decoder(
    *,
    d_model: int,
    n_layers: int,
    n_heads: int,
    d_vocab: int = 50_257,
    n_ctx: int = 2048,
    full: str | tuple[int, ...] = "middle",
    n_full: int = 4,
    span: int = 1024,
    seed: int = 0,
) -> TokenModel:
    """A decoder whose layers outside the `full` ones see their own block of `span` positions."""
    return sequence(
        stem={"name": "tokens", "d_vocab": d_vocab, "unembed_bias": False, "tied": True},
        mixer={"name": "softmax", "scale": 1.0, "bias": False, "output_bias": True},
        depth={"name": "masformer", "full": full, "n_full": n_full, "span": span},
        init=Init("normal", std=0.02, embed_std=0.02),
        d_model=d_model,
        n_layers=n_layers,
        n_heads=n_heads,
        n_ctx=n_ctx,
        causal=True,
        seed=seed,
    )


VARIANTS = {
    "gpt_neo_125m": partial(decoder, d_model=768, n_layers=12, n_heads=12),
    "gpt_neo_1.3b": partial(decoder, d_model=2048, n_layers=24, n_heads=16),
}
