"""The exact answer when each prompt comes from one of several laws: the components' answers, weighed by the evidence.

With α_i the prior weight of component i,

    β_i ∝ α_i Π_{j<k} p_i(y_j | x_j, pairs before j),     ŷ_k = Σ_i β_i ŷ_k,i

(Panwar, Ahuja & Goyal 2024, "In-context learning through the Bayesian prism", slug `icl_bayesian_prism`, section 5 and
appendix: PME of a mixture). The product of predictive densities is the evidence of the component by the chain rule, so
that any component will do that knows the law of each label given the pairs before it.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution

from microtome.lab.bayes.blocks import over_prompts
from microtome.lab.bayes.law import Probabilistic, Signs, log_score
from microtome.lab.bayes.normals import Parts
from microtome.lab.bayes.prefixes import before
from microtome.lab.bayes.protocol import Prediction, checked, in_dtype

Vectors = Float[Tensor, "batch points dim"]
Scalars = Float[Tensor, "batch points"]
Responsibilities = Float[Tensor, "batch points component"]

JITTER = 1e-4
"""Standard deviation that is added to real labels where the components are weighed.

A component without noise knows some labels for sure, and rounding (1e-7 of a label in float32, times what solving for
the weights makes of it) would then decide between components that agree. It biases no component's own answer.
"""
PROMPTS = 256  # at once: the laws of components that enumerate hold a number for each hypothesis and label
IMPOSSIBLE = -1e30  # in log densities' place of −∞, so that a label that no component allows weighs on all alike


@dataclass(frozen=True)
class BayesMixture:
    """The posterior predictive of a mixture of laws; exact if its components are.

    Attributes:
        components: predictors that know the laws of their labels, at least one; the laws are either all made of normals
            or all of labels ±1.
        prior: α, one a component, not negative, of sum 1.
        name: for legends.

    Raises:
        TypeError: if a component has no law of its labels.
        ValueError: if there is no component, or the prior is not as above.
    """

    components: tuple[Probabilistic, ...]
    prior: tuple[float, ...]
    name: str = "bayes of the mixture"

    def __post_init__(self):
        if not self.components:
            raise ValueError("a mixture needs at least one component.")
        for component in self.components:
            if not isinstance(component, Probabilistic):
                told = getattr(component, "name", type(component).__name__)
                raise TypeError(f"components need law(xs, ys) to be weighed by, which {told} has not.")
        if len(self.prior) != len(self.components):
            raise ValueError(
                f"{len(self.components)} components need a prior of as many numbers, not {len(self.prior)}."
            )
        if not all(0 <= share <= 1 for share in self.prior) or abs(math.fsum(self.prior) - 1) > 1e-6:
            raise ValueError(f"the prior must lie in [0, 1] and sum to 1, not {list(self.prior)}.")

    def predict(self, xs: Vectors, ys: Scalars) -> Prediction:
        """See `Predictor.predict`; the variance by the law of total variance, None if a component gives none."""
        inputs, labels = checked(xs, ys)
        said = over_prompts(self._mix, inputs, labels, entries=1, limit=PROMPTS)
        return in_dtype(xs.dtype, *said)

    def responsibilities(self, xs: Vectors, ys: Scalars) -> Responsibilities:
        """β of every prefix: the probability of each component given the pairs before i; entry 0 is α.

        Raises:
            ValueError: as `predict`.
        """
        inputs, labels = checked(xs, ys)
        (beta,) = over_prompts(
            lambda x, y: (self._weigh(self._laws(x, y), y),), inputs, labels, entries=1, limit=PROMPTS
        )
        return beta.to(xs.dtype)

    def law(self, xs: Vectors, ys: Scalars) -> Distribution:
        """See `Probabilistic.law`; a mixture of normals, or `Signs`."""
        inputs, labels = checked(xs, ys)
        laws = self._laws(inputs, labels)
        beta = self._weigh(laws, labels)
        if _of_signs(laws):
            return Signs((beta * torch.stack([law.mean for law in laws], dim=-1)).sum(-1))
        return Parts.mixed(beta, tuple(Parts.of(law) for law in laws)).law()

    def _mix(self, xs: Tensor, ys: Tensor) -> tuple[Tensor, ...]:
        """Mean, and variance if all components have one, of a block of prompts."""
        beta = self._weigh(self._laws(xs, ys), ys)
        said = [component.predict(xs, ys) for component in self.components]
        means = torch.stack([each.mean for each in said], dim=-1)
        mean = (beta * means).sum(-1)
        if any(each.variance is None for each in said):
            return (mean,)
        within = torch.stack([each.variance for each in said], dim=-1)
        return mean, (beta * (within + (means - mean[..., None]).square())).sum(-1)

    def _laws(self, xs: Tensor, ys: Tensor) -> tuple[Distribution, ...]:
        return tuple(component.law(xs, ys) for component in self.components)

    def _weigh(self, laws: tuple[Distribution, ...], ys: Tensor) -> Tensor:
        if _of_signs(laws):
            scores = [log_score(law, ys) for law in laws]
        else:
            scores = [Parts.of(law).widened(JITTER).log_density(ys) for law in laws]
        each = torch.stack(scores, dim=-1).clamp(min=IMPOSSIBLE)
        evidence = before(each.cumsum(1))
        prior = torch.tensor(self.prior, dtype=each.dtype, device=each.device)
        return (prior.log() + evidence).softmax(-1)


def _of_signs(laws: tuple[Distribution, ...]) -> bool:
    return all(isinstance(law, Signs) for law in laws)
