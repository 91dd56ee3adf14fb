"""What the feed-forwards with one hidden layer share: out(act(in(x))), and its gated form out(act(gate(x)) · in(x))."""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor, nn

from microtome.lab.zoo.parts import Shape
from microtome.lab.zoo.points import Point

Stream = Float[Tensor, "batch pos d_model"]


class MLP(nn.Module):
    """Linear, activation, linear. `hook_pre` and `hook_post` stand before and after the activation."""

    def __init__(self, shape: Shape, d_mlp: int, act: Callable[[Tensor], Tensor], bias: bool):
        super().__init__()
        self.d_mlp, self.act = d_mlp, act
        self.in_ = nn.Linear(shape.d_model, d_mlp, bias=bias)
        self.out = nn.Linear(d_mlp, shape.d_model, bias=bias)
        self.hook_pre = Point("batch pos d_mlp", "hidden")
        self.hook_post = Point("batch pos d_mlp", "hidden")

    def forward(self, x: Stream) -> Stream:
        return self.out(self.hook_post(self.act(self.hook_pre(self.in_(x)))))

    W_in = property(lambda self: self.in_.weight.T, doc="[d_model d_mlp]")
    W_out = property(lambda self: self.out.weight.T, doc="[d_mlp d_model]")
    b_in = property(lambda self: self.in_.bias, doc="[d_mlp] or None")
    b_out = property(lambda self: self.out.bias, doc="[d_model] or None")


class GatedMLP(MLP):
    """`hook_pre` is the gate before its activation, `hook_pre_linear` what it multiplies, `hook_post` the product."""

    def __init__(self, shape: Shape, d_mlp: int, act: Callable[[Tensor], Tensor], bias: bool):
        super().__init__(shape, d_mlp, act, bias)
        self.gate = nn.Linear(shape.d_model, d_mlp, bias=bias)
        self.hook_pre_linear = Point("batch pos d_mlp", "hidden")

    def forward(self, x: Stream) -> Stream:
        gate = self.act(self.hook_pre(self.gate(x)))
        return self.out(self.hook_post(gate * self.hook_pre_linear(self.in_(x))))

    W_gate = property(lambda self: self.gate.weight.T, doc="[d_model d_mlp]")


def width(d_mlp: int | None, default: int) -> int:
    """The hidden width: as asked, or the default; refuses widths below one."""
    if d_mlp is not None and d_mlp < 1:
        raise ValueError(f"d_mlp must be at least 1, not {d_mlp}.")
    return default if d_mlp is None else d_mlp
