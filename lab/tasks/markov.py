"""Token sequences whose law must be learnt from the sequence itself: Markov chains, and repetition.

(Edelman et al. 2024, "The evolution of statistical induction heads: in-context learning Markov chains"; Olsson et al.
2022, "In-context learning and induction heads". They are to discrete sequences what the linear functions of Akyürek et
al. 2023, slug `icl_linear_algorithms`, are to real ones: an exact answer stands beside every prediction.)
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from microtome.lab.bayes.gamma_draws import log_dirichlet
from microtome.lab.bayes.markov import DirichletMarkov, check_chain, contexts
from microtome.lab.tasks.protocol import TokenBatch, TokenTask, check_generator, check_sizes


@dataclass(frozen=True)
class MarkovChain(TokenTask):
    """Chains with a fresh transition matrix each; the target is the next token.

    Every context of `order` tokens has next-token probabilities ~ Dirichlet(alpha, …, alpha); the first `order` tokens
    are uniform. The loss counts from position `order` on, the first where a transition has been seen.

    Attributes:
        states: how many tokens there are, at least 2.
        length: positions, above `order`.
        order: how many tokens decide the law of the next, at least 1.
        alpha: concentration of the prior, above 0; small values make nearly deterministic chains.

    Raises:
        ValueError: if an attribute is out of range.
    """

    states: int
    length: int
    order: int = 1
    alpha: float = 1.0

    def __post_init__(self):
        check_chain(self.states, self.order, self.alpha)
        if self.length <= self.order:
            raise ValueError(
                f"length must be above order = {self.order}, so that a transition is seen, not {self.length}."
            )

    @property
    def d_vocab(self) -> int:
        return self.states

    def sample(self, batch: int, generator: torch.Generator) -> TokenBatch:
        """See `TokenTask.sample`."""
        return self.walk(self.transitions(batch, generator), generator)

    def transitions(self, batch: int, generator: torch.Generator) -> Float[Tensor, "batch context state"]:
        """Next-token probabilities after each of the states^order contexts, numbered as `bayes.markov.contexts` does;
        float64. Raises as `TokenTask.sample`."""
        check_sizes(batch=batch)
        check_generator(generator)
        size = (batch, self.states**self.order, self.states)
        alphas = torch.full(size, self.alpha, dtype=torch.float64, device=generator.device)
        return log_dirichlet(alphas, generator).exp()

    def walk(self, transitions: Float[Tensor, "batch context state"], generator: torch.Generator) -> TokenBatch:
        """One chain a transition matrix."""
        batch = len(transitions)
        rows = torch.arange(batch, device=generator.device)
        start = torch.randint(self.states, (batch, self.order), generator=generator, device=generator.device)
        tokens = list(start.unbind(1))
        while len(tokens) <= self.length:
            last = torch.stack(tokens[-self.order :], dim=1)
            here = transitions[rows, contexts(last, self.states, self.order)[:, 0]]
            tokens.append(torch.multinomial(here, 1, generator=generator)[:, 0])
        walked = torch.stack(tokens, dim=1)
        weights = torch.ones(batch, self.length, device=walked.device)
        weights[:, : self.order] = 0
        return TokenBatch(walked[:, :-1], walked[:, 1:], weights)

    def bayes(self) -> DirichletMarkov:
        """The exact law of the next token."""
        return DirichletMarkov(self.states, self.order, self.alpha)


@dataclass(frozen=True)
class Induction(TokenTask):
    """Uniform tokens; the target is what followed when the token was last said, as an induction head answers.

    Where the token has not been said before, so always at the first position, nothing is asked.

    Attributes:
        vocab: how many tokens there are.
        length: positions, above `vocab`, so that in every sequence some token is said twice.

    Raises:
        ValueError: if an attribute is out of range.
    """

    vocab: int
    length: int

    def __post_init__(self):
        check_sizes(vocab=self.vocab)
        if self.length <= self.vocab:
            raise ValueError(
                f"length must be above vocab = {self.vocab}, so that some token is said twice, not {self.length}."
            )

    @property
    def d_vocab(self) -> int:
        return self.vocab

    def sample(self, batch: int, generator: torch.Generator) -> TokenBatch:
        """See `TokenTask.sample`."""
        check_sizes(batch=batch)
        check_generator(generator)
        device = generator.device
        tokens = torch.randint(self.vocab, (batch, self.length), generator=generator, device=device)
        last = last_said(tokens)
        return TokenBatch(tokens, tokens.gather(1, last + 1), (last >= 0).float())


def last_said(tokens: Int[Tensor, "batch pos"]) -> Int[Tensor, "batch pos"]:
    """The latest earlier position of the same token, −1 where there is none."""
    places = torch.arange(tokens.shape[1], device=tokens.device)
    said = (tokens[:, :, None] == tokens[:, None, :]).tril(-1)  # batch pos earlier
    return torch.where(said, places, -1).amax(-1)
