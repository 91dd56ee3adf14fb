"""Leaky integrate-and-fire neurons that run along a sequence, one step of time a position.

    v′_t = v_{t−1} + (x_t − v_{t−1})/τ,   s_t = 1[v′_t ≥ v_th],   v_t = v′_t·(1 − s_t)

(LMUFormer, Liu et al. 2024, slug `lmuformer`; as `MultiStepLIFNode` of spikingjelly with a hard reset to 0.) The reset
is kept out of the gradient, and the step's derivative is replaced by that of a sigmoid of slope α: α·σ(αy)(1 − σ(αy))
at y = v′ − v_th.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from microtome.lab.zoo.points import Point

ALPHA = 4.0
"""α of the surrogate gradient, spikingjelly's default."""

Channels = Float[Tensor, "batch pos channel"]
Potential = Float[Tensor, "batch channel"]


class _Spike(torch.autograd.Function):
    """1[y ≥ 0] with a sigmoid's derivative."""

    @staticmethod
    def forward(ctx, y: Tensor) -> Tensor:
        ctx.save_for_backward(y)
        return (y >= 0).to(y.dtype)

    @staticmethod
    def backward(ctx, upstream: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        sigmoid = torch.sigmoid(ALPHA * y)
        return upstream * ALPHA * sigmoid * (1 - sigmoid)


class LIF(nn.Module):
    """One neuron a channel; `hook_spikes` carries what they fire, 0 or 1.

    Args:
        threshold: v_th.
        tau: τ, at least 1.

    Raises:
        ValueError: for a threshold that is not positive or τ below 1.
    """

    def __init__(self, threshold: float = 1.0, tau: float = 2.0):
        super().__init__()
        if threshold <= 0 or tau < 1:
            raise ValueError(f"a LIF neuron needs threshold > 0 and tau >= 1, not {threshold} and {tau}.")
        self.threshold, self.tau = threshold, tau
        self.hook_spikes = Point("batch pos channel", "hidden")

    def forward(self, x: Channels) -> Channels:
        v, spikes = torch.zeros_like(x[:, 0]), []
        for x_t in x.unbind(1):
            s, v = self._fire(x_t, v)
            spikes.append(s)
        return self.hook_spikes(torch.stack(spikes, dim=1))

    def step(self, x: Potential, v: Potential) -> tuple[Potential, Potential]:
        """Spikes of one position and the potential after it; v is zero before the first."""
        s, v = self._fire(x, v)
        return self.hook_spikes(s[:, None])[:, 0], v

    def _fire(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        v = v + (x - v) / self.tau
        s = _Spike.apply(v - self.threshold)
        return s, v * (1 - s.detach())
