"""What the ring over processes and the simulated one share: the checks, and the step from workers to autograd."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from microtome.kernels.long_sequence_unified.tiles import Rules


class Engine(ABC):
    """Runs the workers; tensors are those of one worker or of all, as the engine has it."""

    @abstractmethod
    def forward(self, rules: Rules, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """z and lse."""

    @abstractmethod
    def backward(self, rules: Rules, saved: Sequence[Tensor | None], dz: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(dq, dk, dv), given (q, k, v, mask, z, lse)."""


class Attention(torch.autograd.Function):
    """Keeps z and lse of each row for the gradient, and no score."""

    @staticmethod
    def forward(ctx, engine: Engine, rules: Rules, mask: Tensor | None, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        z, lse = engine.forward(rules, q, k, v, mask)
        ctx.engine, ctx.rules = engine, rules
        ctx.save_for_backward(q, k, v, mask, z, lse)
        return z.to(q.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx, dz: Tensor):
        gradients = ctx.engine.backward(ctx.rules, ctx.saved_tensors, dz)
        return None, None, None, *(g.to(dz.dtype) for g in gradients)


def rules(q: Tensor, k: Tensor, v: Tensor, *, causal: bool, scale: float | None, tile: int) -> Rules:
    """The rules, with the default scale 1/√d_head.

    Raises:
        ValueError: for tensors that are not of one shape [batch head pos d_head], for a tile below 1 or a scale that is
            not finite.
    """
    if q.ndim != 4 or q.shape != k.shape or q.shape != v.shape:
        raise ValueError(
            "q, k and v must have one shape [batch head pos d_head], not "
            f"{list(q.shape)}, {list(k.shape)} and {list(v.shape)}."
        )
    if q.dtype != k.dtype or q.dtype != v.dtype:
        raise ValueError(f"q, k and v must have one dtype, not {q.dtype}, {k.dtype} and {v.dtype}.")
    if q.shape[3] == 0:
        raise ValueError("q, k and v must have at least one feature.")
    if tile < 1:
        raise ValueError(f"tile must be at least 1, not {tile}.")
    scale = q.shape[3] ** -0.5 if scale is None else scale
    if not math.isfinite(scale):
        raise ValueError(f"scale must be a finite number, not {scale}.")
    return Rules(float(scale), causal, tile)


def check_mask(mask: Tensor | None, k: Tensor) -> None:
    """Raises ValueError unless the mask is boolean [batch pos] like the keys."""
    if mask is not None and (mask.dtype != torch.bool or mask.shape != (k.shape[0], k.shape[2])):
        raise ValueError(
            f"mask must be boolean [batch pos] = {[k.shape[0], k.shape[2]]}, True where a key may be attended to, "
            f"not {mask.dtype} {list(mask.shape)}."
        )
