"""Softmax regression in context: each label is a share of one whole, so that every token moves all of them.

    x* ~ N(0, τ²I),   a = z/√d with z of the law of inputs,   b = f(x*) = exp(Ax*)/⟨exp(Ax*), 1⟩

over all the points of a prompt, the query among them. (Li et al. 2023, "The Closeness of In-Context Learning and Weight
Shifting for Softmax Regression", slug `icl_softmax_regression`.)

A prompt is of the usual kind, `xs` the rows a and `ys` the b, though a label depends on later inputs too: what is asked
at entry i, b_i given a_i and the pairs before, is well defined, with later inputs averaged over.
"""

import math
from dataclasses import dataclass

from microtome.lab.bayes.linear import check_law
from microtome.lab.bayes.softmax_posterior import SoftmaxPosterior
from microtome.lab.bayes.softmax_regression import f
from microtome.lab.tasks.draw import Draw
from microtome.lab.tasks.inputs import ALIKE, Inputs
from microtome.lab.tasks.protocol import Prompt, Task, check_sizes


@dataclass(frozen=True)
class SoftmaxRegression(Task):
    """Shares exp(aᵀx*) of a prompt's sum of them. They are positive, and those of a prompt add up to one.

    Attributes:
        dim: d, dimensions of a, at least 1.
        prior_std: τ > 0, standard deviation of each weight.
        inputs: the law of √d·a; it moves between training and test.

    Raises:
        ValueError: if an attribute is out of range, or the spectrum has another dimension.
    """

    dim: int
    prior_std: float = 1.0
    inputs: Inputs = ALIKE

    def __post_init__(self):
        check_sizes(dim=self.dim)
        check_law(0.0, self.prior_std)
        self.inputs.check(self.dim)

    def _prompt(self, batch: int, points: int, draw: Draw) -> Prompt:
        """Latents: "w" [batch dim], the weights x*; and those of the inputs."""
        w = self.prior_std * draw.normal(batch, self.dim)
        xs, latents = self.inputs.sample(batch, points, self.dim, draw)
        xs = xs / math.sqrt(self.dim)
        return Prompt(xs, f(xs, w), {"w": w} | latents)

    def bayes(self) -> SoftmaxPosterior:
        """The posterior predictive: exact from dim + 1 pairs on and at the last point, by Monte Carlo at the others.

        Raises:
            ValueError: if the inputs are not N(0, scale²·I), with what to use instead.
        """
        if self.inputs.covariance != "isotropic" or self.inputs.query != "same":
            raise ValueError(
                "the first answers average over later inputs, which is done for isotropic ones alike only; from "
                "dim + 1 pairs on and at the last point SoftmaxPosterior(prior_std) is exact for any inputs."
            )
        return SoftmaxPosterior(self.prior_std, self.inputs.scale)
