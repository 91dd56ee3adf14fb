"""The language models of "The Devil in Linear Transformer" (Qin et al. 2022, slug `transnormer`): DiagAttention in the
lower half of the layers, NormAttention in the upper, gated feed-forwards, and norms without parameters.

The base size has 6 layers of width 512 with 8 heads: 18,903,228 trainable parameters without embeddings and
unembedding, in T1 and T2 alike. Tokens start as N(0, 1) and sinusoids are added, which is where the published code's
factor √C on tokens of N(0, 1/C) puts them.
"""

from functools import partial
from typing import Literal

from microtome.lab.zoo.compose import sequence
from microtome.lab.zoo.depth import by_layer
from microtome.lab.zoo.feedforward import glu
from microtome.lab.zoo.mixers import diag_attention, norm_attention
from microtome.lab.zoo.parts import MixerPart
from microtome.lab.zoo.transformer import SequenceModel


def local_then_linear(n_layers: int, kind: Literal["t1", "t2"] = "t1", block: int = 64) -> tuple[MixerPart, ...]:
    """One mixer a layer: DiagAttention below, NormAttention from the middle on."""
    local, linear = diag_attention.Part(kind=kind, block=block), norm_attention.Part(kind=kind)
    return (local,) * (n_layers // 2) + (linear,) * (n_layers - n_layers // 2)


def language_model(
    kind: Literal["t1", "t2"],
    *,
    d_model: int = 512,
    n_layers: int = 6,
    n_heads: int = 8,
    block: int = 64,
    gate: Literal["swish", "identity"] = "swish",
    d_vocab: int = 50_257,
    n_ctx: int = 512,
    causal: bool = True,
    seed: int = 0,
) -> SequenceModel:
    """A pre-norm model; `gate` is the feed-forward's f, "identity" what the published code comes to."""
    return sequence(
        d_vocab=d_vocab,
        depth=by_layer.Part(local_then_linear(n_layers, kind, block)),
        position="sinusoidal",
        norm="simple_rmsnorm",
        feedforward=glu.Part(gate=gate),
        d_model=d_model,
        n_layers=n_layers,
        n_heads=n_heads,
        n_ctx=n_ctx,
        causal=causal,
        seed=seed,
    )


VARIANTS = {"t1": partial(language_model, "t1"), "t2": partial(language_model, "t2")}
