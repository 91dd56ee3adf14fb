"""LMUFormer being read frame by frame (Liu et al. 2024, slug `lmuformer`): every convolution waits for one more frame,
so that the logits lag by five, and nothing of the past is kept but windows, memory, potentials and a running mean.

    stream = FrameStream(model, batch=2)
    for frame in frames.unbind(1):
        logits = stream.push(frame)      # None five times, then the prefix logits of five frames ago
    rest = stream.finish()               # the last five; rest[-1] is model(frames)
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from microtome.lab.zoo.feedforward.spiking_conv_mixer import SpikingConvMixer
from microtome.lab.zoo.spiking import LIF
from microtome.lab.zoo.stems.lmuformer import Convolution, FrameModel
from microtome.lab.zoo.streaming import Moment, State, Streaming

Row = Float[Tensor, "batch channel"]


class _Window:
    """A convolution of width 3 on a stream: gives its output at the frame before the newest."""

    def __init__(self, convolution: Convolution):
        self.convolution = convolution
        self.last: tuple[Row, Row] | None = None

    def push(self, x: Float[Tensor, "batch c_in"]) -> Float[Tensor, "batch c_out"] | None:
        if self.last is None:
            self.last = (torch.zeros_like(x), x)
            return None
        before, middle = self.last
        self.last = (middle, x)
        return self.convolution.middle(torch.stack([before, middle, x], dim=1))

    def end(self) -> Row:
        """The output at the newest frame, with nothing after it."""
        before, middle = self.last
        return self.convolution.middle(torch.stack([before, middle, torch.zeros_like(middle)], dim=1))


class FrameStream:
    """An LMUFormer, plain or spiking, in evaluation mode and without gradient.

    Args:
        model: the classifier.
        batch: how many sequences are read side by side.

    Raises:
        ValueError: for a mixer without a step or a batch below 1.
    """

    def __init__(self, model: FrameModel, batch: int = 1):
        if batch < 1:
            raise ValueError(f"batch must be at least 1, not {batch}.")
        for i, mixer in enumerate(model.mixers()):
            if not isinstance(mixer, Streaming):
                raise ValueError(f"the mixer of layer {i}, {type(mixer).__name__}, has no step().")
        self.model, self.batch = model, batch
        embed = model.embed
        self._windows = [_Window(convolution) for convolution in embed.convolutions]
        self._place = _Window(embed.position)
        self._embedded: Row | None = None
        self._potentials: dict[LIF, Row] = {}
        self._mixed: list[State] = [mixer.start(batch) for mixer in model.mixers()]
        self._fed = [b.mlp.start(batch) if isinstance(b.mlp, SpikingConvMixer) else () for b in model.blocks]
        self._sum, self.t = 0.0, 0
        self._ended = False

    @torch.no_grad()
    def push(self, frame: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch n_classes"] | None:
        """Reads one frame; the prefix logits of five frames ago, or None for the first five.

        Raises:
            ValueError: for another shape, or after the end.
        """
        if self._ended:
            raise ValueError("the stream has ended; start another one.")
        if list(frame.shape) != [self.batch, self.model.dim]:
            raise ValueError(f"a frame must be [{self.batch}, {self.model.dim}], not {list(frame.shape)}.")
        return self._embed(frame, 0)

    @torch.no_grad()
    def finish(self) -> list[Float[Tensor, "batch n_classes"]]:
        """The prefix logits that are still due once no frame follows.

        Raises:
            ValueError: if nothing was read, or the stream has ended before.
        """
        if self._ended or self._windows[0].last is None:
            raise ValueError("a stream ends once, after one frame at least.")
        self._ended = True
        due: list[Tensor] = []
        for stage, window in enumerate(self._windows):
            due.append(self._embed(self._after(stage)(window.end()), stage + 1))
        due.append(self._positioned(self._place.end()))
        return [logits for logits in due if logits is not None]

    def _embed(self, x: Row, first: int) -> Tensor | None:
        """A row entering the embedding at stage `first`, as far as it comes."""
        for stage in range(first, len(self._windows)):
            out = self._windows[stage].push(x)
            if out is None:
                return None
            x = self._after(stage)(out)
        place = self._place.push(self.model.embed.positioned(x[:, None], self._fire)[:, 0])
        logits = None if place is None else self._positioned(place)
        self._embedded = x
        return logits

    def _positioned(self, place: Row) -> Tensor:
        return self._classify(self._embedded + place)

    def _after(self, stage: int) -> Callable[[Row], Row]:
        follow = self.model.embed.after(stage, self._fire)
        return lambda x: follow(x[:, None])[:, 0]

    def _fire(self, x: Float[Tensor, "batch 1 channel"], i: int) -> Float[Tensor, "batch 1 channel"]:
        return self._neurons(self.model.embed.lifs[i], x)

    def _neurons(self, lif: LIF, x: Float[Tensor, "batch 1 channel"]) -> Float[Tensor, "batch 1 channel"]:
        v = self._potentials.get(lif)
        spikes, self._potentials[lif] = lif.step(x[:, 0], torch.zeros_like(x[:, 0]) if v is None else v)
        return spikes[:, None]

    def _classify(self, row: Row) -> Float[Tensor, "batch n_classes"]:
        """One position through blocks and head, into the running mean."""
        model, x = self.model, row[:, None]
        for i, block in enumerate(model.blocks):
            written, self._mixed[i] = block.mixing.step(x[:, 0], self._mixed[i], Moment(self.t, model.pos_embed))
            x = x + written[:, None]
            if isinstance(block.mlp, SpikingConvMixer):
                fed, self._fed[i] = block.mlp.step(x, self._fed[i])
            else:
                fed = block.mlp(x)
            x = x + fed
        x = model.head_norm(x)
        x = self._neurons(model.head_lif, x) if model.embed.spiking else x
        self.t += 1
        self._sum = self._sum + x[:, 0]
        return model.unembed(self._sum / self.t)
