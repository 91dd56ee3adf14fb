"""Softmax attention (Vaswani et al. 2017), fused when nobody looks at its pattern.

    z = softmax(QKᵀ·scale + B) V,   output = concat_h(z) W_O + b_O

Queries, keys and values have TransformerLens' names and shapes. `hook_attn_scores` and `hook_pattern` are made beside
the fused path when a hook only looks, and take its place when a hook edits them or wants their gradient.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from microtome.kernels import softmax as kernel
from microtome.lab.zoo.mixers._heads import HeadWeights, softmax_or_zero
from microtome.lab.zoo.parts import Context, Effective, Mixer, MixerPart, Shape
from microtome.lab.zoo.points import Point, Recomputable
from microtome.lab.zoo.streaming import Moment, State, Streaming
from microtome.lab.zoo.template import Template


class SoftmaxMixer(HeadWeights, Streaming, Mixer):
    """Multi-head softmax attention of one layer."""

    slot: ClassVar = "attn"
    constant_state: ClassVar = False
    skips_rows: ClassVar = True
    absent: ClassVar = {
        "hook_result": "hook_z holds it per head, and ActivationCache.compute_head_results multiplies by W_O when asked"
    }

    def __init__(self, options: "Part", shape: Shape):
        super().__init__()
        self.n_heads, self.d_head = shape.n_heads, options.head_width(shape)
        self.causal, self.rotary = shape.causal, shape.rotary
        self.scale = self.d_head**-0.5 if options.scale is None else options.scale
        width = self.n_heads * self.d_head
        if options.fused_qkv:
            self.qkv = nn.Linear(shape.d_model, 3 * width, bias=options.bias)
        else:
            self.q = nn.Linear(shape.d_model, width, bias=options.bias)
            self.k = nn.Linear(shape.d_model, width, bias=options.bias)
            self.v = nn.Linear(shape.d_model, width, bias=options.bias)
        self.fused_qkv = options.fused_qkv
        output_bias = options.bias if options.output_bias is None else options.output_bias
        self.o = nn.Linear(width, shape.d_model, bias=output_bias)
        self.hook_q = Point("batch pos head d_head", "query")
        self.hook_k = Point("batch pos head d_head", "key")
        self.hook_v = Point("batch pos head d_head", "value")
        if shape.rotary:
            self.hook_rot_q = Point("batch pos head d_head", "query")
            self.hook_rot_k = Point("batch pos head d_head", "key")
        self.hook_attn_scores = Recomputable("batch head query key", "score")
        self.hook_pattern = Recomputable("batch head query key", "pattern")
        self.hook_z = Point("batch pos head d_head", "write")

    def forward(self, x: Float[Tensor, "batch pos d_model"], context: Context) -> Float[Tensor, "batch query d_model"]:
        q, k, v = self._heads(x, context)
        z = self.hook_z(self._attend(q, k, v, context).transpose(1, 2))
        self._show(x, q, k, context)
        return self.o(z.flatten(-2))

    def _show(self, x: Tensor, q: Tensor, k: Tensor, context: Context) -> None:
        """Makes the readings that hooks ask for, of all rows whatever the path skips."""
        if not (self.hook_effective_pattern.watched or self.hook_row_entropy.watched):
            return
        with torch.no_grad():
            if context.whole is not None:
                context = context.whole
                q, k, _ = self._heads(x, context)
            self.hook_effective_pattern.read(lambda: self._effective(q, k, context))
            self.hook_row_entropy.read(lambda: self._row_entropy(q, k, context))

    def effective_attention(self, x: Float[Tensor, "batch pos d_model"], context: Context) -> Effective:
        """The pattern itself, exact."""
        q, k, v = self._heads(x, context)
        return Effective(self._effective(q, k, context), v, exact=True)

    def _project(self, x: Tensor, context: Context) -> tuple[Tensor, Tensor, Tensor]:
        queried = x if context.rows is None else x[:, context.rows]
        if not self.fused_qkv:
            return self.q(queried), self.k(x), self.v(x)
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        return (q if context.rows is None else q[:, context.rows]), k, v

    def _heads(self, x: Tensor, context: Context) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values as the kernel takes them, [batch head pos d_head]."""
        split = (self.n_heads, self.d_head)
        q, k, v = self._project(x, context)
        q, k, v = (
            self.hook_q(q.unflatten(-1, split)),
            self.hook_k(k.unflatten(-1, split)),
            v.unflatten(-1, split),
        )
        v = self.hook_v(v)
        if self.rotary:
            q = self.hook_rot_q(context.position.rotate(q, context.queries(x.device)))
            k = self.hook_rot_k(context.position.rotate(k, torch.arange(context.n, device=x.device)))
        return q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, context: Context) -> Float[Tensor, "batch head query d_head"]:
        if not (self.hook_attn_scores.watched or self.hook_pattern.watched):
            return self._fused(q, k, v, context)
        if (self.hook_attn_scores.needs_path or self.hook_pattern.needs_path) and torch.is_grad_enabled():
            return self._explicit(q, k, v, context)[0]
        with torch.no_grad():
            z, edited = self._explicit(q, k, v, context)
        return z if edited else self._fused(q, k, v, context)

    def _fused(self, q: Tensor, k: Tensor, v: Tensor, context: Context) -> Tensor:
        if context.attend is not None:
            return context.attend(q, k, v, self.scale)
        if context.bias is None and context.mask is None and context.rows is None and self.scale > 0:
            # What the kernel would call; its checks of arguments cost as much as a short sequence's attention.
            return F.scaled_dot_product_attention(q, k, v, is_causal=self.causal, scale=self.scale)
        return kernel.attention(q, k, v, **self._terms(context))

    def _explicit(self, q: Tensor, k: Tensor, v: Tensor, context: Context) -> tuple[Tensor, bool]:
        """The output through hooked scores and pattern, and whether a hook changed either."""
        scores, scores_edited = self.hook_attn_scores.show(self._scores(q, k, context))
        pattern, pattern_edited = self.hook_pattern.show(self._pattern(scores, context))
        return self._weigh(pattern, context) @ v, scores_edited or pattern_edited

    def _scores(self, q: Tensor, k: Tensor, context: Context) -> Float[Tensor, "batch head query key"]:
        """Scaled scores with bias; −inf where a query may not look."""
        scores = q @ k.transpose(-1, -2) * self.scale
        if context.bias is not None:
            scores = scores + context.bias
        scores = self._adjusted(scores, context.queries(q.device))
        if self.causal:
            future = torch.arange(context.n, device=q.device) > context.queries(q.device)[:, None]
            scores = scores.masked_fill(future, -torch.inf)
        if context.mask is not None:
            scores = scores.masked_fill(~context.mask[:, None, None, :], -torch.inf)
        return scores

    def _adjusted(
        self, scores: Float[Tensor, "batch head query key"], queries: Int[Tensor, " query"]
    ) -> Float[Tensor, "batch head query key"]:
        """Scores of the queries at these positions against keys 0, 1, …; mixers that change them override this."""
        return scores

    def _pattern(self, scores: Tensor, context: Context) -> Float[Tensor, "batch head query key"]:
        """Softmax over keys; a row that may look nowhere is zero."""
        return scores.softmax(-1) if context.mask is None else softmax_or_zero(scores)

    def _effective(self, q: Tensor, k: Tensor, context: Context) -> Float[Tensor, "batch head query key"]:
        return self._weigh(self._pattern(self._scores(q, k, context), context), context)

    def _weigh(self, pattern: Tensor, context: Context) -> Float[Tensor, "batch head query key"]:
        """What multiplies the values: the pattern; mixers that change it after softmax override this."""
        return pattern

    def _terms(self, context: Context) -> dict:
        """The keyword arguments of the kernels."""
        rows = context.queries(self.o.weight.device) if self.causal and context.rows is not None else None
        return {
            "bias": context.bias,
            "causal": self.causal,
            "mask": context.mask,
            "scale": self.scale,
            "positions": rows,
        }

    def _row_entropy(self, q: Tensor, k: Tensor, context: Context) -> Float[Tensor, "batch head query"]:
        return kernel.row_entropy(q, k, **self._terms(context))

    def _projection(self, which: int) -> tuple[Tensor, Tensor | None]:
        if not self.fused_qkv:
            return super()._projection(which)
        bias = self.qkv.bias
        return self.qkv.weight.chunk(3)[which], None if bias is None else bias.chunk(3)[which]

    def start(self, batch: int) -> State:
        """Keys and values of no position."""
        weight = self.o.weight
        empty = torch.empty(batch, self.n_heads, 0, self.d_head, dtype=weight.dtype, device=weight.device)
        return empty, empty

    def step(
        self, x: Float[Tensor, "batch d_model"], state: State, moment: Moment
    ) -> tuple[Float[Tensor, "batch d_model"], State]:
        """One query against the cache of keys and values [batch head pos d_head], to which its own are added."""
        q, k, v = (each.unflatten(-1, (self.n_heads, self.d_head)) for each in self._row(x))
        if self.rotary:
            q, k = moment.rotated(q), moment.rotated(k)
        keys, values = torch.cat([state[0], k[:, :, None]], 2), torch.cat([state[1], v[:, :, None]], 2)
        scores = q[:, :, None] @ keys.mT * self.scale
        bias = moment.bias(x.device)
        if bias is not None:
            scores = scores + bias[:, None]
        scores = self._adjusted(scores, torch.tensor([moment.t], device=x.device))
        row = Context(moment.position, moment.t + 1, rows=slice(moment.t, moment.t + 1), shared=moment.shared)
        z = self._weigh(self._pattern(scores, row), row) @ values
        return self.o(z[:, :, 0].flatten(-2)), (keys, values)

    def _row(self, x: Float[Tensor, "batch d_model"]) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of one position, all heads side by side."""
        return self.qkv(x).chunk(3, dim=-1) if self.fused_qkv else (self.q(x), self.k(x), self.v(x))


@dataclass(frozen=True)
class Part(MixerPart):
    """Options of softmax attention.

    Attributes:
        d_head: width of a head; None gives d_model / n_heads.
        scale: what the scores are multiplied by; None gives 1/√d_head.
        bias: whether the four projections have biases.
        output_bias: whether the last of them has one; None for as the others.
        fused_qkv: one matrix for queries, keys and values, as ViT has it (so a reparametrisation sees one weight).
    """

    takes: ClassVar = frozenset({"embedding", "rotation", "bias"})
    template: ClassVar = Template(
        matrix="softmax(QKᵀ/√d + B)",
        depends="input",
        structure="dense",
        cost="n²·d",
        normalised="softmax over keys",
    )

    d_head: int | None = None
    scale: float | None = None
    bias: bool = True
    output_bias: bool | None = None
    fused_qkv: bool = False

    def head_width(self, shape: Shape) -> int:
        if self.d_head is not None:
            if self.d_head < 1:
                raise ValueError(f"d_head must be at least 1, not {self.d_head}.")
            return self.d_head
        if shape.d_model % shape.n_heads:
            raise ValueError(
                f"d_model={shape.d_model} is not divisible by n_heads={shape.n_heads}; choose another number of heads "
                "or give the mixer its own d_head."
            )
        return shape.d_model // shape.n_heads

    def build(self, shape: Shape) -> SoftmaxMixer:
        return SoftmaxMixer(self, shape)
