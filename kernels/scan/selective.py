"""The selective scan (S6): a diagonal state space of every channel whose step, input and read-out follow the input.

    h_t[c, n] = e^{Δ_t[c] A[c, n]} h_{t−1}[c, n] + Δ_t[c] B_t[n] x_t[c],   y_t[c] = Σ_n C_t[n] h_t[c, n]

(Gu & Dao 2023, "Mamba: linear-time sequence modeling with selective state spaces"; "A Survey of Mamba", 2024, slug
`survey_mamba`, section 3. The input takes ΔB, Euler's step, and not the zero-order hold.) Δ_t = 0 leaves the state as
it is. With g_t = ∂L/∂h_t, which obeys the same recurrence from the right, g_t = C_t dy_t + e^{Δ_{t+1} A} g_{t+1},

    dC_t = Σ_c h_t dy_t,   dB_t = Σ_c g_t Δ_t x_t,   d(Δ_t x_t) = Σ_n g_t B_t,   d(Δ_t A) = g_t e^{Δ_t A} h_{t−1}.

The states of all positions are never held at once: a segment of them at a time, √segment positions in a row and as many
rows side by side; the backward pass makes each segment's again from the state at its start.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from microtome.kernels.gpu import takes_triton

Channels = Float[Tensor, "batch pos channel"]
States = Float[Tensor, "batch pos state"]

SEGMENT_ELEMENTS = 1 << 19
"""About how many numbers [pos, batch, state, channel] of states are held at once."""
SHORTEST_SEGMENT = 16


class Inputs(NamedTuple):
    """x and Δ [batch pos channel], A [channel state], B and C [batch pos state]."""

    x: Tensor
    delta: Tensor
    A: Tensor
    B: Tensor
    C: Tensor


def reference(x: Channels, delta: Channels, A: Float[Tensor, "channel state"], B: States, C: States) -> Channels:
    """y, step by step."""
    h = x.new_zeros(x.shape[0], *A.shape)
    outputs = []
    for t in range(x.shape[1]):
        y, h = step(h, x[:, t], delta[:, t], A, B[:, t], C[:, t])
        outputs.append(y)
    return torch.stack(outputs, dim=1) if outputs else torch.empty_like(x)


def step(
    h: Float[Tensor, "batch channel state"],
    x: Float[Tensor, "batch channel"],
    delta: Float[Tensor, "batch channel"],
    A: Float[Tensor, "channel state"],
    B: Float[Tensor, "batch state"],
    C: Float[Tensor, "batch state"],
) -> tuple[Float[Tensor, "batch channel"], Float[Tensor, "batch channel state"]]:
    """y and h of one more position."""
    h = (delta[..., None] * A).exp() * h + (delta * x)[..., None] * B[:, None]
    return (h * C[:, None]).sum(-1), h


def compose(first: tuple[Tensor, Tensor], then: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """The scan's associative operator: h ← a h + b, first one pair (a, b) and then the other."""
    return then[0] * first[0], then[0] * first[1] + then[1]


def selective_scan(x: Channels, delta: Channels, A: Float[Tensor, "channel state"], B: States, C: States) -> Channels:
    """y of all positions; time linear in the length, memory that of the inputs.

    Args:
        x: the input of every channel.
        delta: Δ ≥ 0, how far the state moves; 0 at padding.
        A: what the state decays by, below 0.
        B, C: what the input enters by, and what is read out.

    Differentiable once in all of them. Sums are in float32 for half precision, and y has the dtype of x.

    Raises:
        ValueError: if the shapes do not belong together.
    """
    batch, n, channel = x.shape
    for name, tensor, wanted in (
        ("delta", delta, (batch, n, channel)),
        ("A", A, (channel, *A.shape[1:])),
        ("B", B, (batch, n, *A.shape[1:])),
        ("C", C, (batch, n, *A.shape[1:])),
    ):
        if tuple(tensor.shape) != wanted:
            raise ValueError(f"{name} must be {list(wanted)} beside x {list(x.shape)} and A {list(A.shape)}, "
                             f"not {list(tensor.shape)}.")  # fmt: skip
    return _SelectiveScan.apply(x, delta, A, B, C)


