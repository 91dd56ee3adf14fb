"""Learning-rate schedules as pure functions of the step."""

import math

SCHEDULES = ("constant", "linear", "cosine", "inverse_sqrt")


def factor(step: int, steps: int, warmup: float, schedule: str) -> float:
    """What the peak learning rate is multiplied by at a step, in (0, 1].

    Linear warm-up over the first `warmup` fraction of the steps, from 1/W at step 0 to 1 at step W − 1; after
    that constant at 1, or falling from 1 to 0 (which is reached one step after the last) along a line or half
    a cosine, or as √(W/t) at the t-th step, whatever the run's length (Vaswani et al. 2017, equation 3).

    Args:
        step: 0 … steps − 1.
        steps: length of the run.
        warmup: fraction of the run, in [0, 1].
        schedule: one of `SCHEDULES`.
    """
    warm = round(warmup * steps)
    if step < warm:
        return (step + 1) / warm
    if schedule == "constant":
        return 1.0
    if schedule == "inverse_sqrt":
        return math.sqrt(max(warm, 1) / (step + 1))
    done = (step - warm) / (steps - warm)
    return 1.0 - done if schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * done))
