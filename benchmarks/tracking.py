"""What entropy tracking every 10 steps adds to training time. Run: python benchmarks/tracking.py

The same run of `train` with and without an EntropyTracker, in turns; prints the added share for both sizes of learner.
"""

import statistics
import tempfile
import time
from pathlib import Path

from timing import machine

from microtome.lab import zoo
from microtome.lab.tasks import LinearRegression
from microtome.lab.train import InContextRegression, TrainConfig, train
from microtome.probes import EntropyTracker

SIZES = [{"d_model": 64, "n_layers": 3, "n_heads": 2}, {"d_model": 128, "n_layers": 6, "n_heads": 2}]


def seconds(size: dict, tracked: bool, steps: int) -> float:
    """Time of one run of `train`, set-up left out."""
    model = zoo.sequence(dim=20, n_ctx=82, **size)
    callbacks = [EntropyTracker(model, every=10)] if tracked else []
    objective = InContextRegression(LinearRegression(20), batch=64, points=41)
    config = TrainConfig(steps=steps, lr=1e-4, log_every=100, checkpoint_every=steps)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        train(model, objective, config, Path(folder) / "run", callbacks=callbacks, progress=False)
        return time.perf_counter() - start


def main() -> None:
    print(f"entropy tracking every 10 steps, batch 64, 82 positions; {machine()}")
    for size in SIZES:
        steps = 100 if size["d_model"] == 64 else 40
        seconds(size, True, 10)
        pairs = [(seconds(size, False, steps), seconds(size, True, steps)) for _ in range(7)]
        plain, tracked = (statistics.median(column) for column in zip(*pairs, strict=True))
        ratios = sorted(t / p for p, t in pairs)
        shape = ", ".join(f"{k}={v}" for k, v in size.items())
        print(
            f"{shape}: {1e3 * plain / steps:.1f} ms a step plain, {1e3 * tracked / steps:.1f} ms tracked, "
            f"{statistics.median(ratios) - 1:+.1%} "
            f"(median of 7 pairs, from {ratios[0] - 1:+.1%} to {ratios[-1] - 1:+.1%})"
        )


if __name__ == "__main__":
    main()
