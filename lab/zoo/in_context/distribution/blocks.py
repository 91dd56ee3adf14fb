"""One layer of a post-norm decoder without positions and masks: among the components, then to the data.

    x ← LN₁(x + SelfAttn(x)),   x ← LN₂(x + CrossAttn(x, data)),   x ← LN₃(x + W₂ gelu(W₁x))

With the same weights it is torch's `nn.TransformerDecoderLayer` (Vaswani et al. 2017).
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from microtome.lab.zoo.feedforward import gelu
from microtome.lab.zoo.mixers.softmax import Part, SoftmaxMixer
from microtome.lab.zoo.norms.layernorm import LayerNorm
from microtome.lab.zoo.parts import Context, Position, Shape
from microtome.lab.zoo.points import Point

Stream = Float[Tensor, "batch pos d_model"]
Data = Float[Tensor, "batch key d_model"]
EPS = 1e-5


@dataclass(frozen=True)
class _DataContext(Context):
    """A context of which the keys and values are data tokens, [batch key d_model]."""

    data: Tensor | None = None


class CrossMixer(SoftmaxMixer):
    """Softmax attention from the stream to the data tokens."""

    def __init__(self, shape: Shape):
        super().__init__(Part(), shape)
        self.hook_k = Point("batch key head d_head", "key")
        self.hook_v = Point("batch key head d_head", "value")

    def _project(self, x: Tensor, context: Context) -> tuple[Tensor, Tensor, Tensor]:
        return self.q(x), self.k(context.data), self.v(context.data)


class DecoderBlock(nn.Module):
    """The layer above. `attn` and `cross` have the points of every attention of the house.

    Args:
        shape: `n_ctx` is not used.
        d_mlp: hidden width of the feed-forward.
    """

    def __init__(self, shape: Shape, d_mlp: int):
        super().__init__()
        self.hook_resid_pre = Point("batch pos d_model", "stream")
        self.attn = SoftmaxMixer(Part(), shape)
        self.hook_attn_out = Point("batch pos d_model", "write")
        self.ln1 = LayerNorm(shape.d_model, EPS)
        self.cross = CrossMixer(shape)
        self.hook_cross_out = Point("batch pos d_model", "write")
        self.ln2 = LayerNorm(shape.d_model, EPS)
        self.mlp = gelu.Part(d_mlp, approximate="none").build(shape)
        self.hook_mlp_out = Point("batch pos d_model", "write")
        self.ln3 = LayerNorm(shape.d_model, EPS)
        self.hook_resid_post = Point("batch pos d_model", "stream")
        self._start(shape.d_model)

    def forward(self, x: Stream, data: Data) -> Stream:
        among, to_data = Context(Position(), x.shape[1]), _DataContext(Position(), x.shape[1], data=data)
        x = self.hook_resid_pre(x)
        x = self.ln1(x + self.hook_attn_out(self.attn(x, among)))
        x = self.ln2(x + self.hook_cross_out(self.cross(x, to_data)))
        x = self.ln3(x + self.hook_mlp_out(self.mlp(x)))
        return self.hook_resid_post(x)

    def _start(self, d_model: int) -> None:
        """torch's start of a decoder layer, but for what self-attention and the feed-forward write: zero at first."""
        bound = (6 / (4 * d_model)) ** 0.5  # Glorot's, of the stacked 3d × d projection
        for mixer in (self.attn, self.cross):
            for linear in (mixer.q, mixer.k, mixer.v):
                nn.init.uniform_(linear.weight, -bound, bound)
                nn.init.zeros_(linear.bias)
            nn.init.zeros_(mixer.o.bias)
        nn.init.zeros_(self.attn.o.weight)
        nn.init.zeros_(self.mlp.out.weight)
        nn.init.zeros_(self.mlp.out.bias)
