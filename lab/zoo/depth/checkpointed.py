"""Checkpointed depth (Chen et al. 2016, "Training deep nets with sublinear memory cost"; slug `survey_faster_lighter`).

The stream is kept where one of √n_layers segments ends; the backward pass runs each segment again. Same outputs and
gradients, memory of √n layers, and one more forward pass. Where a hook watches a block everything is kept, as plain
depth does.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from microtome.lab.zoo.depth._recompute import state_kept, watched
from microtome.lab.zoo.parts import Context, DepthPart


@dataclass(frozen=True)
class Part(DepthPart):
    """`segments`: into how many pieces the blocks are cut; None gives √n_layers, rounded up."""

    segments: int | None = None

    def __post_init__(self):
        if self.segments is not None and self.segments < 1:
            raise ValueError(f"segments must be at least 1, not {self.segments}.")

    def through(
        self, blocks: Iterable[nn.Module], x: Float[Tensor, "batch pos d_model"], context: Context
    ) -> Float[Tensor, "batch query d_model"]:
        blocks = list(blocks)
        if not blocks or not torch.is_grad_enabled() or watched(blocks):
            return super().through(blocks, x, context)
        size = math.ceil(len(blocks) / (self.segments or math.ceil(math.sqrt(len(blocks)))))
        run = super().through
        with state_kept(blocks):
            for first in range(0, len(blocks), size):
                x = checkpoint(run, blocks[first : first + size], x, context, use_reentrant=False)
        return x
