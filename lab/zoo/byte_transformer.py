"""ByteTransformer's encoder (Zhai et al. 2022, slug `byte_transformer`): post-LN BERT, run without padding.

    x ← LN(x + Attention(x)),   x ← LN(x + GELU(x W₁ + b₁) W₂ + b₂)

`run_packed` runs any bidirectional softmax model of the zoo on the valid tokens only. The model's own blocks pass over
them as one row of T tokens, so that everything token-wise is as it is, hooks included, and attention alone is told
where sequences begin. Rows go back to the padded batch once, at the end. BERT's segment embeddings and the norm of its
embeddings are left out: a model here begins with tokens and positions.
"""

from dataclasses import dataclass
from functools import partial

from jaxtyping import Bool, Float, Int
from torch import Tensor

from microtome.kernels.byte_transformer import Packing, attention, packing_of_mask
from microtome.lab.zoo.compose import sequence
from microtome.lab.zoo.config import Init
from microtome.lab.zoo.mixers import softmax
from microtome.lab.zoo.norms._batch import batch_norms
from microtome.lab.zoo.parts import Context, Position
from microtome.lab.zoo.points import Reading
from microtome.lab.zoo.stems.tokens import TokenModel
from microtome.lab.zoo.transformer import SequenceModel


def encoder(
    *, d_model: int, n_layers: int, n_heads: int, n_ctx: int, d_vocab: int = 30_522, seed: int = 0
) -> SequenceModel:
    """A post-LN encoder with learned positions and exact GELU; weights start as BERT's, N(0, 0.02²)."""
    return sequence(
        d_vocab=d_vocab,
        mixer="softmax",
        position="learned",
        norm={"name": "layernorm", "placement": "post", "eps": 1e-12, "final": False},
        feedforward={"name": "gelu", "approximate": "none"},
        init=Init("normal", std=0.02, embed_std=0.02),
        d_model=d_model,
        n_layers=n_layers,
        n_heads=n_heads,
        n_ctx=n_ctx,
        causal=False,
        seed=seed,
    )


VARIANTS = {
    "bert_base": partial(encoder, d_model=768, n_layers=12, n_heads=12, n_ctx=512),
    "small": partial(encoder, d_model=256, n_layers=2, n_heads=4, n_ctx=256, d_vocab=1000),
}
"""BERT-base, which the paper times, and two layers of width 256."""


class PackedPosition(Position):
    """A model's rotary positions on packed rows: each row stands where it stands in its own sequence."""

    def __init__(self, inner: Position, positions: Int[Tensor, " token"]):
        super().__init__()
        self.inner, self.positions = inner, positions

    def rotate(
        self, x: Float[Tensor, "one token head d_head"], positions: Int[Tensor, " token"]
    ) -> Float[Tensor, "one token head d_head"]:
        return self.inner.rotate(x, self.positions)


@dataclass(frozen=True)
class PackedAttention:
    """Attention of a stream that is one row of packed tokens."""

    packing: Packing

    def __call__(
        self,
        q: Float[Tensor, "one head token d_head"],
        k: Float[Tensor, "one head token d_head"],
        v: Float[Tensor, "one head token d_head"],
        scale: float,
    ) -> Float[Tensor, "one head token d_head"]:
        rows = (x[0].transpose(0, 1) for x in (q, k, v))
        return attention(*rows, self.packing, scale).transpose(0, 1)[None]


def run_packed(
    model: TokenModel, tokens: Int[Tensor, "batch pos"], mask: Bool[Tensor, "batch pos"]
) -> Float[Tensor, "batch pos d_vocab"]:
    """What `model(tokens, mask=mask)` gives at real tokens, to rounding, and exactly 0 at padding, which is not run.

    Args:
        model: a token model of the zoo, bidirectional, with plain softmax mixers; positions may be added to the stream
            or rotate queries and keys.
        tokens: ids; what stands at padding is not read.
        mask: True at real tokens, which come first in each row.

    Hooks work at every point that has a row for each token, whose tensors are [1, T, …]; differentiable.

    Raises:
        ValueError: for a model that packed rows cannot serve, a hook on a pattern, tokens out of the vocabulary, an
            input longer than the model takes, or a mask of another shape or with tokens after padding.
    """
    _check_model(model)
    if mask.shape != tokens.shape:
        raise ValueError(f"mask must be [batch, pos] = {list(tokens.shape)}, not {list(mask.shape)}.")
    packed = packing_of_mask(mask)
    rows = (
        _through(model, packed.pack(tokens), packed)
        if packed.tokens
        else model.unembed.weight.new_zeros(0, model.n_out)
    )
    return packed.unpack(rows)


def _through(model: TokenModel, tokens: Int[Tensor, " token"], packed: Packing) -> Float[Tensor, "token d_vocab"]:
    """Logits of the packed tokens."""
    model._check(tokens[None])
    if model.longest is not None and packed.longest > model.longest:
        raise ValueError(f"the input has {packed.longest} positions; this model takes at most {model.longest} (n_ctx).")
    x = model.hook_embed(model.embed(tokens)[None])
    added = model.pos_embed.embedding(packed.longest)
    if added is not None:
        x = x + model.hook_pos_embed(added[packed.positions][None])
    context = Context(
        PackedPosition(model.pos_embed, packed.positions),
        packed.tokens,
        shared=model.shared_mixer,
        attend=PackedAttention(packed),
    )
    x = model.spec.depth.through(model.blocks, x, context)
    return model.unembed(model.ln_final(x))[0]


def _check_model(model: TokenModel) -> None:
    if not isinstance(model, TokenModel):
        raise ValueError(f"run_packed takes a token model, not {type(model).__name__}.")
    if model.spec.shape.causal:
        raise ValueError("run_packed takes a bidirectional model: build it with causal=False.")
    other = [type(m).__name__ for m in model.mixers() if type(m) is not softmax.SoftmaxMixer]
    if other:
        raise ValueError(f"run_packed serves plain softmax attention, not {other[0]}.")
    if "bias" in model.spec.position.provides:
        raise ValueError("run_packed has no scores to add a position bias to; take embeddings, rotations or none.")
    if batch_norms(model):
        raise ValueError("run_packed leaves padding out, and batch statistics are those of a whole padded batch.")
    watched = [n for n, p in model.hook_dict.items() if p.watched and (isinstance(p, Reading) or "key" in p.axes)]
    if watched:
        raise ValueError(f"no pattern is made of packed rows, so that {watched[0]} has nothing to show; run padded.")
