"""Batch normalisation of a stream: statistics of each channel over all real positions of all examples."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

Channels = Float[Tensor, "batch pos channel"]


class BatchNorm(nn.BatchNorm1d):
    """torch's, channels last (Ioffe and Szegedy 2015), with momentum 0.1.

    In training mode the statistics are those of the batch at hand, in evaluation mode the running ones. `mask`
    [batch, pos] is True at the positions that count; the model sets it for each input, and None means all. Positions
    that do not count are written as zeros while training.
    """

    mask: Bool[Tensor, "batch pos"] | None = None

    def forward(self, x: Channels) -> Channels:
        """Raises ValueError when training on fewer than two real positions, which have no variance."""
        if not self.training:
            return super().forward(x.flatten(0, 1)).view_as(x)
        mask = x.new_ones(x.shape[:2], dtype=torch.bool) if self.mask is None else self.mask
        real = x.flatten(0, 1) if self.mask is None else x[mask]
        if len(real) < 2:
            raise ValueError(f"batch statistics need at least two real positions to train on, not {len(real)}.")
        normed = super().forward(real)
        return normed.view_as(x) if self.mask is None else torch.zeros_like(x).masked_scatter(mask[..., None], normed)


def batch_norms(model: nn.Module) -> list[BatchNorm]:
    """Those below a module."""
    return [module for module in model.modules() if isinstance(module, BatchNorm)]
