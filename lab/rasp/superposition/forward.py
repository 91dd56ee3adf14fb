"""A forward pass through a narrow stream, written in the columns of the compiled model.

What is written to the stream is kept in those columns and read through G = WWᵀ. A narrow stream yields nothing else to
those who read it: writing with W and reading with Wᵀ is reading with WWᵀ. So the same few lines serve maps of any
width, and gradients reach the map through G alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from microtome.lab.rasp.compiled import Compiled
from microtome.lab.rasp.superposition.fold import settled
from microtome.lab.rasp.values import Value
from microtome.lab.zoo.transformer import SequenceModel

Stream = Float[Tensor, "batch pos d_model"]
Gram = Float[Tensor, "d_model d_model"]


class Pass(NamedTuple):
    """What one pass computed.

    Attributes:
        outputs: of the model, those that mean something.
        stream: before the first sub-layer and after each.
        scores: of each attention, −∞ where a query may not look.
        neurons: of each MLP, before the activation.
    """

    outputs: Float[Tensor, "batch pos output"]
    stream: list[Stream]
    scores: list[Float[Tensor, "batch head query key"]]
    neurons: list[Float[Tensor, "batch pos d_mlp"]]


@dataclass(frozen=True, eq=False)
class Batch:
    """A compiled model and inputs.

    Attributes:
        model: in float64, without constants in its stream.
        embedded: the stream before the first layer.
        real: what is no padding.
        answering: what is neither padding nor the sink.
        n_outputs: how many of the model's outputs mean something.
    """

    model: SequenceModel
    embedded: Stream
    real: Bool[Tensor, "batch pos"]
    answering: Bool[Tensor, "batch pos"]
    n_outputs: int

    def run(self, gram: Gram, guide: Sequence[Stream] = (), own: float = 1.0) -> Pass:
        """The model with a stream that is read through WWᵀ.

        Args:
            gram: WWᵀ.
            guide: a stream, as a `Pass` has it.
            own: what part of the stream that modules read is their own; the rest is the guide, so that at 0 no module
                suffers from the mistakes of those before it.
        """
        stream, scores, neurons = [self.embedded], [], []

        def read() -> Stream:
            x = stream[-1]
            return (x if own == 1.0 else own * x + (1 - own) * guide[len(stream) - 1]) @ gram

        for block in self.model.blocks:
            score, written = self._attend(block.attn, read())
            scores.append(score)
            stream.append(stream[-1] + written)
            if block.mlp is not None:
                neurons.append(block.mlp.in_(read()))
                stream.append(stream[-1] + block.mlp.out(neurons[-1].relu()))
        return Pass(self.model.unembed(read())[..., : self.n_outputs], stream, scores, neurons)

    def _attend(self, attn: nn.Module, x: Stream) -> tuple[Tensor, Tensor]:
        """Scores, and what is written."""
        q, k, v = (part(x).unflatten(-1, (attn.n_heads, -1)).transpose(1, 2) for part in (attn.q, attn.k, attn.v))
        scores = (q @ k.mT * attn.scale).masked_fill(~self.real[:, None, None, :], -torch.inf)
        if attn.causal:
            n = x.shape[1]
            scores = scores.masked_fill(torch.ones(n, n, dtype=torch.bool).triu(1), -torch.inf)
        return scores, attn.o((scores.softmax(-1) @ v).transpose(1, 2).flatten(-2))


def batch(compiled: Compiled, inputs: Sequence[Sequence[Value]]) -> Batch:
    """The inputs as one padded batch, on the CPU."""
    model = settled(compiled.model).cpu().requires_grad_(False)
    ids, real = (x.cpu() for x in compiled.pad(inputs))
    answering = real.clone()
    answering[:, : compiled.sink] = False
    embedded = model.embed(ids) + model.pos_embed.weight[: ids.shape[1]]
    return Batch(model, embedded, real, answering, len(compiled.lowered.readout.forms))
