"""Training a Transformer Program on a tagged data set with the house's trainer: epochs, noise and temperature."""

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from microtome.lab.rasp.learned.data import Data, Examples, tensors
from microtome.lab.rasp.learned.gates import Annealing, Gumbel
from microtome.lab.rasp.learned.network import TransformerProgram
from microtome.lab.rasp.learned.options import Options
from microtome.lab.train import Batch, Callback, Run, TrainConfig
from microtome.lab.train import train as run_trainer
from microtome.lab.train.seeds import step_seed


@dataclass(frozen=True)
class Training:
    """How a network is trained; the defaults are the paper's.

    Attributes:
        epochs: passes over the training sentences.
        batch: sentences a step; the last step of an epoch takes what is left.
        lr: Adam's learning rate.
        annealing: the temperature of all samples.
        seed: of the order of the sentences and of the noise.
    """

    epochs: int = 250
    batch: int = 512
    lr: float = 0.05
    annealing: Annealing = field(default_factory=Annealing)
    seed: int = 0

    def __post_init__(self):
        for name in ("epochs", "batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}.")


class Epochs:
    """An objective: tagged sentences in epochs, shuffled anew in each.

    The loss is the mean cross entropy of a sentence's tags, averaged over sentences, in nats.
    """

    def __init__(self, examples: Examples, options: Options, training: Training):
        self.training = training
        self.data = tensors(examples, options)
        self.weights = self.data.weights
        self.per_epoch = -(-len(examples) // training.batch)
        self._shuffled: tuple[int, Tensor] = (-1, torch.empty(0))

    @property
    def steps(self) -> int:
        return self.per_epoch * self.training.epochs

    def batch(self, step: int, generator: torch.Generator) -> Batch:
        """Inputs (tokens [batch pos],), targets and weights [batch pos]; `generator` is not used, see `_order`."""
        epoch, within = divmod(step, self.per_epoch)
        rows = self._order(epoch).split(self.training.batch)[within]
        return Batch((self.data.tokens[rows],), self.data.targets[rows], self.weights[rows])

    def loss(self, model: TransformerProgram, batch: Batch) -> Float[Tensor, ""]:
        """The loss under whatever `model.sample` is."""
        logits = model(*batch.inputs)
        losses = F.cross_entropy(logits.flatten(0, 1), batch.targets.flatten(), reduction="none")
        return (losses * batch.weights.flatten()).sum() / batch.weights.sum()

    def describe(self) -> dict[str, Any]:
        return {"name": "tagging", "sentences": len(self.weights), **dataclasses.asdict(self.training)}

    def _order(self, epoch: int) -> Tensor:
        """The order of an epoch depends on the epoch alone, so that a resumed run sees the same batches."""
        if self._shuffled[0] != epoch:
            generator = torch.Generator().manual_seed(step_seed(self.training.seed, epoch, "epoch"))
            self._shuffled = (epoch, torch.randperm(len(self.weights), generator=generator))
        return self._shuffled[1]


class Relaxation(Callback):
    """Puts Gumbel noise at the step's temperature into each training forward pass; the model is discrete otherwise."""

    name = "relaxation"

    def __init__(self, model: TransformerProgram, objective: Epochs):
        self.model, self.objective = model, objective
        self.temperature = objective.training.annealing.start

    @cached_property
    def _generator(self) -> torch.Generator:
        return torch.Generator(self.model.W_U.device)

    def around_forward(self, step: int) -> AbstractContextManager:
        training = self.objective.training
        self.temperature = training.annealing.at(step, self.objective.per_epoch, training.epochs)
        self._generator.manual_seed(step_seed(training.seed, step, "gumbel"))
        return sampling(self.model, Gumbel(self.temperature, self._generator))

    def on_step_end(self, step: int, loss: Tensor) -> Mapping[str, float]:
        return {"temperature": self.temperature}

    def progress(self) -> Mapping[str, str]:
        return {"τ": f"{self.temperature:.3f}"}


@contextmanager
def sampling(model: TransformerProgram, sample: Gumbel) -> Iterator[None]:
    """Within the context the model's choices are samples."""
    before, model.sample = model.sample, sample
    try:
        yield
    finally:
        model.sample = before


def train(
    model: TransformerProgram,
    data: Data,
    out: Path | str,
    training: Training | None = None,
    *,
    resume: bool = False,
    progress: bool = True,
) -> Run:
    """Trains a network in place on a data set's training part and leaves a run in the folder `out`.

    Raises:
        ValueError: if `out` holds a run and `resume` is False. NonFiniteLoss: as the house's trainer.
    """
    objective = Epochs(data.train, model.options, training or Training())
    config = TrainConfig(steps=objective.steps, lr=objective.training.lr, seed=objective.training.seed)
    callbacks = [Relaxation(model, objective)]
    return run_trainer(model, objective, config, out, callbacks=callbacks, resume=resume, progress=progress)


@torch.no_grad()
def accuracy(model: TransformerProgram, examples: Examples) -> float:
    """Share of the tags that the network says, as its `sample` has it: of the discrete network unless set otherwise."""
    found = tensors(examples, model.options)
    hits = model(found.tokens.to(model.W_U.device)).argmax(-1).cpu() == found.targets
    return hits[found.asked].double().mean().item()
