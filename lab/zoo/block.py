"""One block: a mixer across positions and a feed-forward at each, with the stream's points of TransformerLens."""

from abc import ABC, abstractmethod
from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor, nn

from microtome.lab.zoo.config import Spec
from microtome.lab.zoo.parts import Context, MixerPart
from microtome.lab.zoo.points import Point
from microtome.lab.zoo.streaming import Moment, State

Stream = Float[Tensor, "batch pos d_model"]
Rows = Float[Tensor, "batch query d_model"]
"""The stream at the positions whose outputs are wanted: all of them, unless `Context.rows` says otherwise."""


class Block(nn.Module, ABC):
    """Common to all placements of the norm. A mixer of another kind than attention sits in the slot `mixer`."""

    def __init__(self, spec: Spec, mixer_part: MixerPart):
        super().__init__()
        d_model = spec.shape.d_model
        mixer = mixer_part.build(spec.shape)
        self.slot = mixer.slot
        self.ln1 = spec.norm.build(d_model)
        self.add_module(self.slot, mixer)
        self.hook_resid_pre = Point("batch pos d_model", "stream")
        self.hook_attn_out = Point("batch pos d_model", "write")
        self.mlp = spec.feedforward.build(spec.shape)
        if self.mlp is not None:
            self.ln2 = spec.norm.build(d_model)
            self.hook_mlp_out = Point("batch pos d_model", "write")
        self.hook_resid_post = Point("batch pos d_model", "stream")

    @property
    def mixing(self) -> nn.Module:
        """The mixer, whichever slot it sits in."""
        return getattr(self, self.slot)

    def forward(self, x: Stream, context: Context) -> Rows:
        return self._pass(x, lambda normed: self.mixing(normed, context), context.rows)

    def step(
        self, x: Float[Tensor, "batch 1 d_model"], state: State, moment: Moment
    ) -> tuple[Float[Tensor, "batch 1 d_model"], State]:
        """The stream of one position through the block, and the mixer's state after it."""
        after: list[State] = []

        def mix(normed: Tensor) -> Tensor:
            written, new = self.mixing.step(normed[:, 0], state, moment)
            after.append(new)
            return written[:, None]

        return self._pass(x, mix, None), after[0]

    @abstractmethod
    def _pass(self, x: Stream, mix: Callable[[Tensor], Tensor], wanted: slice | None) -> Rows:
        """The block around a mixer: `mix` gives what is written at the `wanted` positions, all for None."""

    def _feed(self, x: Stream) -> Stream:
        return self.hook_mlp_out(self.mlp(x))


class AdditiveBlock(Block):
    """x + mixer(norm(x)), then x + mlp(norm(x)); the norm may be none.

    Writes add up: hook_resid_post = hook_resid_pre + hook_attn_out + hook_mlp_out.
    """

    def __init__(self, spec: Spec, mixer_part: MixerPart):
        super().__init__(spec, mixer_part)
        if self.mlp is not None:
            self.hook_resid_mid = Point("batch pos d_model", "stream")

    def _pass(self, x: Stream, mix: Callable[[Tensor], Tensor], wanted: slice | None) -> Rows:
        x = self.hook_resid_pre(x)
        written = self.hook_attn_out(mix(self.ln1(x)))
        x = rows(x, wanted) + written
        if self.mlp is not None:
            x = self.hook_resid_mid(x)
            x = x + self._feed(self.ln2(x))
        return self.hook_resid_post(x)


class PostNormBlock(Block):
    """norm(x + mixer(x)), then norm(x + mlp(x)) (Vaswani et al. 2017)."""

    def _pass(self, x: Stream, mix: Callable[[Tensor], Tensor], wanted: slice | None) -> Rows:
        x = self.hook_resid_pre(x)
        x = self.ln1(rows(x, wanted) + self.hook_attn_out(mix(x)))
        if self.mlp is not None:
            x = self.ln2(x + self._feed(x))
        return self.hook_resid_post(x)


class NormedStreamBlock(Block):
    """x ← norm(x), x ← x + mixer(x), x ← norm(x), x ← x + mlp(x): sub-layers add to the normalised stream."""

    def _pass(self, x: Stream, mix: Callable[[Tensor], Tensor], wanted: slice | None) -> Rows:
        x = self.ln1(self.hook_resid_pre(x))
        x = rows(x, wanted) + self.hook_attn_out(mix(x))
        if self.mlp is not None:
            x = self.ln2(x)
            x = x + self._feed(x)
        return self.hook_resid_post(x)


def rows(x: Stream, wanted: slice | None) -> Rows:
    """The stream at the wanted positions."""
    return x if wanted is None else x[:, wanted]


BLOCKS: dict[str, Callable[[Spec, MixerPart], Block]] = {
    "pre": AdditiveBlock,
    "none": AdditiveBlock,
    "post": PostNormBlock,
    "stream": NormedStreamBlock,
}
NOT_ADDITIVE = {
    "post": "a post-norm block normalises the stream after each write, so no tensor is hook_resid_pre + hook_attn_out",
    "stream": "the block normalises the stream before each write, so no tensor equals hook_resid_pre + hook_attn_out",
}
