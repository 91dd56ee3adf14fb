"""The most similar earlier x: as a rule for labels, as its exact posterior, and as a baseline.

Similarity is the cosine, for ±1 inputs xᵀx′/n; of equally similar ones the first counts. In the task of Bhattamishra et
al. (2024, icl_boolean) the first labels are fair coins, but for an x that stood before, which keeps its label; later
ones are the label of the most similar earlier x. The label of a point thus goes back to one of the first, its root,
whatever the labels are, and different roots have independent labels.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from microtome.lab.bayes.boolean.signs import as_bits, check_noise
from microtome.lab.bayes.law import Signs
from microtome.lab.bayes.protocol import Prediction, checked

Vectors = Float[Tensor, "batch points dim"]
Scalars = Float[Tensor, "batch points"]


def most_similar(xs: Vectors) -> tuple[Int[Tensor, "batch points"], Scalars]:
    """The earlier x of largest cosine for every x, the first of equals, and that cosine.

    The first point has none: its entry is 0, its cosine −∞. A zero vector has cosine 0 with all.
    """
    unit = torch.nn.functional.normalize(xs.double(), dim=-1)
    cosine = (unit @ unit.mT).mul(1e9).round().div(1e9)  # equal up to rounding is equal
    ahead = torch.ones(cosine.shape[1:], dtype=torch.bool, device=xs.device).triu()
    cosine = cosine.masked_fill(ahead, -torch.inf)
    best = cosine.amax(-1)
    places = torch.arange(xs.shape[1], device=xs.device)
    first = torch.where(cosine == best[..., None], places, xs.shape[1]).amin(-1)
    return first, best.to(xs.dtype)


def roots(xs: Vectors, start: int) -> Int[Tensor, "batch points"]:
    """The one of the first points that each label goes back to.

    Args:
        xs: inputs.
        start: how many of the first points have labels of their own.
    """
    nearest, cosine = most_similar(xs)
    places = torch.arange(xs.shape[1], device=xs.device).expand_as(nearest)
    own = (places < start) & (cosine < 1)
    parent = torch.where(own, places, nearest)
    # Each doubling of the path halves the way to the root.
    for _ in range(xs.shape[1].bit_length()):
        parent = parent.gather(1, parent)
    return parent


@dataclass(frozen=True)
class NearestRoot:
    """The exact posterior predictive of nearest-neighbour labels, flipped with probability η.

    Labels seen of the same root are independent readings of one coin: E y_i = (1 − 2η)·tanh(½ Σ y_j · log((1 − η)/η)),
    the sum over earlier points of the root.

    Attributes:
        start: how many of the first points have labels of their own, at least 1.
        noise: η in [0, ½].

    Raises:
        ValueError: if an attribute is out of range.
    """

    start: int = 20
    noise: float = 0.0

    def __post_init__(self):
        if self.start < 1:
            raise ValueError(f"start must be at least 1, not {self.start}.")
        check_noise(self.noise)

    @property
    def name(self) -> str:
        return "bayes"

    def predict(self, xs: Vectors, ys: Scalars) -> Prediction:
        """See `Predictor.predict`; the mean is P(+1) − P(−1).

        Raises:
            ValueError: also if a number is not ±1, or without noise if labels of one root differ.
        """
        return self.law(xs, ys).prediction(xs.dtype)

    def law(self, xs: Vectors, ys: Scalars) -> Signs:
        """See `Probabilistic.law`."""
        as_bits(xs, ys)
        root, labels = roots(xs, self.start), ys.double()
        alike = (root[:, :, None] == root[:, None]).tril(-1).double()
        votes = (alike @ labels[..., None]).squeeze(-1)
        if self.noise > 0:
            weight = math.log((1 - self.noise) / self.noise)
            return Signs((1 - 2 * self.noise) * torch.tanh(votes * weight / 2))
        if (votes[:, :-1] * labels[:, :-1] < 0).any():
            prompt = int((votes[:, :-1] * labels[:, :-1] < 0).any(1).nonzero()[0])
            raise ValueError(f"labels of prompt {prompt} are not those of nearest neighbours; give a noise above 0.")
        return Signs(votes.sign())


@dataclass(frozen=True)
class CosineNeighbour:
    """The label of the most similar earlier x; 0 at the first point."""

    @property
    def name(self) -> str:
        return "1-nn (cosine)"

    def predict(self, xs: Vectors, ys: Scalars) -> Prediction:
        """See `Predictor.predict`."""
        checked(xs, ys)
        found = ys.gather(1, most_similar(xs)[0])
        return Prediction(torch.cat([torch.zeros_like(ys[:, :1]), found[:, 1:]], dim=1))
