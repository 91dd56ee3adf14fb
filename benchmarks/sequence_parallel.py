"""Sequence-parallel attention, forward and backward: P processes of one thread each beside one process of P threads.

    python benchmarks/sequence_parallel.py [--length 8192] [--workers 1 2]

Both sides have the same number of threads in all. Prints milliseconds and the ratio of the two for each P, with the
bytes that a worker sends; torch's own attention is what one process runs.
"""

import argparse
import time

import torch
import torch.distributed as dist
import torch.nn.functional as F
from timing import machine, medians

from microtome.kernels.long_sequence_unified import Ring, processes, ring_attention, shares

HEADS, D_HEAD, ROUNDS = 4, 64, 5


def inputs(length: int) -> list[torch.Tensor]:
    """q, k and v of one sequence."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(1, HEADS, length, D_HEAD, generator=generator).requires_grad_() for _ in range(3)]


def one_worker(ring: Ring, length: int) -> tuple[float, int]:
    """Median milliseconds of a forward and a backward pass, and the bytes sent in one."""
    sizes, times = shares(length, ring.workers), []
    q, k, v = inputs(sizes[ring.rank])
    for _ in range(ROUNDS + 1):
        dist.barrier()
        start = time.perf_counter()
        ring_attention(q, k, v, ring=ring, sizes=sizes).sum().backward()
        times.append(1e3 * (time.perf_counter() - start))
    sent = (ring.traffic.forward.bytes + ring.traffic.backward.bytes) // len(times)
    return sorted(times[1:])[ROUNDS // 2], sent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--length", type=int, default=8192)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    chosen = parser.parse_args()
    print(machine())
    print(f"L = {chosen.length}, {HEADS} heads of {D_HEAD}, forward and backward")
    q, k, v = inputs(chosen.length)
    for workers in chosen.workers:
        torch.set_num_threads(workers)
        whole = {"one process": lambda: F.scaled_dot_product_attention(q, k, v).sum().backward()}
        alone = medians(whole, rounds=ROUNDS, calls=1)["one process"]
        results = processes.run(workers, one_worker, chosen.length)
        ring = max(milliseconds for milliseconds, _ in results)
        print(
            f"P = {workers}: {ring:.1f} ms, one process of {workers} threads {alone:.1f} ms, ratio {alone / ring:.2f}, "
            f"{results[0][1] / 2**20:.1f} MiB sent by worker 0"
        )


if __name__ == "__main__":
    main()
