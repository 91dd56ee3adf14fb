"""A feed-forward network for every prompt: what can be learnt from the examples of one prompt alone.

Source: the baseline of Bhattamishra et al. (2024, icl_boolean): a network learns sparse parity from a hundred examples,
which an in-context learner could do as well, and does not.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from microtome.lab.bayes.boolean.signs import as_bits
from microtome.lab.bayes.nonlinear import two_layers
from microtome.lab.bayes.protocol import Prediction

Vectors = Float[Tensor, "batch points dim"]
Scalars = Float[Tensor, "batch points"]
Parameters = list[Tensor]


@dataclass(frozen=True)
class PromptNetwork:
    """One hidden layer of ReLUs and a logit, trained by Adam on the logistic loss of the pairs before.

    Networks of all prompts are trained side by side, from the same start. One is trained anew at every `every`-th point
    and answers the points up to the next; before the first of them the answer is 0.

    Attributes:
        width: hidden units, at least 1.
        steps: of Adam, on all pairs at once, at least 1.
        lr: its rate, above 0.
        every: points between trainings, at least 1.
        seed: of the start.

    Raises:
        ValueError: if an attribute is out of range.
    """

    width: int = 100
    steps: int = 300
    lr: float = 1e-2
    every: int = 10
    seed: int = 0

    def __post_init__(self):
        for name in ("width", "steps", "every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}.")
        if not self.lr > 0:
            raise ValueError(f"lr must be above 0, not {self.lr}.")

    @property
    def name(self) -> str:
        return f"network({self.width})"

    def predict(self, xs: Vectors, ys: Scalars) -> Prediction:
        """See `Predictor.predict`; the mean is tanh(logit/2), so P(+1) − P(−1).

        Raises:
            ValueError: also if a number is not ±1.
        """
        as_bits(xs, ys)
        inputs, labels = xs.detach().float(), ys.detach().float()
        answers = [torch.zeros_like(labels[:, : self.every])]
        for point in range(self.every, xs.shape[1], self.every):
            network = self._trained(inputs[:, :point], labels[:, :point])
            answers.append(torch.tanh(two_layers(network, inputs[:, point : point + self.every]) / 2).detach())
        return Prediction(torch.cat(answers, dim=1).to(xs.dtype))

    @torch.enable_grad()
    def _trained(self, xs: Vectors, ys: Scalars) -> Parameters:
        network = self._start(*xs.shape[::2], xs.device)
        adam = torch.optim.Adam(network, lr=self.lr)
        for _ in range(self.steps):
            adam.zero_grad()
            # A sum over prompts: each network has the gradient of its own loss.
            F.softplus(-ys * two_layers(network, xs)).mean(1).sum().backward()
            adam.step()
        return network

    def _start(self, batch: int, dim: int, device: torch.device) -> Parameters:
        """Weights and biases of the two layers, U(±1/√fan-in)."""
        generator = torch.Generator().manual_seed(self.seed)

        def uniform(fan_in: int, *shape: int) -> Tensor:
            start = (2 * torch.rand(shape, generator=generator) - 1) / fan_in**0.5
            return start.expand(batch, *shape).to(device, copy=True).requires_grad_()

        width = self.width
        return [
            uniform(dim, dim, width),
            uniform(dim, 1, width),
            uniform(width, width, 1),
            uniform(width, 1, 1),
        ]
