"""Codes of ±1: from real numbers with a straight-through gradient, to bits and back, and compared as bits."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from microtome.kernels.gpu import takes_triton

WORD = 32
"""Bits to an int64 word; the upper half stays free, so that no sign bit is in the way of shifts."""


class _StraightThrough(torch.autograd.Function):
    """sign forwards; backwards the identity where |x| < 1 and zero elsewhere (Courbariaux et al. 2016)."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x.abs() < 1)
        return torch.where(x >= 0, 1.0, -1.0).to(x.dtype)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return gradient * ctx.saved_tensors[0]


def signs(x: Float[Tensor, "*axes"]) -> Float[Tensor, "*axes"]:
    """±1 of x's dtype, +1 for zero; the gradient passes where |x| < 1."""
    return _StraightThrough.apply(x)


def hash_codes(
    kappa: Float[Tensor, "batch head pos anchor"], a: Float[Tensor, "head bit anchor"]
) -> Float[Tensor, "batch head pos bit"]:
    """sign(Aκ) ∈ {±1}, with the straight-through gradient of `signs`."""
    return signs(kappa @ a.mT)


def hash_words(
    kappa: Float[Tensor, "batch head pos anchor"], a: Float[Tensor, "head bit anchor"]
) -> Int[Tensor, "batch head pos word"]:
    """The same codes packed, without gradient; a GPU makes the words of up to 32 bits in one kernel.

    Raises:
        ValueError: if κ and A disagree about heads or anchors.
    """
    if kappa.shape[1] != a.shape[0] or kappa.shape[3] != a.shape[2]:
        raise ValueError(
            f"κ [batch head pos anchor] = {list(kappa.shape)} and A [head bit anchor] = {list(a.shape)} must agree "
            "about heads and anchors."
        )
    if takes_triton(kappa) and a.shape[1] <= WORD:
        from microtome.kernels.binary_hash import triton_path

        return triton_path.words(kappa, a).long()[..., None] & 0xFFFFFFFF
    return pack(hash_codes(kappa.detach(), a.detach()))


def pack(codes: Float[Tensor, "*axes bit"]) -> Int[Tensor, "*axes word"]:
    """Codes as bits, 32 to a word, bit r of word w being 1 where code 32w + r is positive."""
    bits = (codes > 0).long()
    words = -(-codes.shape[-1] // WORD)
    padded = torch.nn.functional.pad(bits, (0, words * WORD - codes.shape[-1])).unflatten(-1, (words, WORD))
    return (padded << torch.arange(WORD, device=codes.device)).sum(-1)


def unpack(packed: Int[Tensor, "*axes word"], bits: int) -> Float[Tensor, "*axes bit"]:
    """The codes that `pack` packed, in float32."""
    each = (packed[..., None] >> torch.arange(WORD, device=packed.device)) & 1
    return (2 * each.flatten(-2)[..., :bits] - 1).float()


def hamming(a: Int[Tensor, "*#axes word"], b: Int[Tensor, "*#axes word"]) -> Int[Tensor, "*_"]:
    """In how many bits packed codes differ; the axes before the last are broadcast."""
    return _popcount(a ^ b).sum(-1)


def inner_products(
    a: Int[Tensor, "*batch query word"], b: Int[Tensor, "*batch key word"], bits: int
) -> Int[Tensor, "*batch query key"]:
    """⟨h, h'⟩ = bits − 2·Hamming(h, h') of every pair of packed codes."""
    return bits - 2 * _popcount(a[..., :, None, :] ^ b[..., None, :, :]).sum(-1)


def _popcount(word: Tensor) -> Tensor:
    """Ones of each word, in pairs, fours and bytes at once (Warren 2013, "Hacker's Delight", section 5-1)."""
    word = word - ((word >> 1) & 0x55555555)
    word = (word & 0x33333333) + ((word >> 2) & 0x33333333)
    word = (word + (word >> 4)) & 0x0F0F0F0F
    return ((word * 0x01010101) & 0xFFFFFFFF) >> 24
