"""Attention between binary codes: hashing, packed codes, and the linear form.

    h = sign(Aκ) ∈ {±1}^b,   s_ij = ⟨h_i, h_j⟩ + c,   z_i = Σ_j s_ij v_j / Σ_j s_ij                               (1)
    z_i = [h_iᵀ (Σ_j h_j v_jᵀ) + c Σ_j v_j] / [h_iᵀ Σ_j h_j + c n]                                                (2)

(Liu et al. 2022, "EcoFormer: Energy-Saving Attention with Linear Complexity", equations 3 and 8, slug `ecoformer`.)
c > b keeps every s_ij positive, since ⟨h, h'⟩ = b − 2·Hamming(h, h') ≥ −b. A product with ±1 is an addition with or
without a flipped sign; on the GPU path codes travel as bits, b of them to a word.
"""

from microtome.kernels.binary_hash.codes import hamming, hash_codes, hash_words, inner_products, pack, signs, unpack
from microtome.kernels.binary_hash.linear_form import hashed_attention, hashed_pattern, reference

__all__ = [
    "hamming",
    "hash_codes",
    "hash_words",
    "hashed_attention",
    "hashed_pattern",
    "inner_products",
    "pack",
    "reference",
    "signs",
    "unpack",
]
