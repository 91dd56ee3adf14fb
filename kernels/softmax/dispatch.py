"""The public functions: which path a call takes, by device, size and score transform, and its gradients."""

from collections.abc import Iterable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import scaled_dot_product_attention

from microtome.kernels.scores.function import runs_triton
from microtome.kernels.scores.tiles import accumulation_dtype
from microtome.kernels.scores.transform import ScoreTransform, check_values, score_transform
from microtome.kernels.softmax import blockwise, fused
from microtome.kernels.softmax.blockwise import Statistics
from microtome.kernels.softmax.equation import reference

WHOLE_SCORES = 1 << 22


def attention(
    q: Float[Tensor, "batch head query d_head"],
    k: Float[Tensor, "batch head key d_head"],
    v: Float[Tensor, "batch head key d_head"],
    *,
    bias: Float[Tensor, "bias_head query key"] | None = None,
    factor: Float[Tensor, "factor_head query key"] | None = None,
    causal: bool = False,
    mask: Bool[Tensor, "batch key"] | None = None,
    scale: float | None = None,
    positions: Int[Tensor, " query"] | None = None,
) -> Float[Tensor, "batch head query d_head"]:
    """z_i = Σ_j A_ij v_j with A = softmax(scale·q·kᵀ + bias) ⊙ factor (URPE, Luo et al. 2022, eq. 4).

    `bias` and `factor` are [head or 1, query, key]; `factor` multiplies the probabilities after the softmax,
    so rows of A need not sum to one and entries may be negative. `mask` is True where a key may be attended
    to. `causal` lets row i attend to keys j ≤ i, or j ≤ positions[i] when the queries are a subset of the
    rows. `scale` defaults to 1/√d_head. A row with no key to attend to gives z_i = 0.

    Without a factor or a learned bias this is torch's fused attention. With one it keeps the scores of a small
    problem whole, since recomputing them costs more time than they take memory, and works on tiles of rows from
    WHOLE_SCORES on (Triton on a GPU). Differentiable in q, k, v, bias and factor; tiles and fused attention only
    once. Tiles sum half precision in float32.

    Raises ValueError or TypeError on shapes, dtypes, positions or a scale outside the above.
    """
    check_values(k, v)
    transform = score_transform(
        q, k, bias=bias, factor=factor, causal=causal, mask=mask, scale=scale, positions=positions
    )
    if q.numel() == 0 or k.numel() == 0:
        return _run(q, k, v, transform).z
    small = not q.is_cuda and q.shape[:3].numel() * k.shape[2] < WHOLE_SCORES
    # torch has no fused gradient for a bias on the CPU; its own fallback keeps the scores whole.
    learned_bias = bias is not None and bias.requires_grad and torch.is_grad_enabled()
    if factor is None and (small or q.is_cuda or not learned_bias):
        return _torch_attention(q, k, v, transform)
    if small and q.dtype in (torch.float32, torch.float64):
        return _whole_attention(q, k, v, transform)
    return _run(q, k, v, transform, statistics=False).z


def attention_with_entropy(
    q: Float[Tensor, "batch head query d_head"],
    k: Float[Tensor, "batch head key d_head"],
    v: Float[Tensor, "batch head key d_head"],
    *,
    bias: Float[Tensor, "bias_head query key"] | None = None,
    factor: Float[Tensor, "factor_head query key"] | None = None,
    causal: bool = False,
    mask: Bool[Tensor, "batch key"] | None = None,
    scale: float | None = None,
    positions: Int[Tensor, " query"] | None = None,
) -> tuple[
    Float[Tensor, "batch head query d_head"],
    Float[Tensor, "batch head query"],
    Float[Tensor, "batch head query"],
]:
    """(z, entropy, lse) in one pass over the scores; arguments and errors are those of `attention`.

    Entropy (nats) and lse = log Σ_j exp s_ij are those of the softmax, before `factor`; they come in float32
    (float64 for float64 inputs). A row with no key has z = 0, entropy 0 and lse −∞. All three are
    differentiable once. On the CPU, without bias, factor and positions, it is two fused passes, and torch's fused
    backward where only z is differentiated.
    """
    check_values(k, v)
    transform = score_transform(
        q, k, bias=bias, factor=factor, causal=causal, mask=mask, scale=scale, positions=positions
    )
    return tuple(_run(q, k, v, transform))


def row_entropy(
    q: Float[Tensor, "batch head query d_head"],
    k: Float[Tensor, "batch head key d_head"],
    *,
    bias: Float[Tensor, "bias_head query key"] | None = None,
    causal: bool = False,
    mask: Bool[Tensor, "batch key"] | None = None,
    scale: float | None = None,
    positions: Int[Tensor, " query"] | None = None,
) -> Float[Tensor, "batch head query"]:
    """Ent_i = −Σ_j P_ij log P_ij in nats, between 0 and log(keys row i may attend to), without an n×n matrix.

    P = softmax(scale·q·kᵀ + bias); arguments and errors are those of `attention`. A row with no key has
    entropy 0. The result is float32 (float64 for float64 inputs), never negative. Without bias and positions
    it is one fused pass with an absolute error of at most 3e-4 at logits of 1000 (`fused` states it by size);
    otherwise the tiles lose at most 6e-5 there. Differentiable once; as a reading, call it under
    `torch.no_grad()` so that q and k are not kept.
    """
    transform = score_transform(q, k, bias=bias, causal=causal, mask=mask, scale=scale, positions=positions)
    return _run(q, k, None, transform).entropy


