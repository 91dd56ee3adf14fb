"""The vision transformers of "EcoFormer: Energy-Saving Attention with Linear Complexity" (Liu et al. 2022, slug
`ecoformer`): PVTv2 without spatial reduction, attention between hash codes in stages 1 to 3, softmax attention in
stage 4.

Parameters at 1,000 classes: 3,136,328 (B0) and 11,891,368 (B1); with softmax attention throughout, whose queries and
keys have maps of their own, 3,198,280 and 12,138,152. Hash functions are buffers.
"""

from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from microtome.lab.zoo.mixers import ecoformer, softmax
from microtome.lab.zoo.vision.pvt_v2 import B0, B1, PyramidModel, Sizes


def pyramid(sizes: Sizes, hashed: bool, **options) -> PyramidModel:
    """EcoFormer, or softmax attention throughout; options as `PyramidModel`'s image_size, n_classes and seed."""
    below = ecoformer.Part() if hashed else softmax.Part()
    return PyramidModel(sizes, (below,) * 3 + (softmax.Part(),), **options)


def binarised(model: PyramidModel, images: Float[Tensor, "batch channel height width"], seed: int = 0) -> PyramidModel:
    """A trained softmax pyramid as an EcoFormer, ready to be finetuned: its query maps serve keys too, and the hash
    functions are learned on a first batch.

    Raises:
        ValueError: if a layer of the first three stages has no softmax attention.
    """
    low = [block for block, stage in zip(model.blocks, model.stage_of, strict=True) if stage < 3]
    if not all(type(block.mixing) is softmax.SoftmaxMixer for block in low):
        raise ValueError("only a pyramid with softmax attention in its first three stages can be binarised.")
    classes = model.unembed.out_features
    hashed = pyramid(model.sizes, True, image_size=model.image_size, n_classes=classes, seed=seed)
    dropped = {f"blocks.{i}.attn.k." for i in range(len(low))}
    kept = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith(tuple(dropped))}
    hashed.load_state_dict(kept, strict=False)
    with torch.no_grad():
        ecoformer.learn_hashes(hashed, images, seed=seed)
    return hashed


VARIANTS = {
    "b0": partial(pyramid, B0, True),
    "b1": partial(pyramid, B1, True),
    "b0_softmax": partial(pyramid, B0, False),
    "b1_softmax": partial(pyramid, B1, False),
}
