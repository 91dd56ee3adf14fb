"""The differentiable operation over a weighting: the plain scores of small problems, tiles, or Triton."""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from microtome.kernels.gpu import takes_triton
from microtome.kernels.scores import weighting as tiled
from microtome.kernels.scores.tiles import accumulation_dtype
from microtome.kernels.scores.transform import ScoreTransform
from microtome.kernels.scores.weighting import Weighting

WHOLE_SCORES = 1 << 20
"""Scores below which a problem is computed whole on the CPU: making tiles twice costs more than keeping them."""


def attend(q: Tensor, k: Tensor, v: Tensor, transform: ScoreTransform, weighting: Weighting) -> Tensor:
    """z_i = Σ_j w_ij v_j in q's dtype; tiles and Triton sum half precision in float32 and differentiate once."""
    small = not q.is_cuda and q.shape[:3].numel() * k.shape[2] < WHOLE_SCORES
    if q.numel() == 0 or k.numel() == 0:
        return q * 0.0  # nobody to look, or nothing to look at
    if small and q.dtype in (torch.float32, torch.float64):
        return whole(q, k, v, transform, weighting)
    return _Attend.apply(q, k, v, transform.bias, transform, weighting)


def whole(q: Tensor, k: Tensor, v: Tensor, transform: ScoreTransform, weighting: Weighting) -> Tensor:
    """z by the equation, with the n×n matrix; differentiable to any order."""
    return (weighting.plainly(transform.scores(q, k)) @ v).to(v.dtype)


def row_entropy(q: Tensor, k: Tensor, transform: ScoreTransform, weighting: Weighting) -> Tensor:
    """[batch head query] in nats of the rows divided by their sums, without gradient and without an n×n matrix."""
    wide = accumulation_dtype(q.dtype)
    if q.numel() == 0 or k.numel() == 0:
        return torch.zeros(q.shape[:3], dtype=wide, device=q.device)
    with torch.no_grad(), torch.autocast(q.device.type, enabled=False):
        return tiled.row_entropy(q.to(wide), k.to(wide), transform, weighting)


class _Attend(torch.autograd.Function):
    """Triton's backward pass takes no gradient of a bias; where one is wanted, tiles do the whole backward pass."""

    @staticmethod
    def forward(ctx, q, k, v, bias, transform, weighting):
        ctx.transform, ctx.weighting = transform, weighting
        with torch.autocast(q.device.type, enabled=False):
            z, *saved = _forward(q, k, v, transform, weighting)
        ctx.save_for_backward(q, k, v, bias, z if saved else None, *saved)
        return z

    @staticmethod
    @once_differentiable
    def backward(ctx, dz):
        q, k, v, bias, z, *saved = ctx.saved_tensors
        transform, weighting, needs_bias = ctx.transform, ctx.weighting, ctx.needs_input_grad[3]
        with torch.autocast(q.device.type, enabled=False):
            if not needs_bias and runs_triton(q, backward=True):
                return *weighting.backward_on_gpu((q, k, v), (z, *saved), dz, transform), None, None, None
            wide = accumulation_dtype(q.dtype)
            inputs = tuple(x.to(wide) for x in (q, k, v))
            out = tiled.backward(inputs, dz.to(wide), transform, weighting, needs_bias)
        grads = (None if g is None else g.to(x.dtype) for g, x in zip(out, (q, k, v, bias), strict=True))
        return *grads, None, None


def _forward(q: Tensor, k: Tensor, v: Tensor, transform: ScoreTransform, weighting: Weighting) -> tuple[Tensor, ...]:
    if runs_triton(q):
        return weighting.on_gpu(q, k, v, transform)
    wide = accumulation_dtype(q.dtype)
    return (tiled.forward(*(x.to(wide) for x in (q, k, v)), transform, weighting).to(q.dtype),)


def runs_triton(q: Tensor, backward: bool = False) -> bool:
    """Whether q lies on a GPU, Triton is installed, and its kernels take q's dtype and width."""
    if not takes_triton(q):
        return False
    from microtome.kernels.scores import block, triton_backward

    return (triton_backward if backward else block).supports(q)
