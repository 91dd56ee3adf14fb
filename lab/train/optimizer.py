"""The optimiser, and the norm of the gradient."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from microtome.lab.train.config import TrainConfig

KINDS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


def build(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """A fused optimiser of all parameters that require a gradient, with their names.

    A module may name parameters of its own that weight decay must leave alone, in a class attribute `undecayed`.

    Raises:
        ValueError: if there is none, or one is complex (the fused kernels are real).
    """
    trained = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    if not trained:
        raise ValueError("the model has no parameter to train: none requires a gradient.")
    for name, parameter in trained:
        if not parameter.is_floating_point():
            raise ValueError(f"{name} is {parameter.dtype}; only real floating-point parameters can be trained.")
    spared = _undecayed(model)
    groups = [
        {"params": [(n, p) for n, p in trained if (n in spared) == apart], "weight_decay": decay}
        for apart, decay in ((False, config.weight_decay), (True, 0.0))
    ]
    return KINDS[config.optimizer](
        [group for group in groups if group["params"]], lr=config.lr, betas=config.betas, eps=config.eps, fused=True
    )


def _undecayed(model: nn.Module) -> set[str]:
    return {
        f"{prefix}.{name}" if prefix else name
        for prefix, module in model.named_modules()
        for name in getattr(module, "undecayed", ())
    }


def clip(parameters: Sequence[nn.Parameter], largest: float | None) -> Float[Tensor, ""]:
    """The global 2-norm of the gradients, which are scaled down to `largest` when they exceed it."""
    norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    if largest is not None:
        nn.utils.clip_grads_with_norm_(parameters, largest, norm)
    return norm
