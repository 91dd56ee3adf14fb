"""Linear functions to be learnt in context: dense, noisy, with skewed inputs, or sparse.

    w ~ N(0, τ²I),   x ~ N(0, Σ),   y = wᵀx + N(0, σ²)

(Garg et al. 2022, "What can transformers learn in-context?"; Akyürek et al. 2023, icl_linear_algorithms.)
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from microtome.lab.bayes import BayesLinear, SpikeAndSlab
from microtome.lab.bayes.linear import check_law
from microtome.lab.tasks.draw import Draw
from microtome.lab.tasks.inputs import ALIKE, Inputs
from microtome.lab.tasks.protocol import Prompt, Task, check_sizes


@dataclass(frozen=True)
class LinearRegression(Task):
    """Linear functions of Gaussian inputs.

    Attributes:
        dim: dimensions of x, at least 1.
        noise_std: σ ≥ 0, standard deviation of the label noise.
        prior_std: τ > 0, standard deviation of a weight that may be non-zero.
        inputs: the law of x; it moves between training and test, and the exact answer does not.
        sparsity: how many weights are non-zero, on a support drawn uniformly; None leaves all of them.

    Raises:
        ValueError: if an attribute is out of range, or the spectrum has another dimension.
    """

    dim: int
    noise_std: float = 0.0
    prior_std: float = 1.0
    inputs: Inputs = ALIKE
    sparsity: int | None = None

    def __post_init__(self):
        check_sizes(dim=self.dim)
        check_law(self.noise_std, self.prior_std)
        self.inputs.check(self.dim)
        if self.sparsity is not None and not 1 <= self.sparsity <= self.dim:
            raise ValueError(f"sparsity must be between 1 and dim = {self.dim}, or None, not {self.sparsity}.")

    @property
    def label_std(self) -> float:
        """Standard deviation of a label, noise included: τ·√(s/d · E‖x‖²) without."""
        share = 1.0 if self.sparsity is None else self.sparsity / self.dim
        return math.hypot(self.prior_std * math.sqrt(share * self.inputs.power(self.dim)), self.noise_std)

    def _prompt(self, batch: int, points: int, draw: Draw) -> Prompt:
        """Latents: "w" [batch dim]; if sparse "support" [batch dim], true where w may be non-zero; and those of the
        inputs."""
        latents = self._weights(batch, draw)
        xs, axes = self.inputs.sample(batch, points, self.dim, draw)
        ys = draw.noisy(torch.linalg.vecdot(xs, latents["w"][:, None]), self.noise_std)
        return Prompt(xs, ys, latents | axes)

    def bayes(self) -> BayesLinear | SpikeAndSlab:
        """The exact posterior predictive; it does not depend on the law of x.

        Raises:
            ValueError: if the task is sparse with more supports than can be enumerated, with what to use
                instead.
        """
        if self.sparsity is None:
            return BayesLinear(self.noise_std, self.prior_std)
        return SpikeAndSlab(self.dim, self.sparsity, self.noise_std, self.prior_std)

    def _weights(self, batch: int, draw: Draw) -> dict[str, Tensor]:
        w = self.prior_std * draw.normal(batch, self.dim)
        if self.sparsity is None:
            return {"w": w}
        support = draw.subsets(batch, self.dim, self.sparsity)
        return {"w": w * support, "support": support}
