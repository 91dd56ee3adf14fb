"""Two-layer ReLU networks to be learnt in context (Garg et al. 2022, "What can transformers learn in-context?",
section 5; in mixtures: Panwar, Ahuja & Goyal 2024, "In-context learning through the Bayesian prism", slug
`icl_bayesian_prism`).

    y = √(2/h) Σ_j a_j max(0, u_jᵀx) + N(0, σ²),   a_j ~ N(0, 1), u_j ~ N(0, I)
"""

import math
from dataclasses import dataclass

import torch

from microtome.lab.bayes import Predictor
from microtome.lab.bayes.linear import check_law
from microtome.lab.tasks.draw import Draw
from microtome.lab.tasks.inputs import ALIKE, Inputs
from microtome.lab.tasks.protocol import Prompt, Task, check_sizes


@dataclass(frozen=True)
class ReLUNetwork(Task):
    """A random network whose labels have the variance of a linear function's, E y² = E‖x‖².

    Attributes:
        dim: d ≥ 1.
        hidden: h ≥ 1.
        noise_std: σ ≥ 0.
        inputs: the law of x.

    Raises:
        ValueError: if an attribute is out of range.
    """

    dim: int
    hidden: int = 100
    noise_std: float = 0.0
    inputs: Inputs = ALIKE

    def __post_init__(self):
        check_sizes(dim=self.dim, hidden=self.hidden)
        check_law(self.noise_std, 1.0)
        self.inputs.check(self.dim)

    @property
    def label_std(self) -> float:
        """Standard deviation of a label, noise included."""
        return math.hypot(math.sqrt(self.inputs.power(self.dim)), self.noise_std)

    def _prompt(self, batch: int, points: int, draw: Draw) -> Prompt:
        """Latents: "W_in" [batch dim hidden], "W_out" [batch hidden] and those of the inputs."""
        w_in, w_out = draw.normal(batch, self.dim, self.hidden), draw.normal(batch, self.hidden)
        xs, axes = self.inputs.sample(batch, points, self.dim, draw)
        ys = math.sqrt(2 / self.hidden) * torch.linalg.vecdot((xs @ w_in).relu_(), w_out[:, None])
        return Prompt(xs, draw.noisy(ys, self.noise_std), {"W_in": w_in, "W_out": w_out} | axes)

    def bayes(self) -> Predictor:
        """
        Raises:
            ValueError: always: this posterior has no closed form at finite width.
        """
        raise ValueError(
            "the posterior of a ReLU network has no closed form; use the baselines TwoLayerNetwork() of "
            "microtome.lab.bayes.nonlinear, OLS() or KNN(3)."
        )
