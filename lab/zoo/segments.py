"""Reading a long sequence segment by segment, each layer with a memory of the last (Dai et al. 2019, Transformer-XL).

    reader = Segments(model, memory=128)
    for segment in tokens.split(128, dim=1):
        loss = objective(reader.push(segment))      # the memory carries no gradient

Keys and values of a layer are made from [SG(m), h], m its inputs at the positions before, so that what a position can
depend on grows by one memory a layer. With room for all that came before, the outputs are those of the whole sequence.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from microtome.lab.zoo.parts import Context


class Segments:
    """A causal token model being read in segments.

    Args:
        model: with relative positions or none, mixers that can leave rows out, and a pointwise feed-forward.
        memory: how many positions each layer remembers.

    Raises:
        ValueError: if the model cannot be read so, saying what prevents it.
    """

    def __init__(self, model: nn.Module, memory: int):
        if memory < 0:
            raise ValueError(f"memory must be at least 0 positions, not {memory}.")
        spec = model.spec
        reasons = {
            "only a causal model can be read in segments": not spec.shape.causal,
            "positions added to the stream would begin anew in every segment": "embedding" in spec.position.provides,
            "a mixer needs all rows at once": not all(mixer.skips_rows for mixer in model.mixers()),
            "the feed-forward looks at other positions": not spec.feedforward.pointwise,
            "the depth policy does not pass the blocks one after the other": not spec.depth.sequential,
        }
        for reason, applies in reasons.items():
            if applies:
                raise ValueError(f"{reason}, so that the model cannot be read segment by segment.")
        self.model, self.memory = model, memory
        self.memories: Sequence[Tensor | None] = [None] * len(model.blocks)

    def push(self, tokens: Int[Tensor, "batch pos"]) -> Float[Tensor, "batch pos d_vocab"]:
        """The logits of the next segment, with gradient through this segment only; then it is remembered.

        Raises:
            ValueError: for another batch than before, or more positions, memory included, than the model can place.
        """
        model = self.model
        before = self.memories[0] if self.memories else None
        if before is not None and before.shape[0] != tokens.shape[0]:
            raise ValueError(f"segments come in one batch of {before.shape[0]} sequences, not {tokens.shape[0]}.")
        x = model.embed(tokens)
        context = self._context(0 if before is None else before.shape[1], tokens.shape[1], x.device)
        memories = []
        for block, memory in zip(model.blocks, self.memories, strict=True):
            inputs = x if memory is None else torch.cat([memory, x], dim=1)
            memories.append(inputs[:, max(0, inputs.shape[1] - self.memory) :].detach())
            x = block(inputs, context)
        self.memories = memories
        return model.unembed(model.ln_final(x))

    def _context(self, remembered: int, new: int, device: torch.device) -> Context:
        """The memory and the segment as one input, of which the segment's rows are wanted."""
        model, n = self.model, remembered + new
        if model.longest is not None and n > model.longest:
            raise ValueError(
                f"memory and segment have {n} positions; this model takes at most {model.longest} (n_ctx)."
            )
        bias = model.pos_embed.bias(torch.arange(n, device=device), n)
        whole = Context(model.pos_embed, n, bias=bias, shared=model.shared_mixer)
        return whole.narrowed(slice(remembered, n))
