"""Row entropy: time and memory as the sequence grows, and what it costs beside attention itself.

First every length in a fresh process, where the high-water mark of resident memory is the measure (8 heads of width 64,
batch 1), blockwise beside the n×n way; the slope is that of a line through log memory over log n. Then the paths at
n = 2048 beside torch's fused attention. Run: python benchmarks/entropy_kernel.py
"""

import resource
import subprocess
import sys
import time

import numpy as np
import torch
from timing import machine, medians
from torch.nn.functional import scaled_dot_product_attention

from microtome.kernels import softmax

HEADS, D_HEAD = 8, 64
LENGTHS = (512, 1024, 2048, 4096, 8192, 16384)
LONGEST_NAIVE = 4096  # 1 GiB; four times as much at the next


def draw(n: int, how_many: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(n)
    return [torch.randn(1, HEADS, n, D_HEAD, generator=generator) for _ in range(how_many)]


def naive(q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    return torch.special.entr((q @ k.mT / D_HEAD**0.5).softmax(-1)).sum(-1)


def high_water() -> float:
    """MiB of resident memory at its highest so far."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def filled_to_high_water() -> list[torch.Tensor]:
    """Ballast that lifts resident memory to its high-water mark, so that whatever comes on top is seen."""
    ballast, mark = [], high_water()
    while high_water() < mark + 1:
        ballast.append(torch.ones(1 << 16))
    return ballast


@torch.no_grad()
def measure_one(way: str, n: int) -> None:
    """Prints extra MiB and milliseconds of one call, in a process of its own."""
    run = {"blockwise": softmax.row_entropy, "naive": naive}[way]
    run(*draw(64, 2))
    q, k = draw(n, 2)
    ballast = filled_to_high_water()
    before = high_water()
    run(q, k)
    extra = high_water() - before
    del ballast
    times = []
    for _ in range(3):
        start = time.perf_counter()
        run(q, k)
        times.append(1e3 * (time.perf_counter() - start))
    print(extra, min(times))


def in_fresh_process(way: str, n: int) -> tuple[float, float]:
    out = subprocess.run([sys.executable, __file__, way, str(n)], capture_output=True, text=True, check=True).stdout
    extra, milliseconds = map(float, out.split())
    return extra, milliseconds


def growth() -> None:
    print(f"row entropy, {HEADS} heads of width {D_HEAD}, batch 1, float32; {machine()}")
    memory: dict[str, dict[int, float]] = {"blockwise": {}, "naive": {}}
    for n in LENGTHS:
        line = f"n={n:>6}:"
        for way, extra in memory.items():
            if way == "blockwise" or n <= LONGEST_NAIVE:
                extra[n], milliseconds = in_fresh_process(way, n)
                line += f"  {way} {milliseconds:9.2f} ms {extra[n]:9.2f} MiB extra"
        print(line, flush=True)
    for way, extra in memory.items():
        slope = np.polyfit(np.log(list(extra)), np.log(list(extra.values())), 1)[0]
        print(f"memory of {way} grows as n to the power {slope:.2f}")


@torch.no_grad()
def beside_attention(causal: bool, n: int = 2048) -> None:
    q, k, v = draw(n, 3)
    bias = torch.randn(HEADS, n, n, generator=torch.Generator().manual_seed(0))
    ms = medians(
        {
            "torch sdpa": lambda: scaled_dot_product_attention(q, k, v, is_causal=causal),
            "row_entropy": lambda: softmax.row_entropy(q, k, causal=causal),
            "row_entropy with bias": lambda: softmax.row_entropy(q, k, bias=bias, causal=causal),
            "attention_with_entropy": lambda: softmax.attention_with_entropy(q, k, v, causal=causal),
        },
        rounds=7,
        calls=1,
    )
    ratios = ", ".join(f"{name} {t:.1f} ms ({t / ms['torch sdpa']:.2f}x)" for name, t in ms.items())
    print(f"n={n}, {'causal' if causal else 'bidirectional'}: {ratios}", flush=True)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        measure_one(sys.argv[1], int(sys.argv[2]))
    else:
        growth()
        beside_attention(causal=False)
        beside_attention(causal=True)