def effective_matrix(
    delta: Channels, A: Float[Tensor, "channel state"], B: States, C: States
) -> Float[Tensor, "batch channel query key"]:
    """M of every channel with y = M x: M_ts = Σ_n C_t[n] e^{A[n] Σ_{s<r≤t} Δ_r} B_s[n] Δ_s for s ≤ t; explicit."""
    n = delta.shape[1]
    later = torch.ones(n, n, dtype=torch.bool, device=delta.device).tril(-1)
    total = (delta.mT[..., None] * later).cumsum(-2)  # Σ over s < r ≤ t, without differences of long sums
    weights = torch.zeros_like(total)
    for a, b, c in zip(A.unbind(1), B.unbind(2), C.unbind(2), strict=True):
        weights = weights + (total * a[:, None, None]).exp() * c[:, None, :, None] * b[:, None, None]
    return weights.tril() * delta.mT[:, :, None]


class _SelectiveScan(torch.autograd.Function):
    @staticmethod
    def forward(ctx, *tensors):
        inputs, dtype = Inputs(*tensors), tensors[0].dtype
        with torch.autocast(inputs.x.device.type, enabled=False):
            path = _path(inputs)
            y, starts = path.forward(inputs)
        ctx.path = path
        ctx.save_for_backward(*inputs, starts)
        return y.to(dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        *tensors, starts = ctx.saved_tensors
        inputs = Inputs(*tensors)
        with torch.autocast(grad.device.type, enabled=False):
            grads = ctx.path.backward(inputs, starts, grad)
        return tuple(g.to(t.dtype) for g, t in zip(grads, inputs, strict=True))


def _path(inputs: Inputs):
    """The module with `forward` and `backward` for these inputs."""
    if takes_triton(inputs.x):
        from microtome.kernels.scan import triton_selective

        if triton_selective.supports(inputs.x, inputs.A):
            return triton_selective
    return Segments


class Segments:
    """The chunked path: [pos, batch, state, channel], channels innermost so that every operation runs along them."""

    @staticmethod
    def forward(inputs: Inputs) -> tuple[Tensor, Tensor]:
        """y, and the state [segment, batch, state, channel] at the start of each segment."""
        x, delta, A, B, C = _positions_first(inputs)
        h = x.new_zeros(x.shape[1], A.shape[0], x.shape[2])
        y, starts = torch.empty_like(x), []
        for part in _segments(x, A):
            starts.append(h)
            states = _entering(delta[part] * x[part], B[part])
            _states(_decay(delta[part], A), states, h, delta[part], A)
            y[part] = (C[part, :, None] @ states)[:, :, 0]
            h = states[-1].clone()
        return y.transpose(0, 1), torch.stack(starts) if starts else x.new_zeros(0, *h.shape)

    @staticmethod
    def backward(inputs: Inputs, starts: Tensor, grad: Tensor) -> Inputs:
        """The gradient of each input."""
        x, delta, A, B, C = _positions_first(inputs)
        dy = grad.to(x.dtype).transpose(0, 1)
        into = Inputs(*map(torch.zeros_like, (x, delta, A, B, C)))
        g_next = torch.zeros_like(starts[0]) if len(starts) else None  # e^{Δ_{t+1} A} g_{t+1}
        for part, h in reversed(list(zip(_segments(x, A), starts, strict=True))):
            moved = delta[part] * x[part]
            decay = _decay(delta[part], A)
            states = _entering(moved, B[part])
            _states(decay, states, h, delta[part], A)
            into.C[part] = torch.einsum("tbnc,tbc->tbn", states, dy[part])
            before = torch.cat([h[None], states[:-1]])
            g = _entering(dy[part], C[part])
            g[-1] += g_next
            _states_from_the_right(decay, g, delta[part], A)
            into.B[part] = torch.einsum("tbnc,tbc->tbn", g, moved)
            d_moved = (B[part, :, None] @ g)[:, :, 0]
            g_next = decay[0] * g[0]
            exponent = before.mul_(decay).mul_(g)  # the gradient of ΔA
            into.x[part] = d_moved * delta[part]
            into.delta[part] = (exponent * A).sum(2) + d_moved * x[part]
            into.A.add_(exponent.mul_(delta[part, :, None]).sum((0, 1)))
        return Inputs(*(each.transpose(0, 1) for each in into))


def _positions_first(inputs: Inputs) -> Inputs:
    """[pos, batch, …] and A as [state, channel], in float32 or wider."""
    wide = torch.promote_types(inputs.x.dtype, torch.float32)
    return Inputs(*(each.to(wide).transpose(0, 1).contiguous() for each in inputs))


def _segments(x: Tensor, A: Tensor) -> Iterator[slice]:
    length = max(SHORTEST_SEGMENT, SEGMENT_ELEMENTS // max(1, x[0].numel() * A.shape[0])) if len(x) else 1
    return (slice(start, min(start + length, len(x))) for start in range(0, len(x), length))


def _decay(delta: Tensor, A: Tensor) -> Tensor:
    """e^{ΔA} [pos batch state channel]."""
    return (delta[:, :, None] * A).exp_()


def _entering(x: Tensor, B: Tensor) -> Tensor:
    """B ⊗ x [pos batch state channel]."""
    return B[..., None] * x[:, :, None]


def _states(a: Tensor, b: Tensor, start: Tensor, delta: Tensor, A: Tensor) -> None:
    """h_t = a_t h_{t−1} + b_t from `start`, written over b.

    Rows of √n positions are walked side by side: once for where each row would end from zero, which tells where each
    begins, and once from there. Products of a over a row are e^{A ΣΔ}.
    """
    n = len(a)
    row = max(1, math.isqrt(n))
    rows, whole = n // row, n // row * row
    a_rows, b_rows = (each[:whole].unflatten(0, (rows, row)) for each in (a, b))
    last = b_rows[:, 0]
    for t in range(1, row):
        last = torch.addcmul(b_rows[:, t], a_rows[:, t], last)
    product = _decay(delta[:whole].unflatten(0, (rows, row)).sum(1), A)
    h = torch.empty_like(last)
    h[0] = start
    for k in range(1, rows):
        torch.addcmul(last[k - 1], product[k - 1], h[k - 1], out=h[k])
    for t in range(row):
        h = b_rows[:, t].addcmul_(a_rows[:, t], h)
    h = b[whole - 1]
    for t in range(whole, n):
        h = b[t].addcmul_(a[t], h)


def _states_from_the_right(a: Tensor, b: Tensor, delta: Tensor, A: Tensor) -> None:
    """g_t = b_t + a_{t+1} g_{t+1}, written over b; as `_states`, in the other direction."""
    n = len(a)
    row = max(1, math.isqrt(n))
    rows, tail = n // row, n % row
    for t in reversed(range(n - tail, n - 1)):
        b[t].addcmul_(a[t + 1], b[t + 1])
    if tail and n > tail:
        b[n - tail - 1].addcmul_(a[n - tail], b[n - tail])
    whole = n - tail
    a_rows, b_rows = (each[:whole].unflatten(0, (rows, row)) for each in (a, b))
    first = b_rows[:, -1]
    for t in reversed(range(row - 1)):
        first = torch.addcmul(b_rows[:, t], a_rows[:, t + 1], first)
    # What enters row k from the right is a_{first of row k+1} g_{first of row k+1}.
    product = _decay(delta[:whole].unflatten(0, (rows, row)).sum(1), A)
    entering = torch.zeros_like(first)
    for k in reversed(range(rows - 1)):
        torch.addcmul(a_rows[k + 1, 0] * first[k + 1], product[k + 1], entering[k + 1], out=entering[k])
    g = b_rows[:, -1].add_(entering)
    for t in reversed(range(row - 1)):
        g = b_rows[:, t].addcmul_(a_rows[:, t + 1], g)
