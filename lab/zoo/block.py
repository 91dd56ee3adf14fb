"""One block: a mixer across positions and a feed-forward at each, with the stream's points of TransformerLens."""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor, nn

from microtome.lab.zoo.config import Spec
from microtome.lab.zoo.parts import Context
from microtome.lab.zoo.points import Point

Stream = Float[Tensor, "batch pos d_model"]
Rows = Float[Tensor, "batch query d_model"]
"""The stream at the positions whose outputs are wanted: all of them, unless `Context.rows` says otherwise."""


class Block(nn.Module):
    """Common to all placements of the norm. A mixer of another kind than attention sits in the slot `mixer`."""

    def __init__(self, spec: Spec):
        super().__init__()
        d_model = spec.shape.d_model
        mixer = spec.mixer.build(spec.shape)
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

    def _mix(self, x: Stream, context: Context) -> Rows:
        return self.hook_attn_out(self.mixing(x, context))

    def _feed(self, x: Stream) -> Stream:
        return self.hook_mlp_out(self.mlp(x))


class AdditiveBlock(Block):
    """x + mixer(norm(x)), then x + mlp(norm(x)); the norm may be none.

    Writes add up: hook_resid_post = hook_resid_pre + hook_attn_out + hook_mlp_out.
    """

    def __init__(self, spec: Spec):
        super().__init__(spec)
        if self.mlp is not None:
            self.hook_resid_mid = Point("batch pos d_model", "stream")

    def forward(self, x: Stream, context: Context) -> Rows:
        x = self.hook_resid_pre(x)
        written = self._mix(self.ln1(x), context)
        x = rows(x, context) + written
        if self.mlp is not None:
            x = self.hook_resid_mid(x)
            x = x + self._feed(self.ln2(x))
        return self.hook_resid_post(x)


class PostNormBlock(Block):
    """norm(x + mixer(x)), then norm(x + mlp(x)) (Vaswani et al. 2017)."""

    def forward(self, x: Stream, context: Context) -> Rows:
        x = self.hook_resid_pre(x)
        x = self.ln1(rows(x, context) + self._mix(x, context))
        if self.mlp is not None:
            x = self.ln2(x + self._feed(x))
        return self.hook_resid_post(x)


class NormedStreamBlock(Block):
    """x ← norm(x), x ← x + mixer(x), x ← norm(x), x ← x + mlp(x): sub-layers add to the normalised stream."""

    def forward(self, x: Stream, context: Context) -> Rows:
        x = self.ln1(self.hook_resid_pre(x))
        x = rows(x, context) + self._mix(x, context)
        if self.mlp is not None:
            x = self.ln2(x)
            x = x + self._feed(x)
        return self.hook_resid_post(x)


def rows(x: Stream, context: Context) -> Rows:
    """The stream at the positions whose outputs are wanted."""
    return x if context.rows is None else x[:, context.rows]


BLOCKS: dict[str, Callable[[Spec], Block]] = {
    "pre": AdditiveBlock,
    "none": AdditiveBlock,
    "post": PostNormBlock,
    "stream": NormedStreamBlock,
}
NOT_ADDITIVE = {
    "post": "a post-norm block normalises the stream after each write, so no tensor is hook_resid_pre + hook_attn_out",
    "stream": "the block normalises the stream before each write, so no tensor equals hook_resid_pre + hook_attn_out",
}
