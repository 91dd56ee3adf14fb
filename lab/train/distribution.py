"""Training a network to map (prior, data) to the posterior by draws alone, without ever seeing a posterior.

    loss = −E log q_out(x) − E log q_in(x),   φ ~ meta-prior, x ~ p(x | φ), z ~ p(z | x)

q_out is the network's posterior and q_in the prior that its own tokens stand for. The first term is E KL(p(x | z, φ) ‖
q_out) plus a constant, so that the exact posterior is its only minimum; the second keeps embedding and de-embedding
inverse to one another (Whittle et al. 2025, distribution_transformers, section 4).
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from microtome.lab.bayes.gaussian_mixture import GaussianMixture
from microtome.lab.bayes.mixture_tokens import tokenise
from microtome.lab.tasks.distributions.protocol import InferenceTask
from microtome.lab.tasks.protocol import check_sizes
from microtome.lab.train.objective import Batch, described


class PosteriorMatching:
    """The loss above on fresh problems each step; the model is called `model(prior, *observations)`.

    Every density is that of a mixture with floors on its covariances, so that the loss is finite wherever the draws
    are: no term has to be left out of the mean.

    Args:
        task: what problems are drawn from.
        batch: problems a step.
        prior_term: whether the loss has its second term.

    Raises:
        ValueError: if `batch` is below 1.
    """

    def __init__(self, task: InferenceTask, batch: int, prior_term: bool = True):
        check_sizes(batch=batch)
        self.task, self.size, self.prior_term = task, batch, prior_term

    def batch(self, step: int, generator: torch.Generator) -> Batch:
        """Inputs (prior, *observations), a mixture as its tokens; targets x [batch dim]."""
        problem = self.task.sample(self.size, generator)
        prior = problem.prior
        tokens = tokenise(prior) if isinstance(prior, GaussianMixture) else prior
        return Batch((tokens, *problem.observations), problem.target)

    def loss(self, model: nn.Module, batch: Batch) -> Float[Tensor, ""]:
        """The mean loss in nats.

        Raises:
            ValueError: if the model's answers are of another dimension than x, or for another number of problems.
        """
        said = model(*batch.inputs)
        self._check(said.posterior, batch.targets)
        loss = -said.posterior.log_prob(batch.targets).mean()
        return loss - said.prior.log_prob(batch.targets).mean() if self.prior_term else loss

    def describe(self) -> dict[str, Any]:
        return {
            "name": "posterior matching",
            "task": described(self.task),
            "batch": self.size,
            "prior_term": self.prior_term,
        }

    @staticmethod
    def _check(answer: GaussianMixture, targets: Tensor) -> None:
        if (*answer.means.shape[:-2], answer.dim) != tuple(targets.shape):
            raise ValueError(
                f"the model answers {list(answer.means.shape[:-2])} problems in {answer.dim} dimensions where the "
                f"targets are {list(targets.shape)}."
            )
