"""Feeding a causal model one position at a time: each layer keeps a state and never sees the past again.

    stream = Stream(model, batch=2)
    for token in tokens.unbind(1):
        logits = stream.push(token)        # what model(tokens)[:, t] is, to rounding

A recurrent mixer's state has one size whatever has been read; attention's is its cache of keys and values.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from microtome.lab.zoo.parts import Position

State = tuple[Tensor, ...]
"""What a layer keeps of the past; every tensor's first axis is the batch."""


@dataclass(frozen=True)
class Moment:
    """Where a stream stands.

    Attributes:
        t: the position that is being read, from 0.
        position: the model's position part.
        shared: the mixer's module that serves all layers, if it has one.
    """

    t: int
    position: Position
    shared: nn.Module | None = None

    def rotated(self, x: Float[Tensor, "batch head d_head"]) -> Float[Tensor, "batch head d_head"]:
        """Queries or keys of position t, as the position part turns them."""
        return self.position.rotate(x[:, None], torch.tensor([self.t], device=x.device))[:, 0]

    def bias(self, device: torch.device) -> Float[Tensor, "head key"] | None:
        """What is added to the scores of position t against keys 0 … t; None without."""
        bias = self.position.bias(torch.tensor([self.t], device=device), self.t + 1)
        return None if bias is None else bias[:, 0]


class Streaming(ABC):
    """What a causal mixer offers beside `forward` to be read step by step."""

    constant_state: ClassVar[bool] = True
    """Whether the state keeps one size however much has been read."""

    @abstractmethod
    def start(self, batch: int) -> State:
        """The state before the first position, in the dtype and on the device of the parameters."""

    @abstractmethod
    def step(
        self, x: Float[Tensor, "batch d_model"], state: State, moment: Moment
    ) -> tuple[Float[Tensor, "batch d_model"], State]:
        """What the mixer writes at position `moment.t`, and the state after it."""


class Stream:
    """A model of tokens being read position by position, in evaluation mode and without gradient.

    Args:
        model: a causal token model all of whose mixers are `Streaming` and whose feed-forwards look at one position.
        batch: how many sequences are read side by side.

    Raises:
        ValueError: if the model cannot be read so, saying which part prevents it.
    """

    def __init__(self, model: nn.Module, batch: int = 1):
        if batch < 1:
            raise ValueError(f"batch must be at least 1, not {batch}.")
        _check(model)
        self.model, self.t = model, 0
        self.states: list[State] = [mixer.start(batch) for mixer in model.mixers()]
        with torch.no_grad():
            self._embedding = model.pos_embed.embedding(model.spec.shape.n_ctx)

    @property
    def floats(self) -> int:
        """Numbers that are kept for one sequence, over all layers."""
        return sum(t[0].numel() for state in self.states for t in state)

    @torch.no_grad()
    def push(self, tokens: Int[Tensor, " batch"]) -> Float[Tensor, "batch d_vocab"]:
        """Reads the next token of every sequence and returns its logits.

        Raises:
            ValueError: if the model places no position so far out.
        """
        model = self.model
        longest = model.longest
        if longest is not None and self.t >= longest:
            raise ValueError(f"the stream has read {self.t} positions; this model takes at most {longest} (n_ctx).")
        x = model.embed(tokens)[:, None]
        if self._embedding is not None:
            if self.t >= len(self._embedding):
                self._embedding = model.pos_embed.embedding(2 * self.t)
            x = x + self._embedding[self.t]
        moment = Moment(self.t, model.pos_embed, model.shared_mixer)
        for i, block in enumerate(model.blocks):
            x, self.states[i] = block.step(x, self.states[i], moment)
        self.t += 1
        return model.unembed(model.ln_final(x))[:, 0]


def _check(model: nn.Module) -> None:
    shape = model.spec.shape
    if not shape.causal:
        raise ValueError("only a causal model can be read step by step; this one is bidirectional.")
    for i, mixer in enumerate(model.mixers()):
        if not isinstance(mixer, Streaming):
            raise ValueError(f"the mixer of layer {i}, {type(mixer).__name__}, has no step().")
    if not model.spec.depth.sequential:
        raise ValueError(
            "the depth policy does not pass the blocks one after the other, so that the model has no step()."
        )
    if not model.spec.feedforward.pointwise:
        raise ValueError("the feed-forward looks at neighbouring positions, so that the model has no step().")
