"""Exact next-token probabilities of a Markov chain whose transition matrix is unknown: counts and a Dirichlet prior.

Each context c, the last k tokens, has next-token probabilities θ_c ~ Dirichlet(α, …, α), so that

    p(next = s | tokens so far) = (n_cs + α) / (n_c + α·S)

with n_cs how often s has followed c, n_c = Σ_s n_cs, and S states. (The exact answer beside the learners of Akyürek
et al. 2023, "What learning algorithm is in-context learning?", slug `icl_linear_algorithms`, on discrete sequences;
the law is that of Edelman et al. 2024, "The evolution of statistical induction heads".)
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from microtome.lab.bayes.blocks import over_prompts

Tokens = Int[Tensor, "batch pos"]


@dataclass(frozen=True)
class DirichletMarkov:
    """The posterior predictive of chains of one order and one prior.

    Attributes:
        states: S ≥ 2, how many tokens there are.
        order: k ≥ 1, how many tokens decide the law of the next.
        alpha: α > 0, the concentration of the prior; 1 makes every transition matrix equally likely.

    Raises:
        ValueError: if an attribute is out of range.
    """

    states: int
    order: int = 1
    alpha: float = 1.0

    def __post_init__(self):
        check_chain(self.states, self.order, self.alpha)

    @property
    def name(self) -> str:
        return f"order-{self.order} counts"

    def predict(self, tokens: Tokens) -> Float[Tensor, "batch pos state"]:
        """Probabilities of the token after each position, given the tokens up to and with it; float64.

        Before there is a whole context they are uniform, as the first `order` tokens of a chain are.

        Raises:
            ValueError: if there are no tokens, or one is not among the states.
        """
        if tokens.ndim != 2 or tokens.numel() == 0:
            raise ValueError(f"tokens must be [batch pos] with at least one of each, not {list(tokens.shape)}.")
        if tokens.min() < 0 or tokens.max() >= self.states:
            raise ValueError(f"tokens must lie between 0 and {self.states - 1}, the states of this chain.")
        length = tokens.shape[1]
        missing = min(self.order - 1, length)
        if missing == length:
            return torch.full((*tokens.shape, self.states), 1 / self.states, dtype=torch.float64, device=tokens.device)
        (known,) = over_prompts(self._from_counts, tokens, tokens, entries=length**2)
        return F.pad(known, (0, 0, missing, 0), value=1 / self.states)

    def _from_counts(self, tokens: Tensor, _: Tensor) -> tuple[Tensor]:
        seen = contexts(tokens, self.states, self.order)
        followers = F.one_hot(tokens[:, self.order :], self.states).double()  # batch context state
        same = (seen[:, :, None] == seen[:, None, :-1]).tril(-1)  # a context has a follower once it has passed
        counts = same.double() @ followers + self.alpha
        return (counts / counts.sum(-1, keepdim=True),)


def contexts(tokens: Tokens, states: int, order: int) -> Int[Tensor, "batch context"]:
    """Numbers 0 … states^order − 1 of the contexts that end at positions order − 1, order, …; the oldest token weighs
    most."""
    windows = tokens.unfold(1, order, 1)
    weights = states ** torch.arange(order - 1, -1, -1, device=tokens.device)
    return (windows * weights).sum(-1)


def check_chain(states: int, order: int, alpha: float) -> None:
    """Raises ValueError unless states ≥ 2, order ≥ 1 and 0 < alpha < ∞."""
    if states < 2:
        raise ValueError(f"states must be at least 2, not {states}.")
    if order < 1:
        raise ValueError(f"order must be at least 1, not {order}.")
    if not 0 < alpha < math.inf:
        raise ValueError(f"alpha must be finite and above 0, not {alpha}.")
