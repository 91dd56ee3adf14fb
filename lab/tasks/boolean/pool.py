"""A finite pool of prompts to draw from again and again, where training otherwise meets fresh functions.

Source: Bhattamishra et al. (2024, icl_boolean), who ask whether a learner of few functions learns the class. A pool
there fixes the inputs with the functions, and so it does here.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch

from microtome.lab.bayes.boolean.memory import Memory
from microtome.lab.tasks.boolean.protocol import BooleanTask
from microtome.lab.tasks.draw import Draw
from microtome.lab.tasks.protocol import Prompt, Task, check_sizes


@dataclass(frozen=True)
class PromptPool(Task):
    """Prompts from a pool of `size`, each alike and independent; the pool is drawn from `task` with a seed of its own.

    Attributes:
        task: what the pool was drawn from.
        size: prompts in the pool, at least 1.
        points: of every prompt in it; shorter samples are their beginnings.
        seed: decides the pool.

    Raises:
        ValueError: if size or points is below 1.
    """

    signs: ClassVar[bool] = True
    task: BooleanTask
    size: int
    points: int
    seed: int = 0

    def __post_init__(self):
        check_sizes(size=self.size, points=self.points)

    @property
    def dim(self) -> int:
        return self.task.dim

    @cached_property
    def prompts(self) -> Prompt:
        """The pool, on the CPU and in float32."""
        return self.task.sample(self.size, self.points, torch.Generator().manual_seed(self.seed))

    def bayes(self) -> Memory:
        """The exact posterior predictive: which prompts of the pool begin like this one?"""
        return Memory(self.prompts.xs, self.prompts.ys)

    def _prompt(self, batch: int, points: int, draw: Draw) -> Prompt:
        """Latents: "member" [batch pool], true at the prompt that was drawn."""
        if points > self.points:
            raise ValueError(f"the prompts of this pool have {self.points} points, fewer than {points}.")
        member = draw.subsets(batch, self.size, 1)
        which = member.int().argmax(1).cpu()
        xs, ys = (t[which, :points].to(member.device, draw.dtype) for t in (self.prompts.xs, self.prompts.ys))
        return Prompt(xs, ys, {"member": member})
