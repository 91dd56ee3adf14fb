"""Sigmoid attention as it is written down: every weight is decided by its own score.

    w_ij = σ(scale·q_i·k_j + bias_ij + b),   z_i = Σ_j w_ij v_j

No row is normalised, so that a row may weigh as much as it has keys, or nothing at all; b = −log n, n the longest input
in training, makes a row of small scores weigh about one (Ramapuram et al. 2025, "Theory, Analysis, and Best Practices
for Sigmoid Self-Attention"). Masked and future keys weigh exactly 0. The derivative of a weight is w(1 − w).
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from microtome.kernels.scores.transform import ScoreTransform
from microtome.kernels.scores.weighting import Weighting


def weights(s: Float[Tensor, "*rows key"], b: float) -> Float[Tensor, "*rows key"]:
    """σ(s + b), 0 where s is −∞."""
    return torch.sigmoid(s + b)


def reference(
    q: Float[Tensor, "batch head query d_head"],
    k: Float[Tensor, "batch head key d_head"],
    v: Float[Tensor, "batch head key d_head"],
    transform: ScoreTransform,
    b: float,
) -> Float[Tensor, "batch head query d_head"]:
    """z by the equation; O(batch·head·query·key) memory."""
    return weights(transform.scores(q, k), b) @ v


@dataclass(frozen=True)
class Sigmoid(Weighting):
    """The weighting with its logit bias b."""

    whole_rows: ClassVar = False

    b: float

    def plainly(self, s: Tensor) -> Tensor:
        return weights(s, self.b)

    def weights(self, s: Tensor) -> Tensor:
        return s.add_(self.b).sigmoid_()

    def slope(self, s: Tensor) -> tuple[Tensor, Tensor]:
        w = self.weights(s)
        return w, torch.addcmul(w, w, w, value=-1.0)

    def on_gpu(self, q: Tensor, k: Tensor, v: Tensor, transform: ScoreTransform) -> tuple[Tensor, ...]:
        from microtome.kernels.sigmoid_attention import triton_path

        return (triton_path.forward(q, k, v, transform, self.b),)

    def backward_on_gpu(self, inputs, saved, dz: Tensor, transform: ScoreTransform) -> tuple[Tensor, Tensor, Tensor]:
        from microtome.kernels.scores import triton_backward

        return triton_backward.backward(inputs, dz, transform, triton_backward.Weighing("sigmoid", b=self.b))
