"""PowerSoftmax attention: "Power-Softmax: Towards Secure LLM Inference over Encrypted Data" (2024, slug
`power_softmax`).

    z_i = Σ_j x_ij^p v_j / (ε + Σ_l x_il^p),   x_ij = (⟨q_i, k_j⟩·scale + B_ij) / (max_l |·| + δ),   p even

The row maximum is for stable training and changes nothing at ε = 0; under encryption there is none, and form "mean"
divides by ε plus the mean of x^p over the keys that the row may see, whose range does not grow with n. The sign of a
score is lost, so that a bias which falls with distance (ALiBi) raises far weights instead of lowering them. A first
causal row whose only score is zero weighs nothing.

`hook_attn_scores` is x before its division, `hook_pattern` the weights; `hook_row_entropy` is of each row divided by
its sum.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor

from microtome.kernels import power_softmax as kernel
from microtome.lab.zoo.mixers import softmax
from microtome.lab.zoo.parts import Context, Shape
from microtome.lab.zoo.template import Template


class PowerSoftmaxMixer(softmax.SoftmaxMixer):
    """Multi-head attention with an even power in the exponential's place."""

    def __init__(self, options: "Part", shape: Shape):
        super().__init__(options, shape)
        self.weighting = kernel.PowerSoftmax(options.p, options.epsilon, options.delta, options.form)

    def _pattern(self, scores: Tensor, context: Context) -> Float[Tensor, "batch head query key"]:
        return self.weighting.plainly(scores)

    def _fused(self, q: Tensor, k: Tensor, v: Tensor, context: Context) -> Tensor:
        return kernel.attention(q, k, v, self.weighting, **self._terms(context))

    def _row_entropy(self, q: Tensor, k: Tensor, context: Context) -> Float[Tensor, "batch head query"]:
        return kernel.row_entropy(q, k, self.weighting, **self._terms(context))


@dataclass(frozen=True)
class Part(softmax.Part):
    """The options of softmax attention, and four more.

    Attributes:
        p: the exponent, even and positive; 4 to 8 work, 2 is flat.
        epsilon: what is added to the denominator, of the maximum's scale in form "max" and of the mean's in "mean".
        delta: what is added to the row maximum.
        form: "max" to train stably, "mean" for inference without a maximum.
    """

    template: ClassVar = Template(
        matrix="(QKᵀ/√d + B)^p",
        depends="input",
        structure="dense",
        cost="n²·d",
        normalised="row sum",
    )

    p: int = 4
    epsilon: float = 1e-3
    delta: float = 1e-6
    form: Literal["max", "mean"] = "max"

    def build(self, shape: Shape) -> PowerSoftmaxMixer:
        return PowerSoftmaxMixer(self, shape)