def log_normaliser(
    q: Float[Tensor, "batch head query d_head"],
    k: Float[Tensor, "batch head key d_head"],
    *,
    bias: Float[Tensor, "bias_head query key"] | None = None,
    causal: bool = False,
    mask: Bool[Tensor, "batch key"] | None = None,
    scale: float | None = None,
    positions: Int[Tensor, " query"] | None = None,
) -> Float[Tensor, "batch head query"]:
    """lse_i = log Σ_j exp(s_ij) over the keys row i may attend to, −∞ where there is none.

    Arguments, dtype, errors and gradients are those of `row_entropy`.
    """
    transform = score_transform(q, k, bias=bias, causal=causal, mask=mask, scale=scale, positions=positions)
    return _run(q, k, None, transform).lse


class _Attention(torch.autograd.Function):
    """The backward pass makes the scores again: Triton where it made them and no table is learned, else tiles."""

    @staticmethod
    def forward(ctx, q, k, v, bias, factor, transform, statistics):
        ctx.set_materialize_grads(False)
        ctx.transform = transform
        with torch.autocast(q.device.type, enabled=False):
            out = _forward(q, k, v, transform, statistics)
        ctx.save_for_backward(q, k, v, bias, factor, *out)
        return tuple(out)

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads):
        q, k, v, bias, factor, *saved = ctx.saved_tensors
        wide = accumulation_dtype(q.dtype)
        with torch.autocast(q.device.type, enabled=False):
            if runs_triton(q, backward=True) and not any(ctx.needs_input_grad[3:5]):
                from microtome.kernels.softmax import triton_path

                out = triton_path.backward((q, k, v), Statistics(*saved), Statistics(*grads), ctx.transform)
                return *out, None, None, None, None
            inputs, saved, grad = (
                _cast((q, k, v), wide),
                Statistics(*_cast(saved, wide)),
                Statistics(*_cast(grads, wide)),
            )
            if grad[1:] == (None, None) and grad.z is not None and fused.supports(q, ctx.transform):
                out = *fused.backward(inputs, saved, grad.z, ctx.transform), None, None
            else:
                out = blockwise.backward(inputs, saved, grad, ctx.transform, ctx.needs_input_grad[3:5])
        inputs = (q, k, v, bias, factor)
        return *(None if g is None else g.to(x.dtype) for g, x in zip(out, inputs, strict=True)), None, None


def _cast(tensors: Iterable[Tensor | None], dtype: torch.dtype) -> tuple[Tensor | None, ...]:
    return tuple(None if x is None else x.to(dtype) for x in tensors)


def _run(q: Tensor, k: Tensor, v: Tensor | None, transform: ScoreTransform, statistics: bool = True) -> Statistics:
    if q.numel() == 0 or k.numel() == 0:
        z, *rest = reference(q, k, k if v is None else v, transform)
        return Statistics(z, *_cast(rest, accumulation_dtype(q.dtype)))
    return Statistics(*_Attention.apply(q, k, v, transform.bias, transform.factor, transform, statistics))


def _forward(q: Tensor, k: Tensor, v: Tensor | None, transform: ScoreTransform, statistics: bool) -> Statistics:
    if runs_triton(q):
        from microtome.kernels.softmax import triton_path

        return triton_path.forward(q, k, v, transform)
    dtype, (q, k, v) = q.dtype, _cast((q, k, v), accumulation_dtype(q.dtype))
    if statistics and fused.supports(q, transform):
        found = fused.forward(q, k, v, transform)
        if fused.precise(found):
            return found if v is None else found._replace(z=found.z.to(dtype))
    z, entropy, lse = blockwise.forward(q, k, v, transform, statistics)
    return Statistics(None if z is None else z.to(dtype), entropy, lse)


def _torch_attention(q: Tensor, k: Tensor, v: Tensor, transform: ScoreTransform) -> Tensor:
    table = None
    aligned = transform.causal and transform.bias is None and transform.mask is None and transform.positions is None
    if not aligned:
        table = _additive(q, k, transform)
    scale = transform.scale
    if scale <= 0:
        # torch scales after it has masked: −∞ would become NaN or +∞.
        q, scale = q * scale, 1.0
    return scaled_dot_product_attention(q, k, v, attn_mask=table, is_causal=aligned, scale=scale)


def _whole_attention(q: Tensor, k: Tensor, v: Tensor, transform: ScoreTransform) -> Tensor:
    s, factor = (q * transform.scale) @ k.mT, transform.factor.to(q.dtype)
    table = _additive(q, k, transform)
    if table is None:
        return (s.softmax(-1) * factor) @ v
    s = s + table
    nowhere = table.detach().amax(-1, keepdim=True) == -torch.inf
    if not nowhere.any():
        return (s.softmax(-1) * factor) @ v
    # A softmax of −∞ alone is NaN, and so is its gradient, whatever comes after.
    weights = s.masked_fill(nowhere, 0.0).softmax(-1) * factor
    return (weights @ v).masked_fill(nowhere, 0.0)


def _additive(q: Tensor, k: Tensor, transform: ScoreTransform) -> Tensor | None:
    """bias, mask and causality as one additive table that broadcasts to [batch, head, query, key]."""
    future = transform.future(slice(0, q.shape[2]), slice(0, k.shape[2]), q.device)
    masked = None if transform.mask is None else ~transform.mask[:, None, None, :]
    if transform.bias is None and future is None and masked is None:
        return None
    table = q.new_zeros(1, 1, 1, 1) if transform.bias is None else transform.bias.to(q.dtype)[None]
    for forbidden in (future, masked):
        if forbidden is not None:
            table = table.masked_fill(forbidden, -torch.inf)
    return table
