"""Blockwise attention beside torch's fused attention on the CPU: time forward and backward, and peak memory.

Softmax with its row entropy and log-normaliser, sigmoid and power weights, all over tiles, as ratios to
scaled_dot_product_attention taken in one run; then the peak of resident memory of each at the longest length in a fresh
process, beside the naive way's n×n scores. Run: python benchmarks/blockwise.py [length …]
"""

import subprocess
import sys

import torch
from entropy_kernel import filled_to_high_water, high_water
from timing import machine, medians
from torch.nn.functional import scaled_dot_product_attention

from microtome.kernels import power_softmax, sigmoid_attention, softmax
from microtome.kernels.power_softmax import PowerSoftmax

HEADS, D_HEAD = 8, 64
LENGTHS, LONGEST = (1024, 2048, 4096), 16_384
WAYS = {
    "torch sdpa": lambda q, k, v: scaled_dot_product_attention(q, k, v, is_causal=True),
    "softmax with entropy": lambda q, k, v: softmax.attention_with_entropy(q, k, v, causal=True)[0],
    "sigmoid": lambda q, k, v: sigmoid_attention.attention(q, k, v, b=-8.0, causal=True),
    "power": lambda q, k, v: power_softmax.attention(q, k, v, PowerSoftmax(), causal=True),
}


def draw(n: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(n)
    return [torch.randn(1, HEADS, n, D_HEAD, generator=generator).requires_grad_() for _ in range(3)]


def both_ways(way: str, inputs: list[torch.Tensor]) -> None:
    """Forward and backward; gradients are thrown away."""
    torch.autograd.grad(WAYS[way](*inputs).sum(), inputs)


@torch.no_grad()
def one_way(way: str, inputs: list[torch.Tensor]) -> None:
    WAYS[way](*inputs)


def compare(n: int) -> None:
    inputs = draw(n)
    for direction, run in (("forward", one_way), ("forward and backward", both_ways)):
        calls = {way: (lambda run=run, way=way: run(way, inputs)) for way in WAYS}
        ms = medians(calls, rounds=5, calls=1)
        line = ", ".join(f"{way} {t:.1f} ms ({t / ms['torch sdpa']:.2f}x)" for way, t in ms.items())
        print(f"n={n:>6} causal, {direction}: {line}", flush=True)


def measure_one(way: str, n: int) -> None:
    """Prints the extra MiB of one forward and backward pass, in a process of its own."""
    both_ways(way, draw(64))
    inputs = draw(n)
    ballast = filled_to_high_water()
    before = high_water()
    both_ways(way, inputs)
    print(high_water() - before)
    del ballast


def memory(n: int) -> None:
    naive = HEADS * n * n * 4 / 2**20
    print(f"n={n:>6} peak above inputs, one forward and backward pass; one n×n table of scores is {naive:.0f} MiB:")
    for way in WAYS:
        done = subprocess.run(
            [sys.executable, __file__, "one", way, str(n)], capture_output=True, text=True, check=True
        )
        extra = float(done.stdout)
        print(f"  {way:<22} {extra:8.1f} MiB ({100 * extra / naive:.2f} % of that table)", flush=True)


def main() -> None:
    lengths = tuple(map(int, sys.argv[1:])) or LENGTHS
    print(f"{HEADS} heads of width {D_HEAD}, batch 1, float32; {machine()}")
    for n in lengths:
        compare(n)
    memory(LONGEST if len(sys.argv) == 1 else max(lengths))


if __name__ == "__main__":
    if sys.argv[1:2] == ["one"]:
        measure_one(sys.argv[2], int(sys.argv[3]))
    else:
        main()
