"""Prompts of linear regression with the exact answer for every prefix, beside the ways one would write first.

10,000 prompts of 41 points in 20 dimensions; the answer is mean and variance of every label given the pairs before it.
Peers: numpy, a loop over prompts and prefixes with one solve in each (a pseudo-inverse without noise); and torch, a
loop over prefixes only, each solved for all prompts at once. The peers run on a part of the prompts and their time is
scaled by the number of prompts, in which it is linear; generation of the prompts is in every figure. All agree to the
printed difference. Run: python benchmarks/bayes_prefixes.py
"""

import time
from collections.abc import Callable

import numpy as np
import torch
from timing import machine

from microtome.lab.tasks import LinearRegression

PROMPTS, POINTS, DIM = 10_000, 41, 20
PEER_PROMPTS = {"loop over prompts and prefixes": 100, "loop over prefixes": 1000}
ROUNDS = 5

Answers = tuple[np.ndarray, np.ndarray]


def loop_over_prompts_and_prefixes(xs: np.ndarray, ys: np.ndarray, noise: float) -> Answers:
    """Mean and variance of every label of every prompt, for τ = 1."""
    mean, variance = np.zeros_like(ys), np.zeros_like(ys)
    ridge = noise**2 * np.eye(xs.shape[2])
    for b in range(len(xs)):
        for k in range(xs.shape[1]):
            x, y, query = xs[b, :k], ys[b, :k], xs[b, k]
            if noise > 0:
                w, u = np.linalg.solve(x.T @ x + ridge, np.stack([x.T @ y, query], axis=1)).T
                mean[b, k], variance[b, k] = w @ query, noise**2 * (1 + u @ query)
            else:
                inverse = np.linalg.pinv(x)
                outside = query - inverse @ (x @ query)
                mean[b, k], variance[b, k] = inverse @ y @ query, outside @ outside
    return mean, variance


def loop_over_prefixes(xs: torch.Tensor, ys: torch.Tensor, noise: float) -> Answers:
    """The same with torch, all prompts in one solve for each prefix."""
    mean, variance = torch.zeros_like(ys), torch.zeros_like(ys)
    ridge = noise**2 * torch.eye(xs.shape[2], dtype=xs.dtype)
    for k in range(xs.shape[1]):
        x, y, query = xs[:, :k], ys[:, :k, None], xs[:, k, :, None]
        if noise > 0:
            solved = torch.linalg.solve(x.mT @ x + ridge, torch.cat([x.mT @ y, query], dim=2))
            products = (solved * query).sum(1)
            mean[:, k], variance[:, k] = products[:, 0], noise**2 * (1 + products[:, 1])
        else:
            inverse = torch.linalg.pinv(x)
            outside = query - inverse @ (x @ query)
            mean[:, k] = (inverse @ y * query).sum((1, 2))
            variance[:, k] = outside.square().sum((1, 2))
    return mean.numpy(), variance.numpy()


def draw_one_by_one(rng: np.random.Generator, prompts: int, noise: float) -> tuple[np.ndarray, np.ndarray]:
    xs, ys = np.empty((prompts, POINTS, DIM)), np.empty((prompts, POINTS))
    for b in range(prompts):
        xs[b] = rng.standard_normal((POINTS, DIM))
        ys[b] = xs[b] @ rng.standard_normal(DIM) + noise * rng.standard_normal(POINTS)
    return xs, ys


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def compare(noise: float) -> None:
    task, generator, rng = LinearRegression(DIM, noise), torch.Generator().manual_seed(0), np.random.default_rng(0)

    def sample(prompts: int):
        return task.sample(prompts, POINTS, generator, dtype=torch.float64)

    def ours() -> None:
        prompt = sample(PROMPTS)
        task.bayes().predict(prompt.xs, prompt.ys)

    def numpy_loop() -> None:
        loop_over_prompts_and_prefixes(
            *draw_one_by_one(rng, PEER_PROMPTS["loop over prompts and prefixes"], noise), noise
        )

    def torch_loop() -> None:
        prompt = sample(PEER_PROMPTS["loop over prefixes"])
        loop_over_prefixes(prompt.xs, prompt.ys, noise)

    few = sample(20)
    exact = task.bayes().predict(few.xs, few.ys)
    peers = (
        loop_over_prompts_and_prefixes(few.xs.numpy(), few.ys.numpy(), noise),
        loop_over_prefixes(few.xs, few.ys, noise),
    )
    apart = max(
        np.abs(ours_ - theirs).max()
        for peer in peers
        for ours_, theirs in zip((exact.mean.numpy(), exact.variance.numpy()), peer, strict=True)
    )
    runs = {"microtome": ours, "loop over prompts and prefixes": numpy_loop, "loop over prefixes": torch_loop}
    times = {name: [] for name in runs}
    for _ in range(ROUNDS):
        for name, run in runs.items():
            times[name].append(seconds(run) * PROMPTS / PEER_PROMPTS.get(name, PROMPTS))
    medians = {name: sorted(taken)[ROUNDS // 2] for name, taken in times.items()}
    print(f"noise {noise:g}; largest difference between the answers {apart:.1e}")
    for name, taken in medians.items():
        part = f" (scaled from {PEER_PROMPTS[name]:,} prompts)" if name in PEER_PROMPTS else ""
        print(f"  {name:32s} {taken:8.2f} s  {taken / medians['microtome']:6.1f} x{part}")


def main() -> None:
    print(f"{PROMPTS:,} prompts, {POINTS} points, {DIM} dimensions; median of {ROUNDS} rounds in turn; {machine()}")
    for noise in (0.5, 0.0):
        compare(noise)


if __name__ == "__main__":
    main()
