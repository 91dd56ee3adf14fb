"""The weights move into the zoo's own hooked softmax transformer."""

import torch
from torch import Tensor

from microtome.lab import zoo
from microtome.lab.rasp.compiler.emit import SCALE, Weights


def load(weights: Weights, *, causal: bool):
    """A `SequenceModel` of the zoo with a token stem, whose parameters are the weights.

    It has softmax attention with a fixed scale of scores, learned positions, ReLU neurons (none if no layer has any)
    and no norm.
    """
    first = weights.layers[0]
    n_heads, d_model, d_head = first.W_Q.shape
    d_mlp = first.W_in.shape[1]
    model = zoo.sequence(
        stem={"name": "tokens", "d_vocab": len(weights.W_E)},
        mixer={"name": "softmax", "d_head": d_head, "scale": SCALE},
        position="learned",
        norm="none",
        feedforward={"name": "relu", "d_mlp": d_mlp} if d_mlp else "none",
        d_model=d_model,
        n_layers=len(weights.layers),
        n_heads=n_heads,
        n_ctx=len(weights.W_pos),
        causal=causal,
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.embed.weight.copy_(weights.W_E)
        model.pos_embed.weight.copy_(weights.W_pos)
        model.unembed.weight.copy_(weights.W_U.T)
        model.unembed.bias.copy_(weights.b_U)
        for block, layer in zip(model.blocks, weights.layers, strict=True):
            block.attn.q.weight.copy_(_rows(layer.W_Q))
            block.attn.k.weight.copy_(_rows(layer.W_K))
            block.attn.v.weight.copy_(_rows(layer.W_V))
            block.attn.q.bias.copy_(layer.b_Q.flatten())
            block.attn.k.bias.copy_(layer.b_K.flatten())
            block.attn.o.weight.copy_(layer.W_O.flatten(0, 1).T)
            block.attn.o.bias.copy_(layer.b_O)
            if d_mlp:
                block.mlp.in_.weight.copy_(layer.W_in.T)
                block.mlp.in_.bias.copy_(layer.b_in)
                block.mlp.out.weight.copy_(layer.W_out.T)
                block.mlp.out.bias.copy_(layer.b_out)
    return model


def _rows(weight: Tensor) -> Tensor:
    """[head d_model d_head] as the weight of a linear layer, [head·d_head, d_model]."""
    return weight.transpose(1, 2).flatten(0, 1)
