"""GELU (Hendrycks and Gimpel 2016), tanh form and exact.

    gelu(x) = x·Φ(x) ≈ ½x(1 + tanh(√(2/π)(x + 0.044715x³))) = x·σ(w),   w = bx + ax³,   b = √(8/π), a = 0.044715·b

The last form is the tanh form rewritten by ½(1 + tanh u) = σ(2u). On the CPU a vectorised sigmoid costs a quarter of a
vectorised tanh, and the derivative comes from what the forward pass holds in its hands:

    d/dx x·σ(w) = σ + σ(1 − σ)·x·w'(x),   x·w'(x) = bx + 3ax³ = 3w − 2bx

so the forward pass stores it and the backward pass is one product.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

B = math.sqrt(8 / math.pi)
A = 0.044715 * B


def reference(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The tanh form as it is printed."""
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def gelu(x: Float[Tensor, "*shape"], approximate: Literal["tanh", "none"] = "tanh") -> Float[Tensor, "*shape"]:
    """GELU of any shape; `approximate` as in torch: "tanh" (GPT-2) or "none" (the error function, BERT and ViT).

    The tanh form takes its own path on the CPU in float32 and float64, differentiable to any order; everything else is
    torch's, whose exact form is the cheaper of the two on a CPU.

    Raises:
        ValueError: for another value of `approximate`.
    """
    if approximate not in ("tanh", "none"):
        raise ValueError(f"approximate must be 'tanh' or 'none', not {approximate!r}.")
    if approximate == "tanh" and x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64):
        return _SigmoidGelu.apply(x)[0] if x.requires_grad and torch.is_grad_enabled() else _plain(x)
    return F.gelu(x, approximate=approximate)


def _plain(x: Tensor) -> Tensor:
    return torch.addcmul(x.new_tensor(B), x, x, value=A).mul_(x).sigmoid_() * x


class _SigmoidGelu(torch.autograd.Function):
    """Few passes over memory, because the tensors of a feed-forward do not fit a core's cache."""

    @staticmethod
    def forward(x):
        w = torch.addcmul(x.new_tensor(B), x, x, value=A).mul_(x)
        y = torch.sigmoid(w)
        # w becomes x − 3w/2b, then that times σ(1 − σ), then the derivative; y becomes x·σ.
        torch.add(x, w, alpha=-1.5 / B, out=w)
        torch.ops.aten.sigmoid_backward.grad_input(w, y, grad_input=w)
        torch.add(y, w, alpha=-2 * B, out=w)
        return y.mul_(x), w

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(inputs[0], output[1])
        ctx.save_for_forward(output[1])
        ctx.mark_non_differentiable(output[1])

    @staticmethod
    def backward(ctx, grad, _):
        x, slope = ctx.saved_tensors
        if torch.is_grad_enabled():  # a second derivative is wanted, so the slope must be on the graph
            gate = torch.sigmoid(B * x + A * x**3)
            slope = gate + gate * (1 - gate) * (B * x + 3 * A * x**3)
        return grad * slope

    @staticmethod
    def jvp(ctx, tangent):
        return tangent * ctx.saved_tensors[0], None

    @staticmethod
    def vmap(info, in_dims, x):
        return _SigmoidGelu.apply(x), (in_dims[0], in_dims[0])
