"""A million hypotheses and a thousand prompts: seconds and memory of the exact answers to Boolean functions.

Ours: 2²⁰ parities of 20 bits and 3¹² conjunctions by bit sets, 3²⁸ conjunctions by inclusion and exclusion. The peer
does what one would write first: for every prompt and hypothesis, the labels at all points and a running test of
agreement, in numpy, a hypothesis at a time. It runs on a small part of hypotheses and prompts and is scaled by both, in
which its time is linear. Peak memory is that of the process above what it held before, each in a process of its own.
Run: python benchmarks/boolean_enumeration.py
"""

import multiprocessing
import resource
import time
from collections.abc import Callable

import numpy as np
import torch
from timing import machine

from microtome.lab.bayes.boolean import Enumeration, Literals, conjunctions, parities
from microtome.lab.tasks import Task
from microtome.lab.tasks.boolean import Conjunction, Parity

PROMPTS, POINTS = 1000, 40
PEER_PROMPTS, PEER_HYPOTHESES = 2, 4000

CASES: dict[str, tuple[Task, Callable[[], object], float]] = {
    "2^20 parities": (Parity(20), lambda: Enumeration(parities(20)), 2**20),
    "3^12 conjunctions": (Conjunction(12), lambda: Enumeration(conjunctions(Literals(12), 0.3)), 3**12),
    "3^28 conjunctions": (Conjunction(28), lambda: Conjunction(28).bayes(), 3**28),
}


def loop(w: np.ndarray, xs: np.ndarray, ys: np.ndarray, parity: bool) -> np.ndarray:
    """P(+1) − P(−1) under a uniform prior, [prompt point]: a loop over prompts and over hypotheses."""
    means = np.zeros(ys.shape)
    for b, (x, y) in enumerate(zip(xs, ys, strict=True)):
        alive, plus = np.zeros(len(y)), np.zeros(len(y))
        for h in w:
            value = 2 * ((x > 0) @ h % 2) - 1 if parity else np.where(x @ h > np.abs(h).sum() - 1, 1, -1)
            agrees = np.concatenate([[True], np.logical_and.accumulate(value == y)[:-1]])
            alive += agrees
            plus += agrees * (value > 0)
        means[b] = 2 * plus / np.maximum(alive, 1) - 1
    return means


def peak() -> float:
    """Peak memory of this process in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def ours(name: str) -> tuple[float, float, float]:
    """Seconds to set up, seconds for the prompts, and MB above what was held before."""
    task, make, _ = CASES[name]
    prompt = task.sample(PROMPTS, POINTS, torch.Generator().manual_seed(0))
    before, start = peak(), time.perf_counter()
    predictor = make()
    built = time.perf_counter()
    predictor.predict(prompt.xs, prompt.ys)
    return built - start, time.perf_counter() - built, peak() - before


def peer(name: str) -> float:
    """Seconds of the loop, scaled to all hypotheses and prompts."""
    task, _, hypotheses = CASES[name]
    prompt = task.sample(PEER_PROMPTS, POINTS, torch.Generator().manual_seed(0))
    parity = isinstance(task, Parity)
    rng = np.random.default_rng(0)
    w = rng.integers(0 if parity else -1, 2, (PEER_HYPOTHESES, task.dim))
    start = time.perf_counter()
    loop(w, prompt.xs.numpy(), prompt.ys.numpy(), parity)
    taken = time.perf_counter() - start
    return taken * hypotheses / PEER_HYPOTHESES * PROMPTS / PEER_PROMPTS


def check() -> float:
    """The largest difference between ours and the loop on a class small enough for both."""
    prompt = Parity(6).sample(20, 12, torch.Generator().manual_seed(1), dtype=torch.float64)
    w = (np.arange(64)[:, None] >> np.arange(6)) & 1
    looped = loop(w, prompt.xs.numpy(), prompt.ys.numpy(), parity=True)
    return float(np.abs(looped - Enumeration(parities(6)).predict(prompt.xs, prompt.ys).mean.numpy()).max())


def main() -> None:
    torch.set_num_threads(1)
    print(f"{PROMPTS:,} prompts of {POINTS} points; {machine()}; largest difference from the loop {check():.1e}")
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for name in CASES:
            built, taken, memory = pool.apply(ours, (name,))
            scaled = pool.apply(peer, (name,))
            print(
                f"{name:18s} set up {built:5.2f} s, answers {taken:6.2f} s, peak {memory:5.0f} MB more; "
                f"loop {scaled:.3g} s (scaled), {scaled / (built + taken):.3g} times as long"
            )


if __name__ == "__main__":
    main()
