"""The optimiser, and the norm of the gradient."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from microtome.lab.train.config import TrainConfig

KINDS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


def build(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """A fused optimiser of all parameters that require a gradient, with their names.

    Raises:
        ValueError: if there is none, or one is complex (the fused kernels are real).
    """
    trained = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    if not trained:
        raise ValueError("the model has no parameter to train: none requires a gradient.")
    for name, parameter in trained:
        if not parameter.is_floating_point():
            raise ValueError(f"{name} is {parameter.dtype}; only real floating-point parameters can be trained.")
    return KINDS[config.optimizer](
        trained,
        lr=config.lr,
        betas=config.betas,
        eps=config.eps,
        weight_decay=config.weight_decay,
        fused=True,
    )


def clip(parameters: Sequence[nn.Parameter], largest: float | None) -> Float[Tensor, ""]:
    """The global 2-norm of the gradients, which are scaled down to `largest` when they exceed it."""
    norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    if largest is not None:
        nn.utils.clip_grads_with_norm_(parameters, largest, norm)
    return norm
