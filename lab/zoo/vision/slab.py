"""The vision transformers of "SLAB: Efficient Transformers with Simplified Linear Attention and Progressive
Re-parameterized Batch Normalization" (Guo et al. 2024, slug `slab`).

`slab_deit_tiny`: DeiT with simplified linear attention and PRepBN in every block, mean pooling, and a class token that
is kept but unused. `repbn_deit_tiny`: DeiT with RepBN from the first step and softmax attention. The paper's Swin, PVT
and CSWin models need pyramids of windows, which are not built here.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

from microtome.lab.zoo.compose import sequence
from microtome.lab.zoo.config import Init
from microtome.lab.zoo.transformer import SequenceModel


def deit(
    *,
    d_model: int = 192,
    n_layers: int = 12,
    n_heads: int = 3,
    image_size: int = 224,
    patch: int = 16,
    n_classes: int = 1000,
    norm: str | Mapping[str, Any],
    simplified: bool,
    seed: int = 0,
) -> SequenceModel:
    """A DeiT with this norm: `simplified` has SLAB's attention and mean pooling, else softmax and a class token."""
    pooled = {"pool": "mean", "idle_cls": True} if simplified else {"pool": "cls"}
    return sequence(
        stem={"name": "grid", "image_size": image_size, "patch": patch, "n_classes": n_classes, **pooled},
        mixer="slab" if simplified else {"name": "softmax", "fused_qkv": True},
        feedforward={"name": "gelu", "approximate": "none"},
        norm=norm,
        init=Init("truncated", std=0.02, embed_std=0.02),
        d_model=d_model,
        n_layers=n_layers,
        n_heads=n_heads,
        seed=seed,
    )


VARIANTS = {
    "slab_deit_tiny": partial(deit, norm={"name": "prepbn", "steps": 60_000}, simplified=True),
    "repbn_deit_tiny": partial(deit, norm="repbn", simplified=False),
}
