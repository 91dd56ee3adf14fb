"""Pasting: the upper layers of a trained learner, frozen, under a new embedding that alone is trained.

If a learner's upper layers carry out an algorithm on whatever the lower ones present to them, they will carry it out on
another task's prompts too, once an embedding writes those in the way that they expect. (Guo et al. 2024, "How do
transformers learn in-context beyond simple functions? A case study on learning with representations", slug
`icl_representations`, section 5.3: upper modules that learn linear functions in context.)

The labels of the new task must have the variance of the old one's: the frozen readout knows no other scale.
"""

import copy
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from microtome.lab.bayes.protocol import Prediction

Prompts = Float[Tensor, "batch points dim"]
Labels = Float[Tensor, "batch points"]
Stream = Float[Tensor, "batch pos d_model"]
ENTRY = "blocks.0.hook_resid_pre"


class LinearEmbedding(nn.Module):
    """Tokens [x, 0] and [0, y], or with copying [x, 0] and [x, y], through one linear map and a table of positions.

    Args:
        dim: dimensions of x.
        d_model: width of the stream.
        points: longest prompt.
        copying: put x beside its y, as the lower layers of a trained learner do.
        seed: of the parameters.
    """

    def __init__(self, dim: int, d_model: int, points: int, copying: bool, seed: int = 0):
        super().__init__()
        if min(dim, d_model, points) < 1:
            raise ValueError(f"dim, d_model and points must be at least 1, not {dim}, {d_model} and {points}.")
        self.copying = copying
        generator = torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(torch.randn(d_model, dim + 1, generator=generator) / (dim + 1) ** 0.5)
        self.position = nn.Parameter(0.02 * torch.randn(2 * points, d_model, generator=generator))

    def forward(self, xs: Prompts, ys: Labels) -> Stream:
        batch, points, dim = xs.shape
        tokens = xs.new_zeros(batch, points, 2, dim + 1)
        tokens[:, :, 0, :dim] = xs
        tokens[:, :, 1, dim] = ys
        if self.copying:
            tokens[:, :, 1, :dim] = xs
        return tokens.flatten(1, 2) @ self.weight.mT + self.position[: 2 * points]


class TransformerEmbedding(nn.Module):
    """The stream that a small model of (x, y) prompts leaves after its last block.

    Args:
        model: called `model(xs, ys)`, e.g. a `zoo.sequence(dim=…, n_layers=1)`; its norm and readout are not trained.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model
        self.last = f"blocks.{len(model.blocks) - 1}.hook_resid_post"
        for unused in (model.ln_final, model.unembed):
            unused.requires_grad_(False)

    def forward(self, xs: Prompts, ys: Labels) -> Stream:
        found: list[Tensor] = []

        def keep(stream: Tensor, hook: Any) -> None:
            found.append(stream)

        self.model.run_with_hooks(xs, ys, fwd_hooks=[(self.last, keep)])
        return found[0]


class Pasted(nn.Module):
    """A learner whose blocks from one layer on, final norm and readout are another's, frozen.

    Only the parameters of `embedding` require a gradient; `upper` is a whole hooked model of its own, so that probes
    read it under its usual names, counted from the layer that was pasted.

    Args:
        model: the donor, a model of (x, y) prompts; it is copied and left as it was.
        layer: the first block to paste, 0 … n_layers − 1.
        embedding: maps (xs, ys) to a stream [batch 2·points d_model] of the donor's width.

    Raises:
        ValueError: if there is no such layer.
    """

    name = "pasted"

    def __init__(self, model: nn.Module, layer: int, embedding: nn.Module):
        super().__init__()
        depth = len(model.blocks)
        if not 0 <= layer < depth:
            raise ValueError(f"layer must lie between 0 and {depth - 1}, so that a block is pasted, not {layer}.")
        self.upper = copy.deepcopy(model).requires_grad_(False)
        self.upper.blocks = self.upper.blocks[layer:]
        self.upper.spec = replace(model.spec, shape=replace(model.spec.shape, n_layers=depth - layer))
        self.upper.setup()
        self.embedding = embedding

    def forward(self, xs: Prompts, ys: Labels) -> Labels:
        """Predictions at every x.

        Raises:
            ValueError: if the embedding's stream has another shape than the donor's.
        """
        stream = self.embedding(xs, ys)

        def enter(_: Tensor, hook: Any) -> Tensor:
            return stream

        # The donor's own embedding only gives the stream its shape; what it says is replaced.
        blank = xs.new_zeros(*ys.shape, self.upper.dim)
        return self.upper.run_with_hooks(blank, torch.zeros_like(ys), fwd_hooks=[(ENTRY, enter)])

    @torch.no_grad()
    def predict(self, xs: Prompts, ys: Labels) -> Prediction:
        """As a predictor, with no variance."""
        return Prediction(self(xs, ys), None)
