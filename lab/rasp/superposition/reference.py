"""What a map is trained towards: the compiled model's outputs, its stream, and what its modules read there.

Scores of compiled programs lie a hundred nats apart and their neurons are off on most inputs, so the gradient of the
outputs vanishes wherever a module reads something wrong. The terms for modules do not: the divergence between
attention patterns grows linearly in the scores, and a neuron is held to its input where it should be on, and below zero
where it should be off.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from microtome.lab.rasp.compiled import Compiled
from microtome.lab.rasp.superposition.fold import Map
from microtome.lab.rasp.superposition.forward import Batch, Pass, batch
from microtome.lab.rasp.values import Value

TINY = 1e-12


class Losses(NamedTuple):
    """Scalars, 0 where nothing is lost.

    Attributes:
        outputs: where outputs are values, the squared shortfall of each one's lead over the others from half of what it
            is in the compiled model, in units of the mean squared lead; where they are numbers, the squared error in
            units of their variance.
        stream: squared distance of the stream from the image of the compiled model's, relative to the latter.
        modules: log(1 + x), summed over attentions and MLPs. Of an attention, x is the divergence of its patterns in
            nats, a mean over positions, summed over heads; of an MLP, the squared error of its neurons, a mean.
    """

    outputs: Float[Tensor, ""]
    stream: Float[Tensor, ""]
    modules: Float[Tensor, ""]


@dataclass(frozen=True, eq=False)
class Reference:
    """A compiled model on some inputs, of which every position counts the same.

    Attributes:
        batch: the model and the inputs.
        exact: what the model computes with nothing lost.
        answers: whether the largest output is the answer, or else outputs are numbers.
    """

    batch: Batch
    exact: Pass
    answers: bool

    def losses(self, W: Map, own: float = 1.0) -> Losses:
        """What is lost with a map; of `own` see `Batch.run`."""
        found, exact = self.batch.run(W @ W.T, self.exact.stream, own), self.exact
        pairs = list(zip(found.stream, exact.stream, strict=True))
        stream = sum(self._mean(((a - b) @ W) ** 2) for a, b in pairs)
        size = sum(self._mean(b**2) for _, b in pairs)
        modules = [self._divergence(a, b) for a, b in zip(found.scores, exact.scores, strict=True)]
        modules += [self._misfires(a, b) for a, b in zip(found.neurons, exact.neurons, strict=True)]
        return Losses(self._output_loss(found.outputs), stream / (size + TINY), torch.stack(modules).log1p().sum())

    def principal(self, width: int) -> Map:
        """The directions in which the stream is largest, over all sub-layers."""
        real = torch.cat([x[self.batch.real] for x in self.exact.stream])
        return torch.linalg.eigh(real.T @ real).eigenvectors.flip(-1)[:, :width].contiguous()

    def _mean(self, x: Float[Tensor, "batch pos axis"]) -> Float[Tensor, ""]:
        return (x.sum(-1) * self.batch.real).sum() / self.batch.real.sum()

    def _answering(self, x: Float[Tensor, "batch pos"]) -> Float[Tensor, ""]:
        return (x * self.batch.answering).sum() / self.batch.answering.sum()

    def _output_loss(self, outputs: Float[Tensor, "batch pos output"]) -> Float[Tensor, ""]:
        wanted, mean = self.exact.outputs, self._answering
        if not self.answers:
            centre = wanted[self.batch.answering].mean(0)
            spread = mean(((wanted - centre) ** 2).sum(-1))
            return mean(((outputs - wanted) ** 2).sum(-1)) / (spread + TINY)
        answer = wanted.argmax(-1, keepdim=True)
        lead, wanted_lead = (x.gather(-1, answer) - x for x in (outputs, wanted))
        short = (wanted_lead / 2 - lead).clamp_min(0)
        return mean((short**2).sum(-1)) / (mean((wanted_lead**2).sum(-1)) + TINY)

    def _divergence(self, scores: Tensor, wanted: Tensor) -> Float[Tensor, ""]:
        pattern = wanted.softmax(-1)
        log = scores.log_softmax(-1).masked_fill(pattern == 0, 0.0)  # −∞ at masked keys, of which nothing is asked
        lost = -(pattern * log + torch.special.entr(pattern)).sum((1, -1))  # [batch query]
        return self._answering(lost)

    def _misfires(self, before: Tensor, wanted: Tensor) -> Float[Tensor, ""]:
        error = torch.where(wanted > 0, before - wanted, before.clamp_min(0))
        return self._answering((error**2).mean(-1))


def reference(compiled: Compiled, inputs: Sequence[Sequence[Value]]) -> Reference:
    held = batch(compiled, inputs)
    exact = held.run(torch.eye(held.embedded.shape[-1], dtype=torch.float64))
    return Reference(held, exact, compiled.lowered.readout.values is not None)
