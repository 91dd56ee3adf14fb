"""State-space duality: linear attention under a decay that all channels of a head share, as attention or as recurrence.

    y_t = Σ_{s≤t} (q_t·k_s) Π_{s<r≤t} a_r · v_s            Y = (L ∘ QKᵀ) V,   L_ts = Π_{s<r≤t} a_r
    S_t = a_t S_{t−1} + k_t v_tᵀ,   y_t = S_tᵀ q_t

(Dao & Gu 2024, "Transformers are SSMs", with q = C, k = B, v = ΔX and a = e^{ΔA}; "A Survey of Mamba", 2024, slug
`survey_mamba`, sections 7 and 8). a ≡ 1 is causal linear attention without its normaliser, a constant of each head is
retention (Sun et al. 2023, "Retentive network"). `log_decay` is log a ≤ 0: −∞ empties the state, 0 keeps it. Products
of decays are sums of logarithms, masked and then summed up: differences of long sums would lose the short ones.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from microtome.kernels.gpu import takes_triton

Keys = Float[Tensor, "batch head pos state"]
Values = Float[Tensor, "batch head pos d_v"]
Decays = Float[Tensor, "batch head pos"]

CHUNK = 64
"""Positions that are attended to in full; what came before is in the state."""


def segment_sums(log_decay: Float[Tensor, "*batch pos"]) -> Float[Tensor, "*batch query key"]:
    """log L: Σ_{key<r≤query} log_decay_r, −∞ for keys after the query."""
    n = log_decay.shape[-1]
    after = torch.ones(n, n, dtype=torch.bool, device=log_decay.device)
    # masked before it is summed up; −∞ times 0 would be NaN
    steps = log_decay[..., :, None].expand(*log_decay.shape, n).masked_fill(~after.tril(-1), 0.0)
    return steps.cumsum(-2).masked_fill(~after.tril(), -torch.inf)


def matrix(q: Keys, k: Keys, log_decay: Decays) -> Float[Tensor, "batch head query key"]:
    """L ∘ QKᵀ, explicit."""
    return (q @ k.mT) * segment_sums(log_decay).exp()


def reference(q: Keys, k: Keys, v: Values, log_decay: Decays) -> Values:
    """The quadratic form."""
    return matrix(q, k, log_decay) @ v


def recurrent(q: Keys, k: Keys, v: Values, log_decay: Decays) -> Values:
    """The recurrence, step by step."""
    state, outputs = v.new_zeros(*k.shape[:2], k.shape[-1], v.shape[-1]), []
    for t in range(k.shape[2]):
        y, state = step(state, q[:, :, t], k[:, :, t], v[:, :, t], log_decay[:, :, t])
        outputs.append(y)
    return torch.stack(outputs, dim=2) if outputs else torch.empty_like(v)


def step(
    state: Float[Tensor, "batch head state d_v"],
    q: Float[Tensor, "batch head state"],
    k: Float[Tensor, "batch head state"],
    v: Float[Tensor, "batch head d_v"],
    log_decay: Float[Tensor, "batch head"],
) -> tuple[Float[Tensor, "batch head d_v"], Float[Tensor, "batch head state d_v"]]:
    """y and S of one more position."""
    state = log_decay.exp()[..., None, None] * state + k[..., None] * v[..., None, :]
    return (q[..., None, :] @ state)[..., 0, :], state


def chunked(q: Keys, k: Keys, v: Values, log_decay: Decays) -> Values:
    """The quadratic form within chunks and the recurrence between them; differentiable."""
    state = v.new_zeros(*k.shape[:2], k.shape[-1], v.shape[-1])
    outputs = []
    for q_c, k_c, v_c, log_c in zip(*(each.split(CHUNK, 2) for each in (q, k, v, log_decay)), strict=True):
        table = segment_sums(log_c).exp()
        since_start = log_c.cumsum(-1).exp()  # Π over the chunk up to t
        y = ((q_c @ k_c.mT) * table) @ v_c + (q_c * since_start[..., None]) @ state
        state = since_start[..., -1:, None] * state + (k_c * table[..., -1, :, None]).mT @ v_c
        outputs.append(y)
    return torch.cat(outputs, dim=2)


def ssd(q: Keys, k: Keys, v: Values, log_decay: Decays) -> Values:
    """y of all positions; time and memory linear in the length. Differentiable in everything.

    Args:
        q, k: read-out C and input B of the state space; may be expanded over heads, which costs nothing.
        v: what enters, Δ·x in Mamba-2.
        log_decay: log a_t ≤ 0 of each head; 0 (with k or v at zero) leaves the state as it is.

    Sums are in float32 for half precision, and y has the dtype of v.

    Raises:
        ValueError: if the shapes do not belong together.
    """
    lead = tuple(v.shape[:3])
    for name, shape in (("q", q.shape[:-1]), ("k", k.shape[:-1]), ("log_decay", log_decay.shape)):
        if tuple(shape) != lead:
            raise ValueError(f"{name} must have the batch, heads and positions of v, {list(lead)}, not {list(shape)}.")
    if q.shape[-1] != k.shape[-1]:
        raise ValueError(f"q and k must have states of one width, not {q.shape[-1]} and {k.shape[-1]}.")
    if v.shape[2] == 0:
        return torch.empty_like(v)
    if takes_triton(v):
        from microtome.kernels.scan import triton_ssd

        if triton_ssd.supports(k, v):
            return _TritonSSD.apply(q, k, v, log_decay)
    return _wide_chunked(q, k, v, log_decay)


def _wide_chunked(q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor) -> Tensor:
    wide = torch.promote_types(v.dtype, torch.float32)
    with torch.autocast(v.device.type, enabled=False):
        return chunked(*(each.to(wide) for each in (q, k, v, log_decay))).to(v.dtype)


class _TritonSSD(torch.autograd.Function):
    """The kernels forwards; backwards the chunked form, made again."""

    @staticmethod
    def forward(ctx, q, k, v, log_decay):
        from microtome.kernels.scan import triton_ssd

        ctx.save_for_backward(q, k, v, log_decay)
        return triton_ssd.forward(q, k, v, log_decay)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        inputs = [each.detach().requires_grad_() for each in ctx.saved_tensors]
        with torch.enable_grad():
            return torch.autograd.grad(_wide_chunked(*inputs), inputs, grad)
