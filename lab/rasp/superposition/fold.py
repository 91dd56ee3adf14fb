"""A linear map of the residual stream, folded into the weights that write to the stream and read from it.

With a map W [d_model, width], whatever writes x to the stream writes xW, and whatever reads the stream y reads yWᵀ
(Lindner et al. 2023, section 5). Writers and readers are linear, so both products are weights of a narrower model.
"""

import copy

import torch
from jaxtyping import Float
from torch import Tensor

from microtome.lab import zoo
from microtome.lab.zoo.transformer import SequenceModel

Map = Float[Tensor, "d_model width"]

TABLES = {"embed", "pos_embed"}
WRITERS = {"o", "out"}
READERS = {"q", "k", "v", "in_", "unembed"}


def narrow(model: SequenceModel, width: int) -> SequenceModel:
    """A model of the same parts and sizes whose stream has `width` dimensions; its weights are yet to be loaded."""
    return zoo.sequence(**model.spec.describe() | {"d_model": width})


@torch.no_grad()
def settled(model: SequenceModel) -> SequenceModel:
    """A copy in float64 that computes the same and writes no constants to its stream.

    What a bias writes is the same on every input, so it is left to the biases of those that would read it. Compiled
    programs write constants of many thousands, beside which float32 would lose the rest once dimensions are mixed.
    """
    model = copy.deepcopy(model).double()
    written = torch.zeros(model.cfg.d_model, dtype=torch.float64, device=model.cfg.device)
    for block in model.blocks:
        for reader in (block.attn.q, block.attn.k, block.attn.v):
            reader.bias += reader.weight @ written
        written += block.attn.o.bias
        block.attn.o.bias.zero_()
        if block.mlp is not None:
            block.mlp.in_.bias += block.mlp.in_.weight @ written
            written += block.mlp.out.bias
            block.mlp.out.bias.zero_()
    model.unembed.bias += model.unembed.weight @ written
    return model


def folded(model: SequenceModel, W: Map) -> dict[str, Tensor]:
    """The parameters of `narrow(model, width)` by name, in the dtype of the map, which gradients reach.

    Raises:
        ValueError: if the model has a parameter that no map can be folded into, such as a norm's.
    """
    weights = {}
    for name, parameter in model.named_parameters():
        weight = parameter.detach().to(W.dtype)
        *_, part, kind = name.split(".")
        if part in TABLES or (part in WRITERS and kind == "bias"):
            weight = weight @ W
        elif part in WRITERS:
            weight = W.T @ weight
        elif part in READERS:
            weight = weight @ W if kind == "weight" else weight
        else:
            raise ValueError(f"a map cannot be folded into {name}: only linear readers and writers of the stream do.")
        weights[name] = weight
    return weights
