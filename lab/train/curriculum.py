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
    """How large a task is, and how many points a prompt has, as the run goes on.

    Attributes:
        dims: how many coordinates of x are non-zero; for a task with another `full_size`, as Fourier series have in
            their frequencies, that.
        points: pairs a prompt.
    """

    dims: Ramp
    points: Ramp


def over_coordinates(dim: int = 20) -> Curriculum:
    """The published one for functions of d = 20 coordinates: 5 → d of them and 11 → 2d + 1 points in the same steps.

    Raises:
        ValueError: if dim is below 5.
    """
    return Curriculum(Ramp(5, dim), Ramp(11, 2 * dim + 1, 2))


def over_frequencies(frequencies: int = 10) -> Curriculum:
    """The published one for Fourier series: 1 → N frequencies and 7 → 4N + 3 points in the same steps.

    (Panwar, Ahuja & Goyal 2024, icl_bayesian_prism.)

    Raises:
        ValueError: if there is no frequency.
    """
    return Curriculum(Ramp(1, frequencies), Ramp(7, 4 * frequencies + 3, 4))
