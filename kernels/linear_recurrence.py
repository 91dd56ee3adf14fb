"""The diagonal linear recurrence h_t = a_t ⊙ h_{t−1} + b_t, h_{−1} = 0, for all t at once.

Pairs (a, b) compose associatively, (a, b) then (a′, b′) giving (a′a, a′b + b′), so that prefixes can be made by
doubling in ⌈log₂ n⌉ rounds (Hillis & Steele 1986; Blelloch 1990, "Prefix sums and their applications").
"""

import torch
from jaxtyping import Float
from torch import Tensor

Channels = Float[Tensor, "batch pos channel"]

CHUNK = 64
"""Positions that are doubled together; the chunks' last states are carried from one to the next."""


def reference(a: Channels, b: Channels) -> Channels:
    """h, step by step."""
    h, states = torch.zeros_like(b[:, 0]) if b.shape[1] else b, []
    for a_t, b_t in zip(a.unbind(1), b.unbind(1), strict=True):
        h = a_t * h + b_t
        states.append(h)
    return torch.stack(states, dim=1) if states else b


def linear_recurrence(a: Channels, b: Channels) -> Channels:
    """h of every position; differentiable in a and b.

    Args:
        a: what the state is multiplied by; no division is made, so that it may be zero.
        b: what is added to it.

    Raises:
        ValueError: if the shapes differ.
    """
    if a.shape != b.shape:
        raise ValueError(f"a and b must have one shape [batch pos channel], not {list(a.shape)} and {list(b.shape)}.")
    carry, states = None, []
    for a_part, b_part in zip(a.split(CHUNK, dim=1), b.split(CHUNK, dim=1), strict=True):
        decay, state = _doubled(a_part, b_part)
        if carry is not None:
            state = state + decay * carry
        carry = state[:, -1:]
        states.append(state)
    return torch.cat(states, dim=1) if len(states) > 1 else states[0]


def decay_matrix(a: Channels) -> Float[Tensor, "batch channel query key"]:
    """D with h_i = Σ_j D_ij b_j: the product of a over j + 1 … i, one on the diagonal, zero above it."""
    n = a.shape[1]
    rows, row = [], a.new_zeros(a.shape[0], a.shape[2], n)
    for i in range(n):
        row = row * a[:, i, :, None]
        row = torch.cat([row[..., :i], torch.ones_like(row[..., :1]), row[..., i + 1 :]], dim=-1)
        rows.append(row)
    return torch.stack(rows, dim=2)


def _doubled(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Products of a up to each position, and the states that begin from zero."""
    n, step = a.shape[1], 1
    while step < n:
        b = torch.cat([b[:, :step], b[:, step:] + a[:, step:] * b[:, :-step]], dim=1)
        a = torch.cat([a[:, :step], a[:, step:] * a[:, :-step]], dim=1)
        step *= 2
    return a, b
