"""Softmax attention of one query over every prefix of its keys, as a scan.

    o_k = Σ_{j≤k} e^{s_j} v_j / Σ_{j≤k} e^{s_j}

A set of keys is summed up by a triple (m, u, w) = (max s, Σ e^{s−m}, Σ e^{s−m} v), and two disjoint sets by

    m = max(m_A, m_B),   u = u_A e^{m_A−m} + u_B e^{m_B−m},   w = w_A e^{m_A−m} + w_B e^{m_B−m},

which is associative and commutative; the identity is (−∞, 0, 0), a leaf (s, 1, v), and o = w/u (Feng et al. 2024,
"Attention as an RNN", slug `aaren`). m takes no gradient: o does not depend on it. Scores are finite, or −∞ for a key
that weighs nothing; before the first key that weighs something o = 0.

With L_k = log Σ_{j≤k} e^{s_j}, the gradients are sums from the right, dv_j = Σ_{k≥j} e^{s_j−L_k} do_k and
ds_j = v_j·dv_j − Σ_{k≥j} e^{s_j−L_k} (do_k·o_k). As L never falls with k, no exponent in any of this is above 0.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from microtome.kernels.gpu import takes_triton

CHUNK = 128
"""Positions whose weights are held at once: [CHUNK, CHUNK] for each sequence."""


class Triple(NamedTuple):
    """Sums over sets of keys: m and u [*sets], w [*sets d_v]."""

    m: Tensor
    u: Tensor
    w: Tensor

    @property
    def output(self) -> Tensor:
        """w/u, 0 for a set without keys; [*sets d_v]."""
        return self.w / self.u.masked_fill(self.u == 0, 1.0)[..., None]


def identity(values: Float[Tensor, "*sets d_v"]) -> Triple:
    """The triple of no keys, once for each vector of `values`."""
    nothing = torch.zeros_like(values[..., 0])
    return Triple(torch.full_like(nothing, -torch.inf), nothing, torch.zeros_like(values))


def leaves(scores: Float[Tensor, "*sets"], values: Float[Tensor, "*sets d_v"]) -> Triple:
    """The triple of each key by itself."""
    m = scores.detach()
    u = (scores - _finite(m)).exp()  # 1, with the score's gradient; 0 where the score is −∞
    return Triple(m, u, u[..., None] * values)


def combine(a: Triple, b: Triple) -> Triple:
    """The triple of the union; of two identities the identity, where a plain −∞ − (−∞) would be NaN."""
    m = torch.maximum(a.m, b.m)
    top = _finite(m)
    of_a, of_b = (a.m - top).exp(), (b.m - top).exp()
    return Triple(m, a.u * of_a + b.u * of_b, a.w * of_a[..., None] + b.w * of_b[..., None])


def reduce(scores: Float[Tensor, "*sets pos"], values: Float[Tensor, "*sets pos d_v"]) -> Triple:
    """The triple of all positions together: with `combine`, what a block of tokens does to a state."""
    if scores.shape[-1] == 0:
        return identity(values.new_zeros(*scores.shape[:-1], values.shape[-1]))
    m = scores.detach().amax(-1)
    weights = (scores - _finite(m)[..., None]).exp()
    return Triple(m, weights.sum(-1), (weights[..., None, :] @ values)[..., 0, :])


def step(
    state: Triple, score: Float[Tensor, "*sets"], value: Float[Tensor, "*sets d_v"]
) -> tuple[Float[Tensor, "*sets d_v"], Triple]:
    """The output after one more key, and the state: d_v + 2 numbers, however many keys it has seen."""
    state = combine(state, leaves(score, value))
    return state.output, state


def reference(
    scores: Float[Tensor, "*batch pos"], values: Float[Tensor, "*batch pos d_v"]
) -> Float[Tensor, "*batch pos d_v"]:
    """o by one softmax a prefix, all in one [pos, pos] matrix."""
    n = scores.shape[-1]
    future = torch.ones(n, n, dtype=torch.bool, device=scores.device).triu(1)
    table = scores[..., None, :].masked_fill(future, -torch.inf)
    nowhere = table.amax(-1, keepdim=True) == -torch.inf if n else future
    weights = table.masked_fill(nowhere, 0.0).softmax(-1).masked_fill(nowhere, 0.0)
    return weights @ values


def hillis_steele(triples: Triple) -> tuple[Triple, int]:
    """Inclusive prefixes along the last axis of m, and the number of rounds that they took, ⌈log₂ pos⌉.

    In round r element i ≥ 2^r takes T_{i−2^r} ⊕ T_i and the others stay (Hillis & Steele 1986).
    """
    n, shift, rounds = triples.m.shape[-1], 1, 0
    while shift < n:
        m, u, w = triples
        earlier = Triple(m[..., :-shift], u[..., :-shift], w[..., :-shift, :])
        later = Triple(m[..., shift:], u[..., shift:], w[..., shift:, :])
        done = combine(earlier, later)
        triples = Triple(
            torch.cat([m[..., :shift], done.m], -1),
            torch.cat([u[..., :shift], done.u], -1),
            torch.cat([w[..., :shift, :], done.w], -2),
        )
        shift, rounds = 2 * shift, rounds + 1
    return triples, rounds


def prefix_attention(
    scores: Float[Tensor, "*batch pos"], values: Float[Tensor, "*batch pos d_v"]
) -> Float[Tensor, "*batch pos d_v"]:
    """o of every prefix; work and memory linear in the length, sums in float32 for half precision.

    Args:
        scores: s_j, finite, or −∞ for a key that weighs nothing.
        values: v_j, of the same dtype.

    Differentiable once in both. Chunks of positions on the CPU, a Triton kernel on a GPU.

    Raises:
        ValueError: if scores and values do not share batch and positions. TypeError: if their dtypes differ.
    """
    if scores.shape != values.shape[:-1]:
        raise ValueError(f"scores must have the shape of values without d_v, {list(values.shape[:-1])}, "
                         f"not {list(scores.shape)}.")  # fmt: skip
    if scores.dtype != values.dtype:
        raise TypeError(f"scores and values must share a dtype, not {scores.dtype} and {values.dtype}.")
    return _PrefixAttention.apply(scores, values)


class _PrefixAttention(torch.autograd.Function):
    """Whatever path the forward pass takes, the backward pass goes over chunks from the right."""

    @staticmethod
    def forward(ctx, scores, values):
        with torch.autocast(scores.device.type, enabled=False):
            outputs, lse = _forward(scores, values)
        ctx.save_for_backward(scores, values, outputs, lse)
        return outputs.to(values.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        scores, values, outputs, lse = ctx.saved_tensors
        with torch.autocast(scores.device.type, enabled=False):
            d_scores, d_values = _backward(scores.to(lse.dtype), values.to(lse.dtype), outputs, lse, grad.to(lse.dtype))
        return d_scores.to(scores.dtype), d_values.to(values.dtype)


def _forward(scores: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """o [*batch pos d_v] and L [*batch pos], float32 or wider."""
    if takes_triton(scores):
        from microtome.kernels.scan import triton_prefix_softmax

        if triton_prefix_softmax.supports(values):
            return triton_prefix_softmax.forward(scores, values)
    wide = torch.promote_types(scores.dtype, torch.float32)
    return chunked(scores.to(wide), values.to(wide))


def chunked(
    scores: Float[Tensor, "*batch pos"], values: Float[Tensor, "*batch pos d_v"]
) -> tuple[Float[Tensor, "*batch pos d_v"], Float[Tensor, "*batch pos"]]:
    """o and L, chunk by chunk: weights within one, and the triple of all earlier ones. Without gradient."""
    carry = identity(values.new_zeros(*scores.shape[:-1], values.shape[-1]))
    outputs, lse = torch.empty_like(values), torch.empty_like(scores)
    for start in range(0, scores.shape[-1], CHUNK):
        part = slice(start, start + CHUNK)
        s, v = scores[..., part], values[..., part, :]
        m = torch.maximum(s.cummax(-1).values, carry.m[..., None])
        top = _finite(m)
        weights = _without_future(s[..., None, :] - top[..., None]).exp_()
        earlier = (carry.m[..., None] - top).exp()
        u = weights.sum(-1) + earlier * carry.u[..., None]
        w = weights @ v + earlier[..., None] * carry.w[..., None, :]
        outputs[..., part, :] = Triple(m, u, w).output
        lse[..., part] = top + u.log()
        carry = Triple(m[..., -1], u[..., -1], w[..., -1, :])
    return outputs, lse


def _backward(scores: Tensor, values: Tensor, outputs: Tensor, lse: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of scores and values; G_k = (do_k, do_k·o_k) is summed from the right, relative to e^{−L}."""
    summand = torch.cat([grad, (grad * outputs).sum(-1, keepdim=True)], -1)  # G
    d_scores, d_values = torch.empty_like(scores), torch.empty_like(values)
    later = summand.new_zeros(*scores.shape[:-1], summand.shape[-1])  # Σ e^{L_end−L_k} G_k over chunks to the right
    for start in reversed(range(0, scores.shape[-1], CHUNK)):
        part = slice(start, start + CHUNK)
        s, level, g = scores[..., part], _finite(lse[..., part]), summand[..., part, :]
        weights = _without_future(s[..., None, :] - level[..., None]).exp_()  # [query, key]
        total = weights.mT @ g + (s - level[..., -1:]).exp()[..., None] * later[..., None, :]
        d_values[..., part, :] = total[..., :-1]
        d_scores[..., part] = (total[..., :-1] * values[..., part, :]).sum(-1) - total[..., -1]
        if start:
            before = lse[..., start - 1]
            later = later * (before - level[..., -1]).exp()[..., None]
            later = later + ((before[..., None] - level).exp()[..., None, :] @ g)[..., 0, :]
    return d_scores, d_values


def _without_future(table: Tensor) -> Tensor:
    """[query, key] with −∞ at keys after the query, in place."""
    n = table.shape[-1]
    return table.masked_fill_(torch.ones(n, n, dtype=torch.bool, device=table.device).triu_(1), -torch.inf)


def _finite(level: Tensor) -> Tensor:
    """0 in place of −∞, so that e^{−∞ − level} is 0 and not NaN."""
    return level.masked_fill(level == -torch.inf, 0.0)
