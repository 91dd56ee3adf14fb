"""Garg et al.'s curriculum: short prompts in few dimensions first.

Source: Garg, Tsipras, Liang and Valiant (2022), "What Can Transformers Learn In-Context? A Case Study of Simple
Function Classes", appendix A.2: both numbers start small and grow by a fixed increment at fixed intervals.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Ramp:
    """An integer that grows from `start` to `end` by `increment` every `interval` steps.

    Raises:
        ValueError: if start < 1, end < start, increment < 1 or interval < 1.
    """

    start: int
    end: int
    increment: int = 1
    interval: int = 2000

    def __post_init__(self):
        if not 1 <= self.start <= self.end:
            raise ValueError(f"a ramp needs 1 ≤ start ≤ end, not start={self.start}, end={self.end}.")
        if self.increment < 1 or self.interval < 1:
            raise ValueError(
                f"a ramp needs increment ≥ 1 and interval ≥ 1, not increment={self.increment} and "
                f"interval={self.interval}."
            )

    def at(self, step: int) -> int:
        """The value at a step; it depends on nothing else."""
        return min(self.start + self.increment * (step // self.interval), self.end)


@dataclass(frozen=True)
class Curriculum:
    """How many coordinates of x are non-zero, and how many points a prompt has, as the run goes on.

    The paper's values for linear regression in 20 dimensions are `Ramp(5, 20, 1, 2000)` and
    `Ramp(11, 41, 2, 2000)`.
    """

    dims: Ramp
    points: Ramp
