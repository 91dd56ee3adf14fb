"""The peak of the memory that a computation holds, as torch's own allocator counts it on the CPU."""

import os
from collections.abc import Callable
from itertools import accumulate
from typing import Any

from torch.profiler import ProfilerActivity, profile


def peak_bytes(compute: Callable[[], Any]) -> int:
    """The most bytes held at one moment by tensors and workspaces made since `compute` began, its result included.

    What was there before, such as parameters, does not count. The profiler notes every allocation and release of the
    CPU allocator, those inside of operators too; allocations on other devices are not seen.
    """
    # Kineto announces its start and stop on standard error otherwise.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        held = compute()
    del held
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    # Equal times keep their order, which is that of the events.
    changes = (event.nbytes() for event in sorted(events, key=lambda event: event.start_ns()))
    return max(accumulate(changes, initial=0))
