"""Pass 7: the weights move into the zoo's own hooked softmax transformer."""

import torch
from torch import Tensor

from microtome.lab import zoo
from microtome.lab.rasp.compiler.emit import Weights


def load(weights: Weights, *, causal: bool):
    """A `SequenceModel` of the zoo with a token stem, whose parameters are the weights.

    It has softmax attention, learned positions, ReLU neurons and no norm. Input is the sink (token 0) and then the
    tokens, numbered from 1 in the order of the vocabulary.
    """
    first = weights.layers[0]
    n_heads, d_model, d_head = first.W_Q.shape
    model = zoo.sequence(
        stem={"name": "tokens", "d_vocab": len(weights.W_E), "unembed_bias": False},
        mixer={"name": "softmax", "d_head": d_head},
        position="learned",
        norm="none",
        feedforward={"name": "relu", "d_mlp": first.W_in.shape[1]},
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
        for block, layer in zip(model.blocks, weights.layers, strict=True):
            for linear, weight, bias in (
                (block.attn.q, layer.W_Q, layer.b_Q),
                (block.attn.k, layer.W_K, layer.b_K),
                (block.attn.v, layer.W_V, None),
            ):
                linear.weight.copy_(_rows(weight))
                if bias is not None:
                    linear.bias.copy_(bias.flatten())
            block.attn.o.weight.copy_(layer.W_O.flatten(0, 1).T)
            block.mlp.in_.weight.copy_(layer.W_in.T)
            block.mlp.in_.bias.copy_(layer.b_in)
            block.mlp.out.weight.copy_(layer.W_out.T)
    return model


def _rows(weight: Tensor) -> Tensor:
    """[head d_model d_head] as the weight of a linear layer, [head·d_head, d_model]."""
    return weight.transpose(1, 2).flatten(0, 1)
