"""How the benchmarks measure: contestants take turns in one process, so that a drift of the machine meets them all."""

import platform
import time
from collections.abc import Callable, Mapping

import torch


def medians(contestants: Mapping[str, Callable[[], object]], *, rounds: int = 15, calls: int = 3) -> dict[str, float]:
    """Median milliseconds a call of each contestant, over rounds in which each runs `calls` times in turn."""
    for run in contestants.values():
        for _ in range(3):
            run()
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, run in contestants.items():
            start = time.perf_counter()
            for _ in range(calls):
                run()
            times[name].append(1e3 * (time.perf_counter() - start) / calls)
    return {name: sorted(t)[len(t) // 2] for name, t in times.items()}


def machine() -> str:
    """One line that says where the figures come from."""
    return (
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, {platform.machine()}, "
        f"{'CUDA' if torch.cuda.is_available() else 'no GPU'}"
    )
