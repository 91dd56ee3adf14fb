"""The vision transformers of "Stabilizing Transformer Training by Preventing Attention Entropy Collapse" (Zhai et al.
2023, slug `sigma_reparam`): ViT/16 with σReparam in every linear and convolution weight and no LayerNorm.

Weights start as N(0, 0.02²) truncated at two standard deviations and γ = σ(W), so that Ŵ = W at the start. Queries,
keys and values are one matrix with one γ.
"""

from functools import partial

from microtome.lab.zoo.compose import sequence
from microtome.lab.zoo.config import Init
from microtome.lab.zoo.transformer import SequenceModel


def vision_transformer(
    d_model: int, n_heads: int, *, normed: bool = False, n_classes: int = 0, seed: int = 0
) -> SequenceModel:
    """A ViT/16 of 12 layers on 224 × 224 images; σReparam without LayerNorm, or plain pre-LN when `normed`."""
    return sequence(
        stem={"name": "grid", "n_classes": n_classes},
        mixer={"name": "softmax", "fused_qkv": True},
        feedforward={"name": "gelu", "approximate": "none"},
        norm="layernorm" if normed else "sigma_reparam",
        init=Init("truncated", std=0.02, embed_std=0.02),
        d_model=d_model,
        n_layers=12,
        n_heads=n_heads,
        seed=seed,
    )


VARIANTS = {
    "vit_tiny": partial(vision_transformer, d_model=192, n_heads=3),
    "vit_small": partial(vision_transformer, d_model=384, n_heads=6),
}
