"""PowerSoftmax as it is written down: an even power in the exponential's place.

    w_ij = x_ij^p / Σ_l x_il^p,   x = (scale·q·kᵀ + bias) ⊙ M,   p even

("Power-Softmax: Towards Secure LLM Inference over Encrypted Data", 2024, slug `power_softmax`). The mask M multiplies,
since 0^p = 0. The sum may be 0, and under encryption there is no division but a polynomial for 1/y on a bounded
interval, so that the quotient is Lipschitz: |y|/(ε + ‖y‖₁). It has two forms:

    max   y = (x/c)^p with c = max_l |x_il| + δ,   w = y/(ε + Σ y)              stable, for training
    mean  w = (1/L)·x^p/(ε + (1/L) Σ x^p), L keys that the row may see          no max, for encrypted inference

At ε = 0 both are the first line, whatever c is, because it is homogeneous of degree 0. At ε > 0 each has ε on its own
scale: rows sum to 1 − ε/(ε + Σ y) and to 1 − ε/(ε + mean x^p). Gradients hold c
constant, which is exact at ε = 0. A score and its negative weigh the same.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from microtome.kernels.scores.transform import ScoreTransform
from microtome.kernels.scores.weighting import Weighting

Form = Literal["max", "mean"]


def power(x: Float[Tensor, "*shape"], p: int) -> Float[Tensor, "*shape"]:
    """x^p for p ≥ 1 by squaring and multiplying."""
    if p == 1:
        return x
    half = power(x, p // 2)
    return half * half if p % 2 == 0 else half * half * x


def weights(
    s: Float[Tensor, "*rows key"], p: int, epsilon: float = 1e-3, delta: float = 1e-6, form: Form = "max"
) -> Float[Tensor, "*rows key"]:
    """w of scores, 0 where s is −∞; a row whose denominator is 0 weighs nothing."""
    seen = s > -torch.inf
    x = s.masked_fill(~seen, 0.0)
    if form == "max":
        x = x / _filled(x.detach().abs().amax(-1, keepdim=True) + delta)
    y = power(x, p)
    return y / _filled(y.sum(-1, keepdim=True) + _floor(seen, epsilon, form, s.dtype))


def reference(
    q: Float[Tensor, "batch head query d_head"],
    k: Float[Tensor, "batch head key d_head"],
    v: Float[Tensor, "batch head key d_head"],
    transform: ScoreTransform,
    power_softmax: "PowerSoftmax",
) -> Float[Tensor, "batch head query d_head"]:
    """z by the equation; O(batch·head·query·key) memory."""
    return power_softmax.plainly(transform.scores(q, k)) @ v


def _floor(seen: Tensor, epsilon: float, form: Form, dtype: torch.dtype) -> float | Tensor:
    """What stands beside the sum: ε, or ε for each key that the row may see."""
    return epsilon if form == "max" else epsilon * seen.sum(-1, keepdim=True, dtype=dtype)


def _filled(x: Tensor) -> Tensor:
    """x with 1 for 0, so that rows of zeros stay zeros."""
    return x.masked_fill(x == 0, 1.0)


@dataclass(frozen=True)
class PowerSoftmax(Weighting):
    """The weighting with its exponent p, the ε of its denominator, the δ of its row maximum, and its form.

    Raises ValueError for an exponent that is not even and positive, or a negative or infinite ε or δ.
    """

    whole_rows: ClassVar = True

    p: int = 4
    epsilon: float = 1e-3
    delta: float = 1e-6
    form: Form = "max"

    def __post_init__(self):
        if self.p < 2 or self.p % 2:
            raise ValueError(f"p must be an even positive whole number, got {self.p}")
        for name, value in (("epsilon", self.epsilon), ("delta", self.delta)):
            if not 0 <= value < float("inf"):
                raise ValueError(f"{name} must be a finite number of at least 0, got {value}")
        if self.form not in ("max", "mean"):
            raise ValueError(f"form must be 'max' or 'mean', got {self.form!r}")

    def plainly(self, s: Tensor) -> Tensor:
        return weights(s, self.p, self.epsilon, self.delta, self.form)

    def weights(self, s: Tensor) -> Tensor:
        x, _, floor = self._scaled(s)
        y = power(x, self.p)
        return y.div_(_filled(y.sum(-1, keepdim=True) + floor))

    def slope(self, s: Tensor) -> tuple[Tensor, Tensor]:
        """With y = (x/c)^p: w = y/N and ∂w/∂x at a held N is p·(x/c)^{p−1}/(c·N), no division by x."""
        x, c, floor = self._scaled(s)
        below = power(x, self.p - 1)
        y = x * below
        total = _filled(y.sum(-1, keepdim=True) + floor)
        return y.div_(total), below * (self.p / (c * total))

    def _scaled(self, s: Tensor) -> tuple[Tensor, float | Tensor, float | Tensor]:
        """x/c in the place of s, c, and what stands beside the sum."""
        seen = s > -torch.inf
        x = s.masked_fill_(~seen, 0.0)
        c: float | Tensor = 1.0
        if self.form == "max":
            c = _filled(x.abs().amax(-1, keepdim=True) + self.delta)
            x.div_(c)
        return x, c, _floor(seen, self.epsilon, self.form, s.dtype)

    def on_gpu(self, q: Tensor, k: Tensor, v: Tensor, transform: ScoreTransform) -> tuple[Tensor, ...]:
        from microtome.kernels.power_softmax import triton_path

        return triton_path.forward(q, k, v, transform, self)

    def backward_on_gpu(self, inputs, saved, dz: Tensor, transform: ScoreTransform) -> tuple[Tensor, Tensor, Tensor]:
        from microtome.kernels.scores import triton_backward

        z, c, total = saved
        along = (dz.float() * z.float()).sum(-1)
        weighing = triton_backward.Weighing("power", rows=(c, along, total), p=self.p)
        return triton_backward.backward(inputs, dz, transform, weighing)
