"""Posteriors of labels in another unit, and of prompts whose first point names the class.

Both serve the mixtures of Panwar, Ahuja & Goyal (2024, "In-context learning through the Bayesian prism", slug
`icl_bayesian_prism`), where each class's labels are divided by their standard deviation and a prefix may say which
class it is.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution

from microtome.lab.bayes.law import Probabilistic
from microtome.lab.bayes.normals import Parts
from microtome.lab.bayes.protocol import Prediction, Predictor, checked, in_dtype

Vectors = Float[Tensor, "batch points dim"]
Scalars = Float[Tensor, "batch points"]


@dataclass(frozen=True)
class Rescaled:
    """Predicts factor·y as a predictor of y does.

    Attributes:
        predictor: of y; one with a law.
        factor: finite and above 0.

    Raises:
        ValueError: if the factor is out of range.
    """

    predictor: Probabilistic
    factor: float

    def __post_init__(self):
        if not 0 < self.factor < math.inf:
            raise ValueError(f"factor must be finite and above 0, not {self.factor}.")

    @property
    def name(self) -> str:
        return self.predictor.name

    def predict(self, xs: Vectors, ys: Scalars) -> Prediction:
        """See `Predictor.predict`."""
        inputs, labels = checked(xs, ys)
        said = self.predictor.predict(inputs, labels / self.factor)
        variance = None if said.variance is None else self.factor**2 * said.variance
        return in_dtype(xs.dtype, self.factor * said.mean, variance)

    def law(self, xs: Vectors, ys: Scalars) -> Distribution:
        """See `Probabilistic.law`.

        Raises:
            TypeError: if the law of y is not made of normals.
        """
        inputs, labels = checked(xs, ys)
        return Parts.of(self.predictor.law(inputs, labels / self.factor)).scaled(self.factor).law()


@dataclass(frozen=True)
class Prefixed:
    """Predicts with the component that the first point of a prompt names.

    Attributes:
        components: one a class; the first x of a prompt of class c is the c-th unit vector, and its y is 0.
    """

    components: tuple[Predictor, ...]

    @property
    def name(self) -> str:
        return "bayes, class known"

    def predict(self, xs: Vectors, ys: Scalars) -> Prediction:
        """See `Predictor.predict`; the mean only. Entry 0, the prefix, is 0.

        Raises:
            ValueError: also if a first point names no class.
        """
        inputs, labels = checked(xs, ys)
        mean = torch.zeros_like(labels)
        if inputs.shape[1] > 1:
            component = self._named(inputs)
            for index in component.unique().tolist():
                rows = component == index
                mean[rows, 1:] = self.components[index].predict(inputs[rows, 1:], labels[rows, 1:]).mean
        return in_dtype(xs.dtype, mean)

    def _named(self, xs: Tensor) -> Tensor:
        component = xs[:, 0].argmax(-1)
        unit = torch.nn.functional.one_hot(component, xs.shape[-1])
        if not (xs[:, 0] == unit).all() or int(component.max()) >= len(self.components):
            raise ValueError(f"the first point of every prompt must name one of {len(self.components)} classes.")
        return component
