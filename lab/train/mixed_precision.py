"""Mixed precision (Micikevicius et al. 2018, "Mixed precision training"; slug `survey_faster_lighter`).

Matrix products run in float16 or bfloat16, softmax, norms and losses in float32, and the weights that the optimiser
holds stay float32. In float16 small gradients would vanish, so that the loss is multiplied by S and gradients are
divided by it before they are clipped; a gradient that is not finite skips the step and halves S, 2,000 good steps in a
row double it. bfloat16 has float32's range and needs no S.

    mixed = MixedPrecision(optimizer, "cuda", torch.float16, clip=1.0)
    with mixed.autocast():
        loss = objective.loss(model, batch)
    taken = mixed.step(loss)
"""

import math
from contextlib import AbstractContextManager

import torch
from jaxtyping import Float
from torch import Tensor, nn

DTYPES = (torch.float16, torch.bfloat16)


class MixedPrecision:
    """The rules of one optimiser's steps; torch's `autocast` and `GradScaler` under them.

    Args:
        optimizer: of float32 parameters.
        device: the type of device that computes, "cpu" or "cuda".
        dtype: torch.float16 or torch.bfloat16.
        clip: largest global norm of the unscaled gradients; None leaves them alone.
        scale: S to begin with; bfloat16 has none.
        grow_every: good steps in a row before S doubles.

    Raises:
        ValueError: for another dtype, parameters that are not float32, or numbers out of range.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        device: str,
        dtype: torch.dtype,
        *,
        clip: float | None = None,
        scale: float = 2.0**16,
        grow_every: int = 2000,
    ):
        if dtype not in DTYPES:
            raise ValueError(f"mixed precision computes in torch.float16 or torch.bfloat16, not {dtype}.")
        if clip is not None and not 0 < clip < math.inf:
            raise ValueError(f"clip must be positive and finite, or None, not {clip}.")
        if not 0 < scale < math.inf or grow_every < 1:
            raise ValueError(f"scale must be positive and grow_every at least 1, not {scale} and {grow_every}.")
        self.parameters = [p for group in optimizer.param_groups for p in group["params"]]
        wrong = [p.dtype for p in self.parameters if p.dtype != torch.float32]
        if wrong:
            raise ValueError(f"the optimiser must hold float32 parameters (master weights), not {wrong[0]}.")
        self.optimizer, self.device, self.dtype, self.clip = optimizer, device, dtype, clip
        self.scaler = torch.amp.GradScaler(
            device, init_scale=scale, growth_interval=grow_every, enabled=dtype == torch.float16
        )

    @property
    def scale(self) -> float:
        """S; 1 in bfloat16."""
        return self.scaler.get_scale()

    def autocast(self) -> AbstractContextManager:
        """Where the forward pass and the loss belong."""
        return torch.autocast(self.device, self.dtype)

    def step(self, loss: Float[Tensor, ""]) -> bool:
        """One step on this loss; returns whether it was taken. Gradients are cleared before.

        In bfloat16 a step with a gradient that is not finite is skipped as well.
        """
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.get_total_norm([p.grad for p in self.parameters if p.grad is not None])
        finite = bool(torch.isfinite(norm))
        if finite and self.clip is not None:
            nn.utils.clip_grads_with_norm_(self.parameters, self.clip, norm)
        if finite or self.scaler.is_enabled():
            self.scaler.step(self.optimizer)
        self.scaler.update()
        return finite
