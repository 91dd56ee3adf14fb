"""How EcoFormer's hash functions are learned, without labels, on a first batch (Liu et al. 2022, section 4.3, slug
`ecoformer`).

Tokens x̃ have unit length. S_ij is +1 where x̃_j is among the `NEIGHBOURS` most similar tokens to x̃_i, −1 where it is
among as many least similar ones, else 0. The bits of a code are fitted to R = b·S one after the other, each to what the
bits before it have left:

    minimise  L(a) = −(1/(N b)) yᵀRy,  y = 2/(1 + e^{−κ·a}) − 1;   then  R ← R − yyᵀ with y = sign(κ·a)

A bit's new weights are kept where L with hard signs falls.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

Tokens = Float[Tensor, "batch head pos d_head"]
KernelMap = Float[Tensor, "batch head pos anchor"]
Similarity = Float[Tensor, "batch head query key"]

NEIGHBOURS = 10
STEPS, LEARNING_RATE, MOMENTUM = 100, 5e-4, 0.9


class Hashes(NamedTuple):
    """A layer's hash functions: anchors a_s, the kernel's means μ_s at them, and the weights A of the bits."""

    anchors: Float[Tensor, "head anchor d_head"]
    mu: Float[Tensor, "head anchor"]
    weights: Float[Tensor, "head bit anchor"]


class BitLoss(NamedTuple):
    """L of one bit of each head with hard signs, for its weights before, as proposed, and as kept."""

    before: Float[Tensor, " head"]
    proposed: Float[Tensor, " head"]
    kept: Float[Tensor, " head"]


def squared_distances(x: Tokens, anchors: Float[Tensor, "head anchor d_head"]) -> KernelMap:
    """‖x − a_s‖² of every token and anchor."""
    products = x @ anchors.mT
    return (x.square().sum(-1, keepdim=True) + anchors.square().sum(-1)[:, None] - 2 * products).clamp(min=0)


def kernel(squared: KernelMap, width: Float[Tensor, "batch head #pos"]) -> KernelMap:
    """exp(−‖x − a_s‖²/(2σ²)) for σ² = `width`."""
    return (-squared / (2 * width[..., None])).exp()


def similarity(x: Tokens, neighbours: int = NEIGHBOURS) -> Similarity:
    """S: ±1 at each row's most and least similar tokens, at most half of the row each."""
    cosine = x @ x.mT
    count = min(neighbours, x.shape[2] // 2)
    s = torch.zeros_like(cosine)
    s.scatter_(-1, cosine.topk(count, -1).indices, 1.0)
    return s.scatter_(-1, cosine.topk(count, -1, largest=False).indices, -1.0)


def learn(x: Tokens, bits: int, anchors: int, generator: torch.Generator) -> tuple[Hashes, list[BitLoss]]:
    """Hash functions for tokens like these, and how L went bit by bit.

    Args:
        x: tokens of unit length, without padding.
        bits: b. anchors: m, drawn among the first example's tokens, with repetition if it has fewer.
        generator: of the anchors and of the weights' start, N(0, 1).
    """
    _, heads, n, _ = x.shape
    x = x.detach()
    chosen = torch.randperm(n, generator=generator).repeat(-(-anchors // n))[:anchors].to(x.device)
    centres = x[0, :, chosen]
    squared = squared_distances(x, centres)
    raw = kernel(squared, squared.mean((2, 3))[..., None])
    mu = raw.mean((0, 2))
    kappa = raw - mu[:, None]
    weights = torch.randn(heads, bits, anchors, generator=generator, dtype=torch.float64).to(x)
    left, losses = bits * similarity(x), []
    for r in range(bits):
        proposed = fitted_bit(kappa, left, weights[:, r], bits)
        before, after = (hard_loss(kappa, left, a, bits) for a in (weights[:, r], proposed))
        weights[:, r] = torch.where((after < before)[:, None], proposed, weights[:, r])
        losses.append(BitLoss(before, after, hard_loss(kappa, left, weights[:, r], bits)))
        y = hard(kappa, weights[:, r])
        left = left - y[..., :, None] * y[..., None, :]
    return Hashes(centres, mu, weights), losses


def fitted_bit(
    kappa: KernelMap, left: Similarity, start: Float[Tensor, "head anchor"], bits: int
) -> Float[Tensor, "head anchor"]:
    """The weights of one bit of every head after gradient descent on L with smooth signs."""
    a = start.clone().requires_grad_()
    optimizer = torch.optim.SGD([a], lr=LEARNING_RATE, momentum=MOMENTUM, nesterov=True)
    for _ in range(STEPS):
        with torch.enable_grad():
            y = 2 * torch.sigmoid(_project(kappa, a)) - 1
            loss = _loss(y, left, bits).sum()
        (a.grad,) = torch.autograd.grad(loss, a)
        optimizer.step()
    return a.detach()


def hard_loss(kappa: KernelMap, left: Similarity, a: Float[Tensor, "head anchor"], bits: int) -> Float[Tensor, " head"]:
    """L with hard signs."""
    return _loss(hard(kappa, a), left, bits)


def hard(kappa: KernelMap, a: Float[Tensor, "head anchor"]) -> Float[Tensor, "batch head pos"]:
    """sign(κ·a), +1 at zero."""
    projected = _project(kappa, a)
    return torch.where(projected >= 0, 1.0, -1.0).to(projected.dtype)


def _project(kappa: Tensor, a: Tensor) -> Tensor:
    return (kappa @ a[..., None])[..., 0]


def _loss(y: Tensor, left: Tensor, bits: int) -> Tensor:
    quadratic = ((left @ y[..., None])[..., 0] * y).sum(-1)
    return -quadratic.mean(0) / (y.shape[-1] * bits)
