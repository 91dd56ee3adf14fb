"""Relative linear attention by transform beside its n × n weights, and hashed attention's linear form beside both its
quadratic form and softmax attention; forward passes on this machine, a ratio below 1 is a gain.

Run: python benchmarks/codes_and_transforms.py [longest]
"""

import sys

import torch
import torch.nn.functional as F
from timing import machine, medians

from microtome.kernels.binary_hash import hashed_attention, hashed_pattern, signs
from microtome.kernels.toeplitz_product import relative_linear_attention, relative_linear_pattern

HEADS, WIDTH, FEATURES, BITS = 2, 32, 32, 16


def main(longest: int) -> None:
    print(f"{HEADS} heads of {WIDTH}, {FEATURES} features, {BITS} bits; {machine()}")
    generator = torch.Generator().manual_seed(0)
    n = 512
    while n <= longest:
        phi_q, phi_k = torch.rand(2, 1, HEADS, n, FEATURES, generator=generator)
        v = torch.randn(1, HEADS, n, WIDTH, generator=generator)
        b = torch.randn(HEADS, 2 * n - 1, generator=generator)
        h = signs(torch.randn(1, HEADS, n, BITS, generator=generator))
        ms = medians(
            {
                "transform": lambda q=phi_q, k=phi_k, v=v, b=b: relative_linear_attention(q, k, v, b),
                "n × n": lambda q=phi_q, k=phi_k, v=v, b=b: relative_linear_pattern(q, k, b) @ v,
                "codes": lambda h=h, v=v: hashed_attention(h, v, BITS + 1),
                "codes, n × n": lambda h=h, v=v: hashed_pattern(h, BITS + 1) @ v,
                "softmax": lambda v=v: F.scaled_dot_product_attention(v, v, v),
            },
            rounds=5,
            calls=1,
        )
        print(
            f"n={n}: transform {ms['transform']:.1f} ms ({ms['transform'] / ms['n × n']:.2f}x of n × n weights); "
            f"codes {ms['codes']:.2f} ms ({ms['codes'] / ms['codes, n × n']:.3f}x of n × n weights, "
            f"{ms['codes'] / ms['softmax']:.3f}x of softmax attention)",
            flush=True,
        )
        n *= 2


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 8192)
