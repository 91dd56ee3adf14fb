"""Dynamical systems that are linear on a representation of their last k states: sequences of vectors to be continued.

    x_{i+1} = W Φ*([x_{i−k+1}; …; x_i]) + N(0, σ²I),   entries of W ~ N(0, τ²),   x_1 … x_k ~ N(0, I)

W is fresh for every sequence and Φ* the same for all. (Guo et al. 2024, "How do transformers learn in-context beyond
simple functions? A case study on learning with representations", slug `icl_representations`, section 3.2.)

Given the states before, each coordinate of the next one is a regression on the same features with weights of its own,
so the exact answer is a ridge with as many outputs as there are coordinates; that the features come from the sequence
itself changes nothing, because every state is a fresh draw given those before it.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from microtome.lab.bayes.linear import BayesLinear, check_law
from microtome.lab.tasks.draw import Draw
from microtome.lab.tasks.protocol import check_generator, check_sizes
from microtome.lab.tasks.representations import Representation

States = Float[Tensor, "batch points dim"]


@dataclass(frozen=True)
class Sequences:
    """A batch of sequences of states.

    Attributes:
        xs: states, [batch points dim].
        latents: "W" [batch dim width].
    """

    xs: States
    latents: dict[str, Tensor]


@dataclass(frozen=True)
class NextState:
    """What a predictor says of every state from those before it.

    Attributes:
        mean: of x_i, [batch points dim]; the first k are zero.
        variance: of each coordinate of x_i around it, the same for all of them, [batch points]; the first k are one.
    """

    mean: States
    variance: Float[Tensor, "batch points"]


@dataclass(frozen=True)
class RepresentationDynamics:
    """Sequences x_1 x_2 … of the law above.

    A leaky-ReLU network scales with its input, so that a sequence grows or shrinks geometrically; the τ that keeps its
    size is about √(2^L/(k·dim)) for width k·dim.

    Attributes:
        representation: Φ*, a function of k·dim numbers.
        lags: k, states that the next one depends on.
        noise_std: σ ≥ 0, of each coordinate of each state.
        prior_std: τ > 0, of each entry of W.

    Raises:
        ValueError: if an attribute is out of range, or the representation's dim is no multiple of lags.
    """

    representation: Representation
    lags: int
    noise_std: float
    prior_std: float

    def __post_init__(self):
        check_sizes(lags=self.lags)
        check_law(self.noise_std, self.prior_std)
        if self.representation.dim % self.lags:
            raise ValueError(
                f"the representation takes {self.representation.dim} numbers, which {self.lags} states of one size "
                "cannot fill."
            )

    @property
    def dim(self) -> int:
        """Dimensions of a state."""
        return self.representation.dim // self.lags

    def sample(
        self, batch: int, points: int, generator: torch.Generator, *, dtype: torch.dtype = torch.float32
    ) -> Sequences:
        """Draws sequences of `points` states; the same state of the generator gives the same ones.

        Raises:
            TypeError: if the generator is not one.
            ValueError: if batch or points is below 1, or the states outgrow the dtype.
        """
        check_sizes(batch=batch, points=points)
        check_generator(generator)
        draw = Draw(generator, dtype)
        W = self.prior_std * draw.normal(batch, self.dim, self.representation.width)
        states = list(draw.normal(batch, min(self.lags, points), self.dim).unbind(1))
        noise = self.noise_std * draw.normal(batch, points, self.dim)
        for i in range(self.lags, points):
            features = self.representation(torch.cat(states[-self.lags :], dim=-1))
            states.append((W @ features[..., None]).squeeze(-1) + noise[:, i])
        xs = torch.stack(states, dim=1)
        if not torch.isfinite(xs).all():
            raise ValueError(
                f"prior_std = {self.prior_std:g} makes the states outgrow {dtype} within {points} of them; "
                "take a smaller one."
            )
        return Sequences(xs, {"W": W})

    def features(self, xs: States) -> Float[Tensor, "batch transitions width"]:
        """Φ*([x_{i−k}; …; x_{i−1}]) for every i from k on: what x_i depends on, [batch points−k width].

        Raises:
            ValueError: if there are no more than k states.
        """
        if xs.shape[1] <= self.lags:
            raise ValueError(f"{xs.shape[1]} states hold no transition that depends on {self.lags} before it.")
        windows = xs.unfold(1, self.lags, 1)[:, :-1]  # [batch transitions dim lag]
        return self.representation(windows.mT.flatten(2))

    def predict(self, xs: States) -> NextState:
        """The exact posterior predictive of every state given those before it; x_i itself is never read for entry i.

        Raises:
            ValueError: if the states are not [batch points dim], there are none, or one is not finite.
        """
        if xs.ndim != 3 or xs.shape[-1] != self.dim or xs.numel() == 0:
            raise ValueError(f"states must be [batch points {self.dim}], at least one, not {list(xs.shape)}.")
        if not torch.isfinite(xs).all():
            raise ValueError("the states hold an infinity or a NaN.")
        mean, variance = torch.zeros_like(xs), xs.new_ones(xs.shape[:2])
        if xs.shape[1] <= self.lags:
            return NextState(mean, variance)
        inputs = self.features(xs.double()).repeat_interleave(self.dim, dim=0)
        labels = xs[:, self.lags :].mT.flatten(0, 1).double()  # coordinates of one sequence follow each other
        said = BayesLinear(self.noise_std, self.prior_std).predict(inputs, labels)
        mean[:, self.lags :] = said.mean.unflatten(0, (len(xs), self.dim)).mT.to(xs.dtype)
        variance[:, self.lags :] = said.variance[:: self.dim].to(xs.dtype)
        return NextState(mean, variance)
