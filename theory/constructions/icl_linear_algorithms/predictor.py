"""Learning algorithms in weights as predictors of the lab, to be measured beside trained learners and exact answers.

Akyürek et al., "What learning algorithm is in-context learning?" (2023). A construction is written for one number of
examples; a predictor answers after every prefix, so it holds one transformer a length.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from microtome.lab.bayes.protocol import Prediction, checked, in_dtype
from microtome.theory.constructions.icl_linear_algorithms.compiler import Scales
from microtome.theory.constructions.icl_linear_algorithms.construction import Construction
from microtome.theory.constructions.icl_linear_algorithms.gradient_descent import gradient_steps, sgd_pass
from microtome.theory.constructions.icl_linear_algorithms.machine import Activation
from microtome.theory.constructions.icl_linear_algorithms.ridge import ridge


@dataclass(frozen=True)
class Constructed:
    """A predictor of which nothing was trained and nothing is solved: forward passes of written weights, in float64.

    Attributes:
        name: for legends.
        construct: the construction for a number of examples and dimensions, (points, dim).
        scales: the large numbers that its error depends on.
        activation: what stands in the layers; the constructions are for GELU.
    """

    name: str
    construct: Callable[[int, int], Construction]
    scales: Scales = field(default_factory=Scales)
    activation: Activation = F.gelu

    def predict(self, xs: Float[Tensor, "batch points dim"], ys: Float[Tensor, "batch points"]) -> Prediction:
        """See `Predictor.predict`; entry 0, with no example, is zero."""
        inputs, labels = checked(xs, ys)
        _, points, dim = inputs.shape
        answers = [torch.zeros_like(labels[:, 0])]
        for k in range(1, points):
            construction = self.construct(k, dim)
            prompt = inputs[:, :k], labels[:, :k], inputs[:, k]
            answers.append(construction.predict(*prompt, self.scales, self.activation))
        return in_dtype(xs.dtype, torch.stack(answers, dim=1))


def constructed_descent(steps: int, step_size: float) -> Constructed:
    """What `GradientDescent(steps, step_size)` computes.

    Raises:
        ValueError: when asked for a prediction, if there is no step to take.
    """

    def construct(points: int, dim: int) -> Construction:
        return gradient_steps(points, steps, step_size, 0.0, _zero(dim))

    return Constructed(f"gd({step_size:g}) x {steps} in weights", construct)


def constructed_sgd(step_size: float, weight_decay: float = 0.0) -> Constructed:
    """What `SGD(step_size, weight_decay)` computes."""

    def construct(points: int, dim: int) -> Construction:
        return sgd_pass(points, step_size, weight_decay, _zero(dim))

    return Constructed(f"sgd({step_size:g}) in weights", construct)


def constructed_ridge(lam: float) -> Constructed:
    """What `Ridge(lam)` computes, for λ > 0.

    Raises:
        ValueError: when asked for a prediction, if λ is not positive.
    """

    def construct(points: int, dim: int) -> Construction:
        return ridge(points, dim, lam)

    return Constructed(f"ridge({lam:g}) in weights", construct)


def _zero(dim: int) -> Tensor:
    return torch.zeros(dim, dtype=torch.float64)
